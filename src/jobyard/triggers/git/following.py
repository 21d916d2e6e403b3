"""The runs that files in `processing` stand for, followed to their ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta

from jobyard.contracts import Engine
from jobyard.model.errors import NoSuchRun
from jobyard.model.run import Run
from jobyard.triggers.git import ending
from jobyard.triggers.git.ending import Summary
from jobyard.triggers.git.moves import Trailers
from jobyard.triggers.git.repository import Repository
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.together import at_once, settle


class Following:
    """Lets runs that were claimed begin, and awaits their ends."""

    def __init__(
        self, engine: Engine, trigger: str, repository: Repository, settings: Settings, tasks: asyncio.TaskGroup, wake: Callable[[], None]
    ) -> None:
        """`trigger`: whose runs are followed without a question. `wake`: is called when one has ended."""
        self._engine = engine
        self._trigger = trigger
        self._repository = repository
        self._settings = settings
        self._tasks = tasks
        self._wake = wake
        self._followed: dict[str, asyncio.Task[Summary | None]] = {}

    def close(self) -> None:
        for task in self._followed.values():
            if not task.cancelling():
                task.cancel()

    def follow(self, claim: Trailers, tip: str) -> None:
        """Begins to, unless it is followed already. `tip`: the commit whose history says that the file is this run."""
        if claim.run not in self._followed:
            task = self._tasks.create_task(self._until_the_end(claim, tip), name=f"follow {claim.run}")
            self._followed[claim.run] = task
            task.add_done_callback(lambda _: self._wake())

    async def settle(self, runs: Iterable[str], quiet: timedelta) -> None:
        """Waits until all have ended, or none has for a while."""
        await settle([self._followed[run] for run in runs], quiet)

    def has_ended(self, run: str) -> bool:
        return self._followed[run].done()

    def result(self, run: str) -> Summary | None:
        """How a run that has ended did; None when there is no such run. Raises what kept us from knowing: then it is asked for anew."""
        try:
            return self._followed[run].result()
        except BaseException:
            del self._followed[run]
            raise

    async def see_off(self, wanted: Callable[[str], bool]) -> None:
        """Releases and forgets the runs that have ended and are wanted."""
        runs = [run for run, task in self._followed.items() if task.done() and wanted(run)]
        ended = [each for run in runs if (each := self.result(run)) is not None]
        await at_once(self._engine.release(each.run) for each in ended)
        for run in runs:
            del self._followed[run]

    async def settle_others(self, in_use: set[str], quiet: timedelta) -> None:
        """`settle` for those that are followed though no file stands for them."""
        await self.settle([run for run in self._followed if run not in in_use], quiet)

    async def _until_the_end(self, claim: Trailers, tip: str) -> Summary | None:
        """How the file's run ended; None when there is no such run. A run that is still held begins: its move was pushed."""
        if not self._settings.policy.allows_namespace(claim.namespace):
            return None
        try:
            run = await self._engine.find(claim.run, claim.namespace)
        except NoSuchRun:
            return None
        if not await self._is_of_here(run, claim, tip):
            return None
        if run.held:
            await self._engine.begin(run)
        outcome = await self._engine.outcome(run)
        return await ending.summarize(self._engine, run, outcome, self._settings.log_lines)

    async def _is_of_here(self, run: Run, claim: Trailers, tip: str) -> bool:
        """Whether this repository started the run. Anybody who can push can write a commit that says so, and would be told its log."""
        if run.trigger == self._trigger:
            return True
        # Another Jobyard may know the repository by another address: then the commit that queued the file is in our history all the same.
        origin = run.origin
        if origin.get("file", "").rpartition("/")[2] != claim.file:
            return False
        return await self._repository.contains(tip, origin.get("commit", ""))
