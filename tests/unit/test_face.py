"""Runs as whoever looks at them sees them: what a Role lets be seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any

import pytest

from jobyard.cluster.transport import Answer
from jobyard.contracts import Page
from jobyard.engine import face, job_home
from jobyard.engine.clock import SystemClock
from jobyard.model.errors import Forbidden, NoSuchPage, WrongInput
from tests.in_process import Asked, Serve, answer, client
from tests.unit import samples

CLOCK = SystemClock()
ASKED = samples.request()
ONE = samples.served(job_home.write_job(ASKED, ASKED.run_id) or {}, "job")
LIST = {"metadata": {"resourceVersion": "1"}, "items": []}


def without(*plurals: str, continued: Collection[str] = ()) -> Serve:
    """An API server that lets us see nothing of some kinds, and has no objects of the others; `continued`: what says at first that it has more."""

    async def serve(request: Asked) -> Answer:
        plural = request.path.rsplit("/", 1)[-1]
        if plural in continued and "continue" not in request.params:
            return answer(200, {**LIST, "metadata": {"resourceVersion": "1", "continue": "more"}})
        if plural in plurals:
            return answer(403, {"reason": "Forbidden", "message": f"{plural} is forbidden"})
        return answer(200, LIST)

    return serve


async def test_runs_that_we_may_not_see_are_an_error_and_no_empty_list() -> None:
    for forbidden in (("jobs",), ("jobs", "configmaps")):
        cluster = client(without(*forbidden))
        with pytest.raises(Forbidden, match="the cluster does not allow Jobyard to list jobs: jobs is forbidden") as told:
            await face.page(cluster, CLOCK, "n")
    assert told.value.exit_code == 3


async def test_config_maps_that_we_may_not_see_are_left_out() -> None:
    cluster = client(without("configmaps"))
    assert await face.page(cluster, CLOCK, "n") == Page(runs=())


async def test_a_right_that_is_taken_away_between_two_pages_ends_the_list_of_that_kind() -> None:
    cluster = client(without("configmaps", continued=["configmaps"]))
    async with asyncio.timeout(10):
        assert await face.page(cluster, CLOCK, "n") == Page(runs=())


GIVEN_OUT = {"part": "open", "kind": 1, "after": "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ==", "first": "2026-01-01"}
NEVER_GIVEN_OUT: list[Any] = [
    "garbage", "1", "null", "[]", "{}", "[" * 9000, '{"part":' * 1000, "\ud800", "x" * 100_000, json.dumps(GIVEN_OUT) + " " * 10_000,
    *({**GIVEN_OUT, "part": each} for each in ("", "never", "2025-01-01", 1, None, "open,x")),
    *({**GIVEN_OUT, "kind": each} for each in (-1, 2, 10**30, "0", True, 0.5, None)),
    *({**GIVEN_OUT, "after": each} for each in (1, None, ["x"], "ä", "\ud800", "a b", "a\n", "\0")),
    *({**GIVEN_OUT, "first": each} for each in ("", "0001-01-01", "9999-12-31", "2026-13-01", 20260101, None)),
    {**GIVEN_OUT, "more": 1},
]  # fmt: skip


@pytest.mark.parametrize("after", NEVER_GIVEN_OUT, ids=lambda each: str(each)[:60].encode("ascii", "replace").decode())
async def test_a_page_that_was_never_given_out_is_said_to_be_none(after: Any) -> None:
    cluster = client(without())
    with pytest.raises(NoSuchPage, match="start the list again"):
        await face.page(cluster, CLOCK, "n", after if isinstance(after, str) else json.dumps(after))
    assert issubclass(NoSuchPage, WrongInput)


async def test_a_page_goes_on_where_the_one_before_it_ended() -> None:
    asked: list[str] = []

    async def serve(request: Asked) -> Answer:
        asked.append(request.params.get("continue", ""))
        more = {"continue": "eyJ2=-_"} if request.path.endswith("jobs") and not asked[-1] else {}
        items = [ONE] if more else []
        return answer(200, {"metadata": {"resourceVersion": "1", **more}, "items": items})

    cluster = client(serve)
    first = await face.page(cluster, CLOCK, "n", size=1)
    assert (len(first.runs), bool(first.following)) == (1, True)
    following = await face.page(cluster, CLOCK, "n", first.following)
    assert (asked[:2], "eyJ2=-_" in asked) == (["", ""], True)
    assert following.following == ""
