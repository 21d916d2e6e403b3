"""Whether somebody drives the runs of a namespace that nobody waits for: a service that leads there."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

from jobyard.contracts import Clock, Cluster
from jobyard.model.errors import Forbidden, NotFound
from jobyard.model.objects import LEASES, Lease
from jobyard.model.written import moment
from jobyard.service.board import Notes, find_boards

LEASE = "jobyard"
"""The Lease of a service that has no other name."""
_FRESH = timedelta(seconds=60)
"""How long after its last renewal a Lease still speaks for a holder that lives; clocks differ."""


def is_held(lease: Lease, now: datetime) -> bool:
    """Whether the Lease's holder is alive, as far as one look can tell."""
    renewed = moment((lease.spec.renew_time or "").replace("Z", "+00:00"))
    return bool(lease.spec.holder_identity) and renewed is not None and abs(now - renewed) < _FRESH


async def leader(cluster: Cluster, clock: Clock, namespace: str, notes: Notes) -> str | None:
    """Who leads the service of a board; '' where nobody does. None where no Lease tells: its only replica takes none (and one of before may be
    there still), or we may not see it."""
    if any(standing.alone for standing in notes.standings.values()):
        return None
    try:
        found = await cluster.get(LEASES, namespace, notes.service)
    except (NotFound, Forbidden):
        return None
    return found.spec.holder_identity or "" if is_held(found, clock.now()) else ""


async def drives(cluster: Cluster, clock: Clock, namespace: str) -> bool:
    """Whether a service that leads in a namespace is in sight, by its Lease. One that is the only replica is not, nor one of another namespace."""
    boards = {LEASE: Notes(service=LEASE)}  # one without triggers has no board
    with contextlib.suppress(Forbidden):
        boards |= await find_boards(cluster, namespace)
    for notes in boards.values():
        if await leader(cluster, clock, namespace, notes):
            return True
    return False
