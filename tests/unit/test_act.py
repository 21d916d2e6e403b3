"""What an actor does with a decision that the cluster has gone past."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from jobyard.contracts import Cluster
from jobyard.engine.act import Actor
from jobyard.engine.clock import SystemClock
from jobyard.engine.decision import Create, Delete
from jobyard.engine.ledger import Ledger
from jobyard.engine.limiter import Limiter
from jobyard.engine.rounds import Rounds
from jobyard.engine.sight import Sight
from jobyard.model.errors import Conflict
from jobyard.model.job import owner_reference
from jobyard.model.objects import Job, Kind, Manifest
from jobyard.model.run import Role
from tests.unit.samples import flow, job_record, manifest, map_record, request, served


class Server:
    def __init__(self) -> None:
        self.deleted: list[tuple[str, str]] = []

    async def delete(self, kind: Kind[Any], namespace: str, name: str, *, uid: str = "", version: str = "") -> None:
        self.deleted.append((name, uid))


async def test_of_the_jobs_of_a_run_that_is_over_only_those_that_are_seen_are_deleted() -> None:
    """One that went meanwhile has left its name to anybody."""
    server, clock, sight = Server(), SystemClock(), Sight()
    asked = request()
    run = sight.see(map_record(asked))
    assert run is not None
    tree: dict[str, Any] = {"metadata": {"name": "load", "ownerReferences": [owner_reference("etl", "record")]}}
    sight.see(msgspec.convert(served({**manifest(), **tree}, "mine"), Job))
    cluster = cast(Cluster, server)
    ledger, limiter = Ledger(cluster, clock, "n", sight), Limiter(cluster, clock, "n", sight)
    actor = Actor(cluster, clock, "n", sight, ledger, limiter, Rounds(), run, asked.workflow)
    await actor.act((Delete(jobs=("load", "gone")),))
    assert server.deleted == [("load", "mine")]


async def test_a_job_that_is_the_same_run_in_the_other_home_is_told_of_and_left_alone() -> None:
    """Two asked for the run in one moment, and one of them found room."""

    class Taken(Server):
        async def create(self, kind: Kind[Any], namespace: str, tree: Manifest) -> Job:
            raise Conflict(action="create", status=409, reason="AlreadyExists", message=tree["metadata"]["name"])

        async def get(self, kind: Kind[Any], namespace: str, name: str) -> Job:
            return job_record(asked)

    server, clock, sight = Taken(), SystemClock(), Sight()
    asked = request(workflow=flow(could_be_job=True))
    run = sight.see(map_record(asked))
    assert run is not None
    cluster = cast(Cluster, server)
    ledger, limiter = Ledger(cluster, clock, "n", sight), Limiter(cluster, clock, "n", sight)
    actor = Actor(cluster, clock, "n", sight, ledger, limiter, Rounds(), run, asked.workflow)
    await actor.act((Create(role=Role.STEP, step="s0", attempt=1),))
    (refusal,) = actor.refusals.values()
    assert refusal.until is None
    assert refusal.message.startswith(f"This run is Job {job_record(asked).metadata.name} already")
    assert server.deleted == []
