"""The four watches of a namespace: records, Jobs, pods, warnings. What they tell is taken in one by one; none of it ends more than itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from jobyard.access import RECORDS, lacking
from jobyard.contracts import Change, Clock, Cluster, Inventory, Selection
from jobyard.model import names
from jobyard.model.errors import Forbidden, InvalidKubeconfig, JobyardError, NoAnswer, Unauthorized, Unreachable
from jobyard.model.objects import CONFIG_MAPS, EVENTS, JOBS, PODS, ConfigMap, Event, Job, Kind, Pod
from jobyard.patience import patiently, trying_for

log = logging.getLogger("jobyard.engine")

Seen = TypeVar("Seen", Job, Pod, Event, ConfigMap)
Spawn = Callable[[Coroutine[Any, Any, None], str], object]


RUNS_AT_ONCE, MANY_RUNS = 200, 2000
"""By how many runs' ids Jobs are listed at once; of how many runs all Jobs are rather listed."""


def _pods_that_go_on() -> Iterator[Selection]:
    """Pods that have succeeded are asked for with their Job, where it is still to be looked at."""
    yield Selection(labels=names.SELECTOR, fields="status.phase!=Succeeded")


class Audience(Protocol):
    """Who is told."""

    def take_in(self, seen: Job | Pod | Event | ConfigMap) -> object:
        """An object as it now is."""
        ...

    def let_go(self, uid: str, version: str) -> None:
        """What has this uid has left the watch by this version."""
        ...

    def runs_with_jobs_of_their_own(self) -> Iterable[str]:
        """The ids of the open runs whose records own their Jobs."""
        ...

    def note_inventory(self, kind: Kind[Any], inventory: Inventory) -> None:
        """All there is of a kind has been told; what else was seen of it is gone, unless it is newer."""
        ...

    def note_config_maps(self, *, seen: bool) -> None:
        """Whether we may see ConfigMaps. Without, no record is one, and limits are counted by what is seen alone."""
        ...

    def note_reach(self) -> None:
        """The cluster was lost from sight, or is back."""
        ...


