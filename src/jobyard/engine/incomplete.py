"""Runs whose source died before all was there that their Jobs need, and did not come back: nothing of them ever ran, and they are taken away.

A source that lets go only when its run is whole submits the same again, which completes it. But a queue may be purged, a message may expire:
then a Job would wait for its Secret for ever, and have a place in every limit. Only runs that this very service began are looked at: nobody
else submits them, and it knows which of them it is about to complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from jobyard.contracts import Cluster
from jobyard.engine import home
from jobyard.engine.admission import Admission
from jobyard.engine.ledger import KINDS, Ledger, has_run
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.errors import Conflict, Forbidden, NotFound, Rejected, Unavailable
from jobyard.model.objects import Job, Kind, Other

log = logging.getLogger("jobyard.engine")

LATE = timedelta(minutes=1)
"""How long what a run needs may be missing."""


class Incomplete:
    """One namespace's part of it."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        sight: Sight,
        ledger: Ledger,
        admission: Admission,
        left: Callable[[RunSight | None], None],
        service: str,
    ) -> None:
        """`left`: is told of a run that is gone. `service`: whose runs are looked at; '' for none."""
        self._cluster = cluster
        self._namespace = namespace
        self._sight = sight
        self._ledger = ledger
        self._admission = admission
        self._left = left
        self._service = service
        self._whole: set[str] = set()
        """Records, by uid, beside which all is there."""
        self._noticed: dict[str, float] = {}
        """Since when another's lack was known, by record's uid and the event loop's clock: those of machines differ, and whoever made the record
        may be at it still."""

    async def delete_late(self) -> None:
        """Deletes them. What can't be asked just now is asked the next time."""
        there = {run.uid: run for run in self._sight.runs.values()}
        self._whole &= there.keys()
        self._noticed = {uid: since for uid, since in self._noticed.items() if uid in there}
        now = asyncio.get_running_loop().time()
        for uid, seen in there.items():
            turn = self._admission.turn(seen.id)
            if uid in self._whole or turn.locked() or not may_lack_something(seen, self._service):
                self._noticed.pop(uid, None)
            elif now - self._noticed.setdefault(uid, now) >= LATE.total_seconds():
                async with turn:
                    with contextlib.suppress(Rejected, Unavailable):
                        await self._see_to(seen)

    async def _see_to(self, seen: RunSight) -> None:
        if not await self._lacks_something(seen):
            self._whole.add(seen.uid)
        elif await self._ledger.delete_unused(seen.record):
            log.warning(
                "run %s in namespace %s is deleted: what its pods wait for was never made, and its source did not ask for it again within %d s",
                seen.record.metadata.name,
                self._namespace,
                LATE.total_seconds(),
            )
            self._left(seen)

    async def _lacks_something(self, seen: RunSight) -> bool:
        """Whether an object is not there that the run's record names. Raises what the cluster answers where that is not known."""
        if not isinstance(seen.record, Job):
            return True  # it says so itself
        for kind, name in _named(seen.record):
            try:
                await self._cluster.get(kind, self._namespace, name)
            except NotFound:
                return True
            except Forbidden:
                manifest = {"apiVersion": "v1", "kind": kind.name, "metadata": {"name": name}}
                with contextlib.suppress(Conflict):
                    await self._cluster.create(kind, self._namespace, manifest, dry_run=True)
                    return True
        return False


def may_lack_something(seen: RunSight, service: str) -> bool:
    """Whether a run is this service's and was perhaps never completed, as far as is seen."""
    metadata, record = seen.record.metadata, seen.record
    if not service or metadata.labels.get(names.SERVICE) != service or seen.is_gone or seen.is_leaving or seen.released:
        return False
    if isinstance(record, Job):
        return names.OBJECTS in metadata.annotations and not has_run(record) and home.end(record) is None
    return names.INCOMPLETE in metadata.annotations


def _named(record: Job) -> Iterator[tuple[Kind[Other], str]]:
    """What the record says that the run brought; no more than names of kinds that pods wait for, whoever wrote it."""
    for entry in record.metadata.annotations.get(names.OBJECTS, "").split(","):
        kind_name, _, name = entry.partition("/")
        kind = KINDS.get(("v1", kind_name))
        if kind is not None and names.is_object_name(name):
            yield kind, name
