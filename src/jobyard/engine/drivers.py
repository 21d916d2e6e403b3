"""The drivers of those runs of a namespace that are driven here: one a run, from when somebody wants it until the run leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from jobyard.engine.driver import Driver, Tools
from jobyard.engine.run_sight import RunSight
from jobyard.patience import Backoff

AFTER_A_BREAK = Backoff(first=60.0, longest=600.0)
"""How long a run rests that its driver broke over: what it broke over may pass, but a look that breaks again and again must cost little."""

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
"""Begins a piece of work under a name, as a task that ends with the namespace."""


class Drivers:
    """By the uid of the run's record: another record of the same name is another run."""

    def __init__(self, tools: Tools, spawn: Spawn) -> None:
        self._tools = tools
        self._spawn = spawn
        self._drivers: dict[str, Driver] = {}
        self._working: dict[str, asyncio.Task[None]] = {}
        self._broken: WeakKeyDictionary[RunSight, tuple[int, float]] = WeakKeyDictionary()
        """How often a driver broke over a run, and until when that rests, by the event loop's clock."""

    def of(self, uid: str) -> Driver | None:
        """The driver of the run whose record has this uid; None where it is not driven here."""
        return self._drivers.get(uid)

    def is_resting(self, seen: RunSight) -> bool:
        """Whether a driver broke over the run a short while ago."""
        _, until = self._broken.get(seen, (0, 0.0))
        return asyncio.get_running_loop().time() < until

    def drive(self, seen: RunSight) -> Driver:
        """The run's driver, which begins to drive where there was none."""
        driver = self._drivers.get(seen.uid)
        if driver is None:
            driver = self._drivers[seen.uid] = Driver(self._tools, seen)
            self._working[seen.uid] = self._spawn(self._work(driver), f"run {seen.record.metadata.name}")
        return driver

    async def _work(self, driver: Driver) -> None:
        uid = driver.seen.uid
        try:
            await driver.work()
            if not driver.seen.is_gone:
                self._note_broken(driver.seen)
        finally:
            if self._drivers.get(uid) is driver:
                del self._drivers[uid], self._working[uid]
            if driver.seen.is_gone:
                self._tools.sight.drop(driver.seen)
                self._tools.limiter.settle()

    def _note_broken(self, seen: RunSight) -> None:
        failures = self._broken.get(seen, (0, 0.0))[0] + 1
        self._broken[seen] = failures, asyncio.get_running_loop().time() + AFTER_A_BREAK.draw(failures)

    def __len__(self) -> int:
        return len(self._drivers)

    def note_reach(self) -> None:
        """The cluster was lost from sight, or is back."""
        for driver in list(self._drivers.values()):
            driver.note_reach()

    async def stop(self) -> None:
        """Ends them all, and waits for that. The runs' Jobs go on."""
        workers = list(self._working.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