class Watches:
    """The watches of one namespace, and how they do."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, audience: Audience) -> None:
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._audience = audience
        self._out_of_touch: dict[str, JobyardError] = {}
        """By the kind of objects that nothing is heard of, in the plural."""
        self._gives_up: timedelta | None = None
        self._worked = self._has_begun = False
        """The cluster has answered a list as it should, once; and all watches have told what there is."""
        self._config_maps_seen = asyncio.Event()
        self._missed: set[str] = set()
        """Rights that we do without, and have said so."""
        self.pods_heard: datetime = clock.now()
        """When a pod was last told of."""

    @property
    def unreachable(self) -> str:
        """Why the cluster can't be asked just now; '' while it can."""
        return next((str(error) for error in self._out_of_touch.values()), "")

    async def start(self, spawn: Spawn, gives_up: timedelta | None) -> None:
        """Opens the watches, records first: what comes then is known to belong to one, or to none. Returns when all have told what there is.

        Raises InvalidKubeconfig; and what the cluster answers when it has not told all within `gives_up`: at once where it never worked, and
        no waiting is likely to mend that.
        """
        self._gives_up = gives_up
        try:
            async with asyncio.timeout(gives_up.total_seconds() if gives_up else None):
                refused = await self._begin(spawn, CONFIG_MAPS, names.WATCHED)
                await self._begin(spawn, JOBS, names.WATCHED, first=self._open_jobs)
                if refused is not None:
                    await self._ask_for_config_maps(refused)
                await self._begin(spawn, PODS, names.SELECTOR, first=_pods_that_go_on)
                await self._begin(spawn, EVENTS, "", "type=Warning")
                self._has_begun = True
        except TimeoutError:
            why = next(iter(self._out_of_touch.values()), None)
            raise why or NoAnswer(what="the cluster did not answer", remedy="try again later") from None

    def _open_jobs(self) -> Iterator[Selection]:
        """The Jobs of open runs: of those that are released, nobody needs to know anything, and there may be thousands."""
        yield Selection(labels=f"{names.RECORD_SELECTOR},!{names.ENDED}")
        runs = list(self._audience.runs_with_jobs_of_their_own())
        if len(runs) > MANY_RUNS:
            yield Selection(labels=names.WATCHED)
            return
        for at in range(0, len(runs), RUNS_AT_ONCE):
            yield Selection(labels=f"{names.SELECTOR},{names.RUN} in ({','.join(runs[at : at + RUNS_AT_ONCE])})")

    async def _begin(
        self, spawn: Spawn, kind: Kind[Seen], labels: str, fields: str = "", first: Callable[[], Iterator[Selection]] | None = None
    ) -> JobyardError | None:
        """Returns when all that exists has been told; or says why it never will be."""
        synced: asyncio.Future[JobyardError | None] = asyncio.get_running_loop().create_future()
        spawn(self._watch(kind, labels, fields, first, synced), f"watch {kind.plural} of {self._namespace}")
        return await synced

    async def _ask_for_config_maps(self, refused: JobyardError) -> None:
        """We may see Jobs, and could not see ConfigMaps a moment ago: because our Role has none, or because there was no Role at all?"""
        missing = await patiently(lambda: lacking(self._cluster, self._namespace, [RECORDS]))
        if missing == []:
            await self._config_maps_seen.wait()
        elif not self._config_maps_seen.is_set():
            self._audience.note_config_maps(seen=False)
            missed = "only runs of a single Job that starts at once are accepted, and the namespace's limits are not enforced"
            self.do_without("ConfigMaps", missed, str(refused))

    async def _watch(
        self,
        kind: Kind[Seen],
        labels: str,
        fields: str,
        first: Callable[[], Iterator[Selection]] | None,
        synced: asyncio.Future[JobyardError | None],
    ) -> None:
        async for change in self._cluster.watch(kind, self._namespace, labels=labels, fields=fields, first=first):
            try:
                self._note(kind, change, synced)
            except Exception as error:  # what is in the namespace is input: nothing in it ends more than itself
                log.warning("a change of %s could not be processed", kind.plural, exc_info=error)

    def _note(self, kind: Kind[Seen], change: Change[Seen], synced: asyncio.Future[JobyardError | None]) -> None:
        match change.type:
            case "SYNCED":
                self._worked = True
                if not synced.done():
                    synced.set_result(None)
                if kind.plural == CONFIG_MAPS.plural:
                    self._see_config_maps()
                if change.inventory is not None:
                    self._audience.note_inventory(kind, change.inventory)
                self._touch(kind, None)
            case "LOST_TOUCH" if change.error is not None and not synced.done() and self._is_hopeless(change.error):
                synced.set_exception(change.error)
            case "LOST_TOUCH":
                is_config_maps, is_events = kind.plural == CONFIG_MAPS.plural, kind.plural == EVENTS.plural
                if isinstance(change.error, Forbidden) and (is_events or (is_config_maps and not self._config_maps_seen.is_set())):
                    self._touch(kind, None)
                    if is_events:
                        self.do_without("events", "diagnoses say less", change.why)
                    if not synced.done():
                        synced.set_result(change.error)
                else:
                    self._touch(kind, change.error)
            case "SEEN" if change.object is not None:
                if isinstance(change.object, Pod):
                    self.pods_heard = self._clock.now()
                self._audience.take_in(change.object)
            case "GONE":
                self._audience.let_go(change.uid, change.version)

    def _is_hopeless(self, error: JobyardError) -> bool:
        """No waiting mends a file. Nor, for who waits for an answer, an address or a login that never worked."""
        never_worked = self._gives_up is not None and not self._worked
        return isinstance(error, InvalidKubeconfig) or (never_worked and isinstance(error, (Unauthorized, Unreachable)))

    def _see_config_maps(self) -> None:
        if "ConfigMaps" in self._missed and not self._config_maps_seen.is_set():
            log.warning("namespace %s: ConfigMaps may be read now, and are used", self._namespace)
        self._config_maps_seen.set()
        self._audience.note_config_maps(seen=True)

    def do_without(self, what: str, missed: str, why: str) -> None:
        """Says once what a right that may be left out would have been for."""
        if what not in self._missed:
            self._missed.add(what)
            log.warning("namespace %s: without %s, %s (%s)", self._namespace, what, missed, why)

    def _touch(self, kind: Kind[Any], error: JobyardError | None) -> None:
        """We are in touch with the objects of a kind, or have lost it, and why."""
        before = bool(self._out_of_touch)
        was = self._out_of_touch.pop(kind.plural, None)
        if error is not None:
            self._out_of_touch[kind.plural] = error
        if bool(self._out_of_touch) != before:
            trying = "" if self._has_begun else trying_for(self._gives_up)
            how = "is watched again" if error is None else f"can't be watched: {error}{trying}"
            log.warning("namespace %s %s", self._namespace, how)
        if (was is None) != (error is None) or str(was) != str(error):
            self._audience.note_reach()
