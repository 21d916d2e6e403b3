"""Runs as whoever looks at them sees them: what a Role lets be seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any

import httpx2
import pytest

from jobyard.engine import face
from jobyard.engine.clock import SystemClock
from jobyard.model.errors import Forbidden
from tests.unit.samples import job_record, request
from tests.unit.test_client import Serve, client

CLOCK = SystemClock()
LIST = {"metadata": {"resourceVersion": "1"}, "items": []}


def without(*plurals: str, continued: Collection[str] = ()) -> Serve:
    """An API server that lets us see nothing of some kinds, and has no objects of the others; `continued`: what says at first that it has more."""

    async def serve(request: httpx2.Request) -> httpx2.Response:
        plural = request.url.path.rsplit("/", 1)[-1]
        if plural in continued and "continue" not in request.url.params:
            return httpx2.Response(200, json={**LIST, "metadata": {"resourceVersion": "1", "continue": "more"}})
        if plural in plurals:
            return httpx2.Response(403, json={"reason": "Forbidden", "message": f"{plural} is forbidden"})
        return httpx2.Response(200, json=LIST)

    return serve


async def test_runs_that_we_may_not_see_are_an_error_and_no_empty_list() -> None:
    for forbidden in (("jobs",), ("jobs", "configmaps")):
        async with client(without(*forbidden)) as cluster:
            with pytest.raises(Forbidden, match="the cluster does not allow us to list jobs: jobs is forbidden") as told:
                await face.page(cluster, CLOCK, "n")
    assert told.value.exit_code == 3


async def test_config_maps_that_we_may_not_see_are_left_out() -> None:
    async with client(without("configmaps")) as cluster:
        assert await face.page(cluster, CLOCK, "n") == face.Page(runs=())


async def test_a_right_that_is_taken_away_between_two_pages_ends_the_list_of_that_kind() -> None:
    async with client(without("configmaps", continued=["configmaps"])) as cluster:
        async with asyncio.timeout(10):
            assert await face.page(cluster, CLOCK, "n") == face.Page(runs=())
