"""The four watches of a namespace: records, Jobs, pods, warnings. What they tell is taken in one by one; none of it ends more than itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from jobyard.contracts import Change, Clock, Cluster
from jobyard.model import names
from jobyard.model.errors import Forbidden, InvalidKubeconfig, Unreached
from jobyard.model.objects import CONFIG_MAPS, EVENTS, JOBS, PODS, ConfigMap, Event, Job, Kind, Pod

log = logging.getLogger("jobyard.engine")

Seen = TypeVar("Seen", Job, Pod, Event, ConfigMap)
Spawn = Callable[[Coroutine[Any, Any, None], str], object]
_WATCHED: tuple[tuple[Kind[Any], str, str], ...] = (
    (CONFIG_MAPS, names.WATCHED, ""),
    (JOBS, names.WATCHED, ""),
    (PODS, names.SELECTOR, ""),
    (EVENTS, "", "type=Warning"),
)
_OPTIONAL = (CONFIG_MAPS.plural, EVENTS.plural)
"""What is used where our Role allows, and missed without harm."""


class Audience(Protocol):
    """Who is told."""

    def take_in(self, seen: Job | Pod | Event | ConfigMap) -> object:
        """An object as it now is."""
        ...

    def let_go(self, uid: str) -> None:
        """What has this uid has left the watch."""
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
        self._out_of_touch: dict[str, str] = {}
        self.pods_heard: datetime = clock.now()
        """When a pod was last told of."""

    @property
    def unreachable(self) -> str:
        """Why the cluster can't be asked just now; '' while it can."""
        return next(iter(self._out_of_touch.values()), "")

    async def start(self, spawn: Spawn, gives_up: timedelta | None) -> None:
        """Opens the watches, records first: what comes then is known to belong to one, or to none. Returns when all have told what there is.

        Raises InvalidKubeconfig, and Unreached when that takes longer than `gives_up`.
        """
        for kind, labels, fields in _WATCHED:
            synced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            spawn(self._watch(kind, labels, fields, synced), f"watch {kind.plural} of {self._namespace}")
            try:
                async with asyncio.timeout(gives_up.total_seconds() if gives_up else None):
                    await synced
            except TimeoutError:
                why = self._out_of_touch.get(kind.plural, "the cluster gave no answer")
                raise Unreached(kind=kind.plural, namespace=self._namespace, why=why) from None

    async def _watch(self, kind: Kind[Seen], labels: str, fields: str, synced: asyncio.Future[None]) -> None:
        async for change in self._cluster.watch(kind, self._namespace, labels=labels, fields=fields):
            try:
                self._note(kind, change, synced)
            except Exception as error:  # what is in the namespace is input: nothing in it ends more than itself
                log.warning("a change of %s could not be taken in", kind.plural, exc_info=error)

    def _note(self, kind: Kind[Seen], change: Change[Seen], synced: asyncio.Future[None]) -> None:
        match change.type:
            case "SYNCED":
                if not synced.done():
                    synced.set_result(None)
                if self._out_of_touch.pop(kind.plural, None) is not None:
                    self._audience.note_reach()
            case "LOST_TOUCH" if isinstance(change.error, InvalidKubeconfig) and not synced.done():
                synced.set_exception(change.error)  # no waiting mends a file
            case "LOST_TOUCH":
                optional = kind.plural in _OPTIONAL and isinstance(change.error, Forbidden)
                if not optional:
                    self._out_of_touch[kind.plural] = change.why
                    self._audience.note_reach()
                elif not synced.done():
                    log.info("%s in namespace %s are not used: we may not see them", kind.plural, self._namespace)
                    synced.set_result(None)
            case "SEEN" if change.object is not None:
                if isinstance(change.object, Pod):
                    self.pods_heard = self._clock.now()
                self._audience.take_in(change.object)
            case "GONE":
                self._audience.let_go(change.uid)
