"""Adoption: an engine drives every open run of a namespace, whoever began it, for as long as it is told to."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from jobyard.engine import home
from jobyard.engine.drivers import Drivers
from jobyard.engine.elsewhere import Elsewhere
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import Sight
from jobyard.engine.tidying import Tidying
from jobyard.model import names

EVERY = timedelta(minutes=1)
"""How often open runs are looked through for those that nobody drives: a driver may have broken, and no watch tells of what stands still."""


class Adoption:
    """One namespace's part of it."""

    def __init__(self, sight: Sight, elsewhere: Elsewhere, drivers: Drivers, tidying: Tidying, service: str = "") -> None:
        """`service`: whose engine this is. What bears another's name is left to that."""
        self._service = service
        self._sight = sight
        self._elsewhere = elsewhere
        self._drivers = drivers
        self._tidying = tidying
        self.is_on = False

    async def run(self) -> None:
        """Drives every open run, and sees to what is over; until cancelled. Then nothing more is done."""
        self.is_on = True
        self._elsewhere.ask_anew()  # another process may have led since
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._consider_all())
                await self._tidying.run()
        finally:
            self.is_on = False
            await self._drivers.stop()

    async def _consider_all(self) -> None:
        while True:
            for seen in list(self._sight.runs.values()):
                self.consider(seen)
            await asyncio.sleep(EVERY.total_seconds())

    def consider(self, seen: RunSight) -> None:
        """Adopts a run, unless it is held: such a run is begun or abandoned by its trigger alone. One that a driver broke over rests first."""
        is_ours = not home.is_anothers(seen.record, self._service)
        is_open = not seen.is_gone and names.HELD not in seen.record.metadata.annotations
        if self.is_on and is_ours and is_open and not self._drivers.is_resting(seen):
            self._drivers.drive(seen)
