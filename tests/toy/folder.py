"""A trigger as small as one can be: it runs the workflow files that somebody puts into a folder. `docs/add-a-trigger.md` walks through it.

inbox/NAME.json     waits to be run
taken/NAME.json     has been submitted
done/NAME           how it ended
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from jobyard import external
from jobyard.contracts import Runs
from jobyard.model.errors import Rejected, WrongInput
from jobyard.model.run import Run, RunRequest
from jobyard.service.reading import read_file

LOOK_EVERY = 0.2
"""Seconds between two looks at the inbox."""


class FolderTrigger:
    """Runs each file of `folder/inbox` once, and writes how it ended into `folder/done`."""

    name = "folder"

    def __init__(self, folder: Path) -> None:
        self._inbox, self._taken, self._done = (folder / name for name in ("inbox", "taken", "done"))
        for each in (self._inbox, self._taken, self._done):
            each.mkdir(parents=True, exist_ok=True)

    async def run(self, engine: Runs) -> None:
        while True:
            await self.run_once(engine)
            await asyncio.sleep(LOOK_EVERY)

    async def run_once(self, engine: Runs) -> int:
        """Takes everything that is there to its end; says how many files that was."""
        # What was taken before a crash is served again by the very same lines: submit says that the run is there already.
        names = sorted({file.name for folder in (self._taken, self._inbox) for file in folder.iterdir()})
        # What was told and let go of, and not released before a crash: the engine knows it still.
        left = [run for run in await engine.runs(self.name) if run.key not in names]
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._serve(engine, name))
            for run in left:
                group.create_task(self._see_off(engine, run))
        return len(names) + len(left)

    async def _serve(self, engine: Runs, name: str) -> None:
        inbox, taken = self._inbox / name, self._taken / name
        source = taken if taken.exists() else inbox
        reading = read_file(source)
        if not source.exists():
            return  # another process serves the folder too, and was faster
        try:
            # The key: what makes the same file the same request. A file's name is used once, so its name is enough here.
            run = await engine.submit(RunRequest(trigger=self.name, key=name, workflow=reading.require()))
        except (WrongInput, Rejected) as refused:
            self._write(name, f"rejected: {refused}")  # never: set it aside, with the reason
            move(source, None)
            return
        move(inbox, taken)  # the run is in the cluster: now the source may let go
        outcome = await engine.outcome(run)
        self._write(name, str(outcome.state))  # tell whoever waits
        move(taken, None)  # nothing asks for this run again: now its name may be free
        await engine.release(run)

    async def _see_off(self, engine: Runs, run: Run) -> None:
        """Another process may serve the run just now: that it has ended is awaited, and telling twice does no harm."""
        outcome = await engine.outcome(run)
        if not (self._inbox / run.key).exists() and not (self._taken / run.key).exists():
            self._write(run.key, str(outcome.state))
            await engine.release(run)

    def _write(self, name: str, text: str) -> None:
        new = self._done / f".{name}.{os.getpid()}"
        new.write_text(text)
        move(new, self._done / name)


def move(source: Path, target: Path | None) -> None:
    """Moves a file, or removes it: at once, and harmless when it was done before, by us or by another."""
    with external.call(f"folder: move {source.name}"), contextlib.suppress(FileNotFoundError):
        if target is not None:
            os.replace(source, target)
        else:
            source.unlink()
