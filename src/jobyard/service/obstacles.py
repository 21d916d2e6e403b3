"""Says what keeps runs from running, once it is known: for those who look after many runs and show none of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine
from jobyard.engine.signals import Signal
from jobyard.model.run import Run, RunView
from jobyard.model.words import words
from jobyard.service.about import about
from jobyard.service.reasons import as_text, discreet, held_up
from jobyard.service.target import Target

log = logging.getLogger("jobyard.service")

REMEMBERED = 10_000
"""Of how many runs we know at most what was said of them."""


class Obstacles:
    """Is told of runs that changed, and says each obstacle of each run once."""

    def __init__(
        self, title: Callable[[Run], str], say: Callable[[str], None], target: Target, told: Callable[[Run], None] = lambda _: None
    ) -> None:
        """`title`: how a person knows the run; `say` is called with each line; `target`: where the commands that are named must lead;
        `told`: is told of each run that changed, too."""
        self._title, self._say, self._target, self._told = title, say, target, told
        self._clock = SystemClock()
        self._news = Signal()
        self._changed: dict[str, Run] = {}
        self._said: dict[str, set[tuple[str, str]]] = {}

    def note(self, run: Run) -> None:
        """The run's view may have changed."""
        self._changed[run.id] = run
        self._news.set()
        self._told(run)

    @asynccontextmanager
    async def said(self, engine: ClusterEngine) -> AsyncIterator[None]:
        """Says them as long as the context lasts."""
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._keep_telling(engine), name="obstacles")
            try:
                yield
            finally:
                telling.cancel()

    async def _keep_telling(self, engine: ClusterEngine) -> None:
        while True:
            await self._news.wait()
            changed, self._changed = self._changed, {}
            for run in changed.values():
                with about(trigger=run.trigger, run=run.name):
                    for line in self._news_of(engine, run):
                        self._say(line)
            while len(self._said) > REMEMBERED:  # of runs that are driven elsewhere now, or whose end nobody told us
                del self._said[next(iter(self._said))]
            await asyncio.sleep(1.0)  # a large run changes many times a second, and nobody is in that hurry

    def _news_of(self, engine: ClusterEngine, run: Run) -> list[str]:
        """What is to be said of a run now. What breaks over one is the end of nothing else."""
        try:
            view = engine.driven(run)
            if view is None or view.state.is_end:
                self._said.pop(run.id, None)
                return []
            return self._lines(run, view)
        except Exception as error:
            log.warning("what holds up run %s can't be said", run.name, exc_info=error)
            return []

    def _lines(self, run: Run, view: RunView) -> list[str]:
        said, lines = self._said.setdefault(run.id, set()), list[str]()
        for answer, shown in zip(held_up(view), held_up(view, self._clock.now()), strict=True):
            # By its stable words: a message may count seconds or pods, and would be news for ever.
            known = (answer.about, words(answer.diagnosis.reason) if answer.diagnosis else answer.sentence)
            if known not in said:
                said.add(known)
                first, *more = as_text(discreet(shown))
                lines += [f"{self._title(run)}: {first}", *more]
                if answer.has_log:
                    lines.append(f"  its log: {self._target.logs_command(run.name, answer.step, run.namespace)}")
        return lines


def by_file(run: Run) -> str:
    """How a person knows a run: by its file, where it came from one."""
    return run.origin.get("file", run.name).rpartition("/")[2]
