"""Why there is no log: said once, and never as if nothing had been written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from jobyard.cli.log_choice import LogOptions
from jobyard.cli.run_logs import print_tried
from jobyard.cluster.client import HttpCluster
from jobyard.engine.tries import Tried, Try
from jobyard.model.errors import Forbidden, JobyardError, NoAnswer, NotFound
from jobyard.service.options import TargetOptions
from jobyard.service.target import Target
from tests.unit.test_tries import pod

STATUS = {"name": "c", "state": {"terminated": {"exitCode": 0}}}
TRIED = Tried(name="j", job="j", tries=(Try(step="j", number=1, job="j", pods=(pod("p", "Succeeded", containerStatuses=[STATUS]),)),))
NO_RIGHT = Forbidden(action="read the log", status=403, reason="Forbidden", message="no", who="`u`")
HOOK = Forbidden(action="read the log", status=403, reason="Forbidden", message="a webhook says no")
AWAY = NoAnswer(what="the cluster did not answer")
GONE = NotFound(action="read the log", status=404, reason="NotFound", message="no such pod")


class Refuses:
    def __init__(self, error: JobyardError | None) -> None:
        self.error = error

    async def logs(self, *_: Any, **__: Any) -> AsyncIterator[str]:
        if self.error is not None:
            raise self.error
        return
        yield


async def printed(error: JobyardError | None, output: str) -> tuple[list[str], list[str], JobyardError | None]:
    target = Target(cluster=cast(HttpCluster, Refuses(error)), namespace="n", options=TargetOptions())
    said, told = list[str](), list[str]()
    try:
        await print_tried(target, TRIED, LogOptions(run="j", output=output), said.append, told.append)
    except JobyardError as raised:
        return said, told, raised
    return said, told, None


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize(("error", "raised"), [(NO_RIGHT, Forbidden), (HOOK, Forbidden), (AWAY, NoAnswer)])
async def test_a_log_that_is_refused_is_an_error_that_is_said_once(error: JobyardError, raised: type[JobyardError], output: str) -> None:
    said, told, why = await printed(error, output)
    assert (said, told, type(why)) == ([], [], raised)
    assert why is not None
    assert why.exit_code == 3


async def test_a_log_that_is_gone_is_not_one_in_which_nothing_was_written() -> None:
    assert await printed(GONE, "text") == ([], ["its log can't be had: not found: no such pod"], None)
    assert await printed(None, "text") == ([], ["Nothing was written."], None)
