"""What came and went while a watch was away is noticed when it lists anew, also where only an answer to a call of ours had told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec

from jobyard.contracts import Change, Cluster, Inventory
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.engine.sight import Sight
from jobyard.model.errors import NotFound
from jobyard.model.objects import JOBS, PODS, Job, Kind, Manifest
from jobyard.model.run import Reason, State
from tests.faketime import in_fake_time
from tests.unit.samples import job_record, request, served


class Server:
    """Makes a Job, and has lost it before the watch that was away lists anew."""

    def __init__(self) -> None:
        self.made = asyncio.Event()

    async def create(self, kind: Kind[Any], namespace: str, tree: Manifest) -> Any:
        self.made.set()
        return msgspec.convert(served(tree, "job", 5), kind.struct)

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Any:
        raise NotFound(action="get", status=404, reason="NotFound", message=name)

    async def list(self, *_: Any, **__: Any) -> list[Any]:
        return []

    async def watch(self, kind: Kind[Any], namespace: str, **_: Any) -> AsyncIterator[Change[Any]]:
        yield Change("SYNCED", inventory=Inventory(uids=frozenset(), version="1"))
        await self.made.wait()
        await asyncio.sleep(1)
        yield Change("SYNCED", inventory=Inventory(uids=frozenset(), version="9"))
        await asyncio.get_running_loop().create_future()


def test_a_job_that_came_and_went_while_the_watch_was_away_is_lost() -> None:
    async def scene() -> None:
        async with open_engine(cast(Cluster, Server()), SystemClock(), "n") as engine, asyncio.timeout(60):
            run = await engine.submit(request("k", key_names_workflow=True))
            outcome = await engine.outcome(run)
        assert (outcome.state, outcome.reason) == (State.LOST, Reason.JOB_VANISHED)

    in_fake_time(scene())


def test_what_is_newer_than_the_list_or_of_another_kind_is_not_gone_by_it() -> None:
    sight = Sight()
    sight.see(job_record(request("old"), "old", 5))
    sight.see(job_record(request("listed"), "listed", 6))
    sight.see(job_record(request("new"), "new", 10))
    inventory = Inventory(uids=frozenset({"listed"}), version="9")
    assert sight.gone_by(JOBS, inventory) == ["old"]
    assert sight.gone_by(PODS, inventory) == []
    assert sight.gone_by(JOBS, Inventory(uids=frozenset(), version="no number")) == [], "nobody knows which is newer"
    assert all(isinstance(each, Job) for run in sight.runs.values() for each in run.everything())
