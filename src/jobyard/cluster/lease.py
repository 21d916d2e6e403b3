"""Who of several processes leads: a Lease, one holder at a time, another within `Terms.takeover` of its death.

The holder renews; the others look, and take the Lease when it has not changed for its whole duration *by their own clock* (clocks of
two machines are never compared). A holder that could not renew in time stops by itself before another may start. Only one that was
frozen (SIGSTOP, a suspended machine) may, on waking, do a call or two beside its successor: harmless, for names come from keys, and what
one of two creates is found there by the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from jobyard.contracts import Clock, Cluster
from jobyard.model.errors import Conflict, NotFound, Unavailable
from jobyard.model.objects import LEASES, Lease, Manifest


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How long, in seconds, a Lease holds unrenewed, how often it is renewed and looked at, and after how long its holder gives up."""

    duration: float = 10.0
    look_every: float = 2.0
    give_up: float = 7.0

    @property
    def takeover(self) -> float:
        """How long nobody leads at most after a holder died."""
        return self.duration + self.look_every


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A Lease as it was first seen to be so, on our own monotonic clock."""

    version: str
    at: float


def may_take(lease: Lease, me: str, since: float, now: float, terms: Terms) -> bool:
    """Whether the Lease is ours to renew or to take: nobody's, ours, or unchanged for its duration. Pure."""
    holder = lease.spec.holder_identity
    return not holder or holder == me or now - since >= (lease.spec.lease_duration_seconds or terms.duration)


def still_leads(renewed: float | None, now: float, terms: Terms) -> bool:
    """Whether a holder that last renewed at `renewed` may act. Pure."""
    return renewed is not None and now - renewed < terms.give_up


class Leadership:
    """One process' part in the election. A gate for `supervise.LeaderOnly`. Made by `open_leadership`."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, name: str, me: str, terms: Terms = Terms()) -> None:
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._me = me
        self._terms = terms
        self._seen: Sighting | None = None
        self._renewed: float | None = None
        self._leads, self._follows = asyncio.Event(), asyncio.Event()
        self._follows.set()
        self.holder = ""
        """Who led when we last looked."""

    @property
    def leads(self) -> bool:
        """Whether we lead now."""
        return still_leads(self._renewed, time.monotonic(), self._terms)

    async def opened(self) -> None:
        await self._leads.wait()

    async def closed(self) -> None:
        await self._follows.wait()

    async def run(self) -> None:
        """Takes part until cancelled."""
        while True:
            await self.run_once()
            await asyncio.sleep(self._terms.look_every)

    async def run_once(self) -> bool:
        """Looks, renews or takes the Lease; says whether we lead. An API server that is away costs the leadership, nothing else."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._terms.give_up - self._terms.look_every):
                if await self._try():
                    self._renewed = begun
                else:
                    self._renewed = None
        except (TimeoutError, Unavailable, Conflict, NotFound):
            pass  # what we hold goes on to hold until `give_up`
        self._show()
        return self.leads

    async def resign(self) -> None:
        """Gives the Lease back, so that another may lead at once."""
        if self.leads and self._seen is not None:
            change = {"metadata": {"resourceVersion": self._seen.version}, "spec": {"holderIdentity": ""}}
            try:
                async with asyncio.timeout(self._terms.look_every):
                    await self._cluster.patch(LEASES, self._namespace, self._name, change)
            except (TimeoutError, Unavailable, Conflict, NotFound):
                pass  # it runs out by itself
        self._renewed = None
        self._show()

    async def _try(self) -> bool:
        try:
            lease = await self._cluster.get(LEASES, self._namespace, self._name)
        except NotFound:
            self._note(await self._cluster.create(LEASES, self._namespace, self._manifest()))
            return True
        seen = self._note(lease)
        if not may_take(lease, self._me, seen.at, time.monotonic(), self._terms):
            return False
        spec: dict[str, Any] = self._manifest()["spec"]
        if lease.spec.holder_identity != self._me:
            spec["acquireTime"] = spec["renewTime"]
            spec["leaseTransitions"] = (lease.spec.lease_transitions or 0) + 1
        change = {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": spec}
        self._note(await self._cluster.patch(LEASES, self._namespace, self._name, change))
        return True

    def _note(self, lease: Lease) -> Sighting:
        self.holder = lease.spec.holder_identity or ""
        if self._seen is None or self._seen.version != lease.metadata.resource_version:
            self._seen = Sighting(version=lease.metadata.resource_version, at=time.monotonic())
        return self._seen

    def _show(self) -> None:
        if self.leads:
            self._leads.set()
            self._follows.clear()
        else:
            self._follows.set()
            self._leads.clear()

    def _manifest(self) -> Manifest:
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {"holderIdentity": self._me, "leaseDurationSeconds": round(self._terms.duration), "renewTime": now},
        }


@asynccontextmanager
async def open_leadership(
    cluster: Cluster,
    clock: Clock,
    namespace: str,
    name: str,
    me: str,
    terms: Terms = Terms(),
) -> AsyncIterator[Leadership]:
    """Takes part in the election for as long as the context lasts; leaving resigns."""
    leadership = Leadership(cluster, clock, namespace, name, me, terms)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(leadership.run())
        try:
            yield leadership
        finally:
            running.cancel()
            await leadership.resign()
