"""What an actor does with a decision that the cluster has gone past."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from jobyard.contracts import Cluster
from jobyard.engine.act import Actor
from jobyard.engine.clock import SystemClock
from jobyard.engine.decision import Delete
from jobyard.engine.ledger import Ledger
from jobyard.engine.limiter import Limiter
from jobyard.engine.rounds import Rounds
from jobyard.engine.sight import Sight
from jobyard.model.job import owner_reference
from jobyard.model.objects import Job, Kind
from tests.unit.samples import manifest, map_record, request, served


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
