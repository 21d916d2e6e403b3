"""Deletes what retention says may go: a run's record, and with it all that it owns."""

from __future__ import annotations

from datetime import datetime, timedelta

from jobyard.contracts import Clock, Cluster
from jobyard.engine import record as records
from jobyard.engine.observe import Sight
from jobyard.model import names
from jobyard.model.objects import CONFIG_MAPS, ConfigMap
from jobyard.model.retention import Candidate, expired


async def find_expired(cluster: Cluster, clock: Clock, namespace: str, default: timedelta | None, keep: int) -> dict[str, ConfigMap]:
    """The records of the runs that may go, the newest first."""
    sight = Sight()
    for found in await cluster.list(CONFIG_MAPS, namespace, labels=names.SELECTOR):
        sight.see(found)
    kept = [each for record in sight.records.values() if (each := _kept(record, sight)) is not None]
    return {run: sight.records[run] for run in expired(kept, default, keep, clock.now())}


async def sweep(cluster: Cluster, clock: Clock, namespace: str, default: timedelta | None = None, keep: int = 0) -> list[str]:
    """Deletes the runs that may go; says which. Safe to repeat, and to be cut short: a run goes as a whole, by its owner references."""
    going = await find_expired(cluster, clock, namespace, default, keep)
    for run, record in going.items():
        await cluster.delete(CONFIG_MAPS, namespace, run, uid=record.metadata.uid)
    return list(going)


def _kept(record: ConfigMap, sight: Sight) -> Candidate | None:
    workflow, end = sight.workflow(record.metadata.name), records.end(record)
    created: datetime | None = record.metadata.creation_timestamp
    if workflow is None or created is None:
        return None
    return Candidate(
        id=record.metadata.name,
        created=created,
        finished=(end.finished or created) if end else None,
        released=names.RELEASED in record.metadata.annotations,
        retention=workflow.retention,
    )
