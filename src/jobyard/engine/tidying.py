"""What an engine that drives a namespace does with what is over: releases, deletes, sweeps, each when its time has come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

from jobyard.contracts import Clock, Cluster
from jobyard.engine import home
from jobyard.engine.drivers import Drivers
from jobyard.engine.incomplete import Incomplete
from jobyard.engine.places import Places
from jobyard.engine.sight import Sight
from jobyard.engine.sweep import delete_stopped, sweep
from jobyard.model import names
from jobyard.model.retention import Keeping
from jobyard.model.run import Run
from jobyard.model.written import moment

log = logging.getLogger("jobyard.engine")

EVERY = timedelta(minutes=1)
"""How often what is over is looked through for what may go."""
SWEEP_EVERY = 10
"""After how many of those looks retention is seen to."""


class Tidying:
    """One namespace's part of it."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        namespace: str,
        sight: Sight,
        drivers: Drivers,
        places: Places,
        release: Callable[[Run], Awaitable[None]],
        keeping: Keeping,
        incomplete: Incomplete,
        triggers: Collection[str],
        service: str,
    ) -> None:
        """`triggers`, `service`: as in `Options`."""
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._sight = sight
        self._drivers = drivers
        self._places = places
        self._release = release
        self._keeping = keeping
        self._incomplete = incomplete
        self._triggers = triggers
        self._service = service

    async def run(self) -> None:
        """Goes on until cancelled."""
        count = 0
        while True:
            await self._try("released", self._release_kept())
            await self._try("taken away", self._incomplete.delete_late())
            await self._try("deleted", delete_stopped(self._cluster, self._clock, self._namespace, self._service))
            if count % SWEEP_EVERY == 0:
                await self._try("swept", self._sweep())
                await self._try("forgotten", self._places.delete_idle())
            count += 1
            await asyncio.sleep(EVERY.total_seconds())

    async def _sweep(self) -> None:
        cared_for = {names.label_value(trigger) for trigger in self._triggers}
        await sweep(self._cluster, self._clock, self._namespace, self._keeping, cared_for=cared_for, service=self._service)

    async def release(self, run: Run) -> None:
        """Releases a run that has ended and has no source to wait for. Where that fails, the next look does it."""
        try:
            await self._release(run)
        except Exception as error:
            log.warning("run %s could not be released yet; whoever drives it next will", run.name, exc_info=error)

    async def _release_kept(self) -> None:
        """Releases the runs whose sources have let go, and that are counted no more; and those that could not be released at their end."""
        for seen in list(self._sight.runs.values()):
            if home.is_anothers(seen.record, self._service):
                continue
            until = moment(seen.record.metadata.annotations.get(names.KEPT_UNTIL))
            is_due = until is not None and until <= self._clock.now()
            driver = self._drivers.of(seen.uid)
            has_ended = driver is not None and driver.run.trigger in names.FACES and driver.outcome.done()
            if (is_due or (until is None and has_ended)) and not (seen.is_gone or seen.is_leaving):
                await self.release(seen.run(self._namespace))

    async def _try(self, what: str, work: Awaitable[object]) -> None:
        """What goes wrong with one kind of tidying is told, and keeps back no other."""
        try:
            await work
        except Exception as error:
            log.warning(
                "not everything that is over in namespace %s could be %s; trying again later", self._namespace, what, exc_info=error
            )
