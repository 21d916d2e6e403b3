"""Places in limits that processes share: who holds them stands in a ConfigMap a scope (`limits` says what it means)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from jobyard.contracts import Clock, Cluster
from jobyard.engine import home, limits
from jobyard.engine.limits import Claim, Full, Place
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.errors import Conflict, NotFound
from jobyard.model.job import read
from jobyard.model.objects import CONFIG_MAPS, JOBS, ConfigMap
from jobyard.patience import Backoff

TRIES = 20
"""How often a claim is tried again because another process took or gave a place of the same scope at the same moment."""
SHARED = timedelta(hours=1)
"""How long after another process took a place of a scope whoever leads takes places there too."""
BUSY = Backoff(first=0.02, longest=0.5)
NOTICED_LIMIT = 10_000
"""How many places are remembered that were seen to be unused."""


class Places:
    """Those of one namespace."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, sight: Sight, *, sees_all: Callable[[], bool]) -> None:
        """`sees_all`: whether all that is open is seen here."""
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._sight = sight
        self._sees_all = sees_all
        self._noticed: OrderedDict[tuple[str, Place], datetime] = OrderedDict()
        """When a holder's place was first seen to be unused."""
        self._ours: OrderedDict[Place, None] = OrderedDict()
        """The places that were taken here, the last ones."""
        self._others: dict[str, datetime] = {}
        """From scope to when another process took a place of it last, as far as is seen."""

    def has(self, claim: Claim) -> bool:
        """Whether a claim's place is known to be held, and need not be taken anew."""
        place = limits.holders(self._sight.places.get(claim.object_name)).get(claim.holder)
        return place is not None and (limits.is_good(place, self._clock.now()) or self._is_there(claim.holder, place.run))

    def are_shared(self, claim: Claim) -> bool:
        """Whether another process took a place of the scope lately, and may be about to take one now."""
        now = self._clock.now()
        theirs = [place.at for place in limits.holders(self._sight.places.get(claim.object_name)).values() if place not in self._ours]
        if theirs:
            self._others[claim.scope] = max(min(max(theirs), now), self._others.get(claim.scope, now - SHARED))
        for scope in [scope for scope, at in self._others.items() if now - at >= SHARED]:  # also of workflows that are gone
            del self._others[scope]
        return claim.scope in self._others

    def _is_there(self, holder: str, run: str) -> bool:
        """Whether a holder exists, as far as is seen: a run's record with a Job, or the Job."""
        known = self._sight.runs.get(run)
        return known is not None and (holder in known.jobs or (holder == run and bool(known.jobs)))

    async def take(self, claim: Claim, run: str, unplaced: Collection[str]) -> Full | Place | None:
        """Full where there is no room; the place where it was added; None where it was there already, for others of the run too. `unplaced`: who
        counts without a place. Raises Unavailable, Conflict."""
        for tries in range(1, TRIES + 1):
            places = await self._places(claim)
            held = limits.holders(places)
            over = [holder for holder, place in held.items() if await self.is_over(holder, place)]
            granted = limits.take(claim, run, held, over, self._clock.now(), unplaced)
            if isinstance(granted, Full):
                return granted
            self._ours[granted[claim.holder]] = None
            while len(self._ours) > NOTICED_LIMIT:
                self._ours.popitem(last=False)
            try:
                await self._put(claim, granted, places)
            except (Conflict, NotFound):
                await asyncio.sleep(BUSY.draw(tries))  # somebody else was at it in the same moment
                continue
            return None if claim.holder in held else granted[claim.holder]
        raise Conflict(action=f"take a place of limit {claim.scope}", status=409, reason="Conflict", message="others are faster")

    async def give_back(self, added: Sequence[tuple[Claim, Place]]) -> None:
        """Not needed for anything to be right, but places that nobody uses are a pity. One that another process has taken anew stays."""
        for claim, place in added:
            places = await self._places(claim)
            held = limits.holders(places)
            if held.get(claim.holder) == place:
                del held[claim.holder]
                with contextlib.suppress(Conflict, NotFound):
                    await self._put(claim, held, places)

    async def _places(self, claim: Claim) -> ConfigMap | None:
        try:
            places = await self._cluster.get(CONFIG_MAPS, self._namespace, claim.object_name)
        except NotFound:
            return None
        self._sight.see(places)
        return places

    async def _put(self, claim: Claim, held: dict[str, Place], places: ConfigMap | None) -> None:
        if places is None:
            made = await self._cluster.create(CONFIG_MAPS, self._namespace, limits.write(claim, held))
        else:
            change = limits.write(claim, held, places.metadata.resource_version)
            made = await self._cluster.patch(CONFIG_MAPS, self._namespace, claim.object_name, change)
        self._sight.see(made)

    async def is_over(self, holder: str, place: Place) -> bool:
        """Whether a holder needs its place no more. An end never changes, so what we have seen of one holds; of what we have not seen
        we ask: our watch may be a moment behind. What is not there at all may be about to be."""
        run = self._sight.runs.get(place.run)
        if run is None:
            left = self._sight.over.get(place.run)
            if left is not None and place.at <= left:
                return True
            if self._sees_all() and self._clock.now() - place.at >= limits.OLD:
                return True  # a launch of it would be seen by now: a leader sees all that is open
            found = await self._state(place.run)
            if found:
                self._sight.note_over(place.run, place.at)
            return self._is_unused(holder, place) if found is None else found
        if home.end(run.record) is not None:
            return True
        if holder == place.run:
            return False
        job = run.jobs.get(holder)
        if job is not None:
            return read(job).state.is_end
        has_ended = any(result.job == holder and result.state.is_end for result in run.results().values())
        return has_ended or self._is_unused(holder, place)

    def _is_unused(self, holder: str, place: Place) -> bool:
        now = self._clock.now()
        noticed = self._noticed.setdefault((holder, place), now)
        while len(self._noticed) > NOTICED_LIMIT:
            self._noticed.popitem(last=False)
        return limits.is_unused(place, noticed, now)

    async def delete_idle(self) -> None:
        """Deletes what says who holds the places of a limit that nobody has held for long: workflows come and go, and each may have had one.
        Whoever takes a place in the same moment keeps it."""
        for name, places in list(self._sight.places.items()):
            scope = places.metadata.annotations.get(names.SCOPE, "")
            held = limits.holders(places).values()
            is_fresh = any(self._clock.now() - place.at < limits.IDLE for place in held)
            if is_fresh or any(self._sight.active(scope)) or self._sight.jobs_of(scope):
                continue
            metadata = places.metadata
            with contextlib.suppress(Conflict, NotFound):
                await self._cluster.delete(CONFIG_MAPS, self._namespace, name, uid=metadata.uid, version=metadata.resource_version)

    async def _state(self, run: str) -> bool | None:
        """Whether a run that is not seen here is over; None when there is no such run."""
        selector = f"{names.RECORD_SELECTOR},{names.RUN}={run}"
        over = [home.end(job) is not None for job in await self._cluster.list(JOBS, self._namespace, labels=selector)]
        if not self._sight.without_config_maps:
            over += [home.end(each) is not None for each in await self._cluster.list(CONFIG_MAPS, self._namespace, labels=selector)]
        return all(over) if over else None
