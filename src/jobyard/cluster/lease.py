"""Who of several processes leads: a Lease, one holder at a time, another within `Terms.takeover` of its death.

The holder renews; the others look, and take the Lease when it has not changed for its whole duration *by their own clock* (clocks of
two machines are never compared). A holder that could not renew in time stops by itself before another may start: a timer sees to it,
whatever hangs, and early enough for what it was doing to end. Only one that
was frozen (SIGSTOP, a suspended machine) may, on waking, do a call or two beside its successor: harmless, for names come from keys, and
what one of two creates is found there by the other.

Nothing that the API server answers ends the election: a token is renewed, a RoleBinding is replaced. What we hold runs out meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from jobyard.contracts import Clock, Cluster
from jobyard.model.errors import Conflict, InvalidKubeconfig, NotFound, Rejected, Unavailable, Unforeseen
from jobyard.model.objects import LEASES, Lease, Manifest
from jobyard.patience import Backoff

log = logging.getLogger("jobyard.lease")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How long, in seconds, a Lease holds unrenewed, how often it is renewed and looked at, and after how long its holder gives up."""

    duration: float = 10.0
    look_every: float = 2.0
    give_up: float = 7.0
    follow_every: float = 1.0
    """How often who does not lead looks: a Lease that was given back is taken up within this."""

    @property
    def attempt(self) -> float:
        """How long one attempt to renew may take: three fit between the time for it and giving up."""
        return (self.give_up - self.look_every) / 3

    @property
    def again(self) -> Backoff:
        """How long to wait after an attempt that failed: at first so short that the next one still fits."""
        return Backoff(first=self.attempt / 4, longest=self.duration)

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
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._trying: set[asyncio.Task[bool]] = set()
        self._leads, self._follows = asyncio.Event(), asyncio.Event()
        self._follows.set()
        self.holder = ""
        """Who led when we last looked."""
        self.trouble = ""
        """Why the last attempt to look or to renew failed, for a person; empty when it did not."""

    @property
    def leads(self) -> bool:
        """Whether we lead now."""
        return still_leads(self._renewed, _now(), self._terms)

    async def opened(self) -> None:
        await self._leads.wait()

    async def closed(self) -> None:
        await self._follows.wait()

    async def run(self) -> None:
        """Takes part until cancelled."""
        try:
            while True:
                await self.run_once()
                pause = self._terms.look_every if self.leads else min(self._terms.follow_every, self._terms.look_every)
                await asyncio.sleep(self._terms.again.draw(self._failures) if self._failures else pause)
        finally:
            for attempt in self._trying:
                attempt.cancel()

    async def run_once(self) -> bool:
        """Looks, renews or takes the Lease, for `Terms.attempt` at most; says whether we lead.

        What fails (the API server is away, or refuses) is told in `trouble`, and costs the leadership when what we hold has run out.
        """
        begun = _now()
        attempt = asyncio.create_task(self._try(), name=f"lease {self._name}")
        self._trying.add(attempt)
        attempt.add_done_callback(self._tried)
        try:
            done, _ = await asyncio.wait([attempt], timeout=self._terms.attempt)
        finally:
            attempt.cancel()  # it may take its time to end: nobody waits for it
        if not done:
            self._note_trouble(f"no answer in {self._terms.attempt:.1f} s")
        elif not (error := attempt.exception()):
            self._note_trouble("")
            self._hold(begun if attempt.result() else None)
        elif isinstance(error, Conflict):
            self._note_trouble("")  # another was faster: the next look tells who
        elif isinstance(error, Unavailable | Rejected | InvalidKubeconfig):
            self._note_trouble(str(error))
        elif isinstance(error, Exception):  # what is answered is input, also what nobody thought of
            self._note_trouble(str(Unforeseen.of(error)), error)
        else:
            raise error
        return self.leads

    async def resign(self) -> None:
        """Gives the Lease back, so that another may lead at once."""
        leads = self.leads
        self._hold(None)
        if not leads:
            return
        try:
            async with asyncio.timeout(self._terms.look_every):
                if self._trying:
                    await asyncio.wait(self._trying)
                await self._give_back()
        except Exception as error:  # whatever is answered: it runs out by itself
            log.debug("lease %s in namespace %s could not be released", self._name, self._namespace, exc_info=error)

    async def _give_back(self) -> None:
        if self._seen is not None:
            try:
                await self._patch(self._seen.version, {"holderIdentity": ""})
                return
            except Conflict:
                pass  # perhaps by our own last renewal, whose answer we did not wait for
        lease = await self._cluster.get(LEASES, self._namespace, self._name)
        if lease.spec.holder_identity == self._me:
            await self._patch(lease.metadata.resource_version, {"holderIdentity": ""})

    def _tried(self, attempt: asyncio.Task[bool]) -> None:
        self._trying.discard(attempt)
        if not attempt.cancelled():
            attempt.exception()  # one that nobody waited for any more; whoever did has seen it

    def _note_trouble(self, why: str, unforeseen: Exception | None = None) -> None:
        self._failures = self._failures + 1 if why else 0
        if why and why != self.trouble:
            log.warning("lease %s in namespace %s: %s", self._name, self._namespace, why, exc_info=unforeseen)
        elif self.trouble and not why:
            log.warning("lease %s in namespace %s: connected again", self._name, self._namespace)
        self.trouble = why

    async def _try(self) -> bool:
        if self.holder == self._me and self._seen is not None:
            try:
                return await self._patch(self._seen.version, self._manifest()["spec"])
            except (Conflict, NotFound):
                pass  # it is another's now, or gone: see what it is
        try:
            lease = await self._cluster.get(LEASES, self._namespace, self._name)
        except NotFound:
            self._note(await self._cluster.create(LEASES, self._namespace, self._manifest()))
            return True
        seen = self._note(lease)
        if not may_take(lease, self._me, seen.at, _now(), self._terms):
            return False
        spec: dict[str, Any] = self._manifest()["spec"]
        if lease.spec.holder_identity != self._me:
            spec["acquireTime"] = spec["renewTime"]
            spec["leaseTransitions"] = (lease.spec.lease_transitions or 0) + 1
        return await self._patch(seen.version, spec)

    async def _patch(self, version: str, spec: dict[str, Any]) -> bool:
        """Makes the Lease ours, or keeps it so, if nobody changed it since `version`."""
        self._note(await self._cluster.patch(LEASES, self._namespace, self._name, {"metadata": {"resourceVersion": version}, "spec": spec}))
        return True

    def _note(self, lease: Lease) -> Sighting:
        self.holder = lease.spec.holder_identity or ""
        if self._seen is None or self._seen.version != lease.metadata.resource_version:
            self._seen = Sighting(version=lease.metadata.resource_version, at=_now())
        return self._seen

    def _hold(self, renewed: float | None) -> None:
        """We lead as of `renewed`, and stop by ourselves when that has run out; None: we don't."""
        self._renewed = renewed
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.leads and renewed is not None:
            self._timer = asyncio.get_running_loop().call_at(renewed + self._terms.give_up, self._hold, None)
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


def _now() -> float:
    return asyncio.get_running_loop().time()


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
            await asyncio.wait([running])
            await leadership.resign()
