"""Shows the files that are being processed live, each with the steps of its run; what is said stays above."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from jobyard.cli import render
from jobyard.cli.hints import on_terminal
from jobyard.cli.screens import choose, columns, depths, row
from jobyard.cli.tails import Tails
from jobyard.contracts import Clock
from jobyard.engine.engine import ClusterEngine
from jobyard.model.run import Run, RunView
from jobyard.triggers.git.layout import Place, show
from jobyard.triggers.git.moves import Move, told
from jobyard.triggers.git.trigger import GitTrigger

if TYPE_CHECKING:
    from rich.table import Table

EVERY = 0.5
"""Seconds between two drawings."""


def live_files(clock: Clock) -> LiveFiles | None:
    """What shows files live; None where nobody would see it."""
    return LiveFiles(clock) if sys.stdout.isatty() else None


@dataclass(frozen=True, kw_only=True)
class ShownFile:
    """A file that is being processed, and its run as it stands."""

    name: str
    view: RunView


class LiveFiles:
    """Draws what is being processed at the bottom of a terminal, and prints what is said above it."""

    def __init__(self, clock: Clock) -> None:
        from rich.console import Console
        from rich.live import Live

        self._clock = clock
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._runs: dict[str, Run] = {}
        self._views: dict[str, RunView] = {}

    def note(self, run: Run) -> None:
        """The run's view may have changed."""
        self._runs[run.name] = run

    def move(self, move: Move) -> None:
        """A transition was pushed. What has ended is shown no more."""
        self.say("\n".join(told(move)))
        if move.target is not Place.PROCESSING:
            self._runs.pop(move.run, None)

    def say(self, text: str) -> None:
        self._console.print(on_terminal(text), markup=False, soft_wrap=True)

    @asynccontextmanager
    async def drawn(self, engine: ClusterEngine, trigger: GitTrigger) -> AsyncIterator[None]:
        """Draws as long as the context lasts."""
        with self._live:
            async with asyncio.TaskGroup() as tasks:
                tails = Tails(engine.cluster, tasks)
                drawing = tasks.create_task(self._keep_drawing(engine, trigger, tails))
                try:
                    yield
                finally:
                    drawing.cancel()
                    tails.close()

    async def _keep_drawing(self, engine: ClusterEngine, trigger: GitTrigger, tails: Tails) -> None:
        while True:
            self._look(engine, tails)
            files = [ShownFile(name=_file(self._runs[name]), view=view) for name, view in self._views.items()]
            room = max(shutil.get_terminal_size().lines - 3, 5)
            self._live.update(draw(files, trigger.seen.waiting, tails.last_lines(), self._clock.now(), room), refresh=True)
            await asyncio.sleep(EVERY)

    def _look(self, engine: ClusterEngine, tails: Tails) -> None:
        for name, run in list(self._runs.items()):
            view = engine.driven(run)
            if view is not None:
                tails.see(view)
                self._views[name] = tails.between_tries(view, lambda: None)
            elif name in self._views:  # driven here no more: it was released, or its file taken away
                del self._runs[name]
        for name in self._views.keys() - self._runs.keys():
            tails.forget(self._views.pop(name))


def _file(run: Run) -> str:
    return show(run.origin.get("file", run.name).rpartition("/")[2])


def draw(files: Sequence[ShownFile], waiting: int, last_lines: Mapping[str, str], now: datetime, room: int) -> Table:
    """The files as trees, in at most `room` lines. Pure."""
    from rich.table import Table
    from rich.text import Text

    grid = columns()
    ordered = sorted(files, key=lambda each: (each.view.started, each.name))
    shown = ordered if len(ordered) <= room - 1 else ordered[: room - 2]
    for file, steps in zip(shown, allot([_rows(each) for each in shown], room - 2), strict=True):
        view = file.view
        if len(view.steps) == 1:
            grid.add_row(*row(view.steps[0], 0, last_lines, now, file.name))
            continue
        head = Text(f"{render.MARKS[view.state]} {file.name}", style=render.STYLES[view.state])
        grid.add_row(head, Text(render.lasted(view, now), style="dim"), Text(render.summary(view), style="dim"))
        deep = depths(view.steps)
        for step in choose(view.steps, steps) if steps else ():
            grid.add_row(*row(step, deep.get(step.name, 0) + 1, last_lines, now))
    whole = Table.grid()
    if files:
        whole.add_row(grid)
    more = [f"{len(ordered) - len(shown)} more files are being processed"] if len(shown) < len(ordered) else []
    more += [f"{waiting} waiting in the queue"] if waiting else []
    if more or not files:
        whole.add_row(Text("; ".join(more) or "Nothing is queued or running.", style="dim"))
    return whole


def _rows(file: ShownFile) -> int:
    """How many lines a file's steps take below its own."""
    return len(file.view.steps) if len(file.view.steps) > 1 else 0


def allot(wanted: Sequence[int], room: int) -> list[int]:
    """How many lines of steps each file gets, when each has one of its own: the small ones all that they want, the others as much as they
    can alike. Pure."""
    left = max(room - len(wanted), 0)
    given = [0] * len(wanted)
    for place, index in enumerate(sorted(range(len(wanted)), key=lambda each: wanted[each])):
        given[index] = min(wanted[index], left // (len(wanted) - place))
        left -= given[index]
    return given
