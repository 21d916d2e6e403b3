"""A trigger whose source has no items, only a level: a folder says how many units of work there are. `docs/add-a-trigger.md` walks through it.

units          how many units of work there are, as a number
done/NUMBER    the run of this generation has done one
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from jobyard import external
from jobyard.contracts import Clock, Runs
from jobyard.model.generation import newest, next_key, superseded
from jobyard.model.run import Run, RunRequest
from jobyard.model.workflow import Workflow

LOOK_EVERY = 0.2
"""Seconds between two looks at the level."""


class CounterTrigger:
    """Runs a workflow, one run at a time, while there are units of work."""

    name = "counter"

    def __init__(self, folder: Path, workflow: Workflow, clock: Clock) -> None:
        self._units, self._done = folder / "units", folder / "done"
        self._done.mkdir(parents=True, exist_ok=True)
        self._workflow = workflow
        self._clock = clock

    async def run(self, engine: Runs) -> None:
        while True:
            while await self.run_once(engine):
                pass
            await asyncio.sleep(LOOK_EVERY)

    async def run_once(self, engine: Runs) -> bool:
        """One run, to its end; says whether there was anything to do."""
        runs = await engine.runs(self.name)
        last = newest(runs)
        if last is not None and not (self._done / last.key).exists():
            await self._serve(engine, last)  # begun before a crash, or by another process
            return True
        if not self._depth():
            return False
        await self._serve(engine, await engine.submit(RunRequest(trigger=self.name, key=next_key(runs), workflow=self._workflow)))
        return True

    async def _serve(self, engine: Runs, run: Run) -> None:
        await engine.outcome(run)
        with external.call(f"counter: tell {run.key}"):
            (self._done / run.key).write_text(str(os.getpid()))
        for old in superseded(await engine.runs(self.name), self._clock.now()):
            await engine.release(old)

    def _depth(self) -> int:
        with external.call("counter: look"):
            return int(self._units.read_text()) - len(list(self._done.iterdir()))
