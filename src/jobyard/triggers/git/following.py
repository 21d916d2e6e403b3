"""The runs that files in `processing` stand for, followed to their ends. What goes wrong with one is that one's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta

from jobyard.contracts import Engine
from jobyard.model.errors import GitFailed, JobyardError, NoSuchRun, Rejected, Unavailable
from jobyard.model.run import Run
from jobyard.patience import CLUSTER
from jobyard.triggers.git import ending
from jobyard.triggers.git.ending import Summary
from jobyard.triggers.git.moves import Trailers
from jobyard.triggers.git.repository import Repository
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.together import Telling, at_once, settle

log = logging.getLogger("jobyard.git")

Claim = tuple[str, str]
"""A run, and the file that stands for it; '' for none. Several files may say that they are one run: each is answered for itself."""
Answer = Summary | str
"""How a run ended, or why nobody can say."""
_PASSES = (Unavailable, Rejected, GitFailed)
"""What may be another answer the next time."""


class Following:
    """Lets runs that were claimed begin, and awaits their ends."""

    def __init__(
        self,
        engine: Engine,
        trigger: str,
        repository: Repository,
        settings: Settings,
        tasks: asyncio.TaskGroup,
        wake: Callable[[], None],
        telling: Telling,
    ) -> None:
        """`trigger`: whose runs are followed without a question. `wake`: is called when one has ended."""
        self._engine = engine
        self._trigger = trigger
        self._repository = repository
        self._settings = settings
        self._tasks = tasks
        self._wake = wake
        self._telling = telling
        self._followed: dict[Claim, asyncio.Task[Answer]] = {}

    def close(self) -> None:
        for task in self._followed.values():
            if not task.cancelling():
                task.cancel()

    def follow(self, claim: Trailers, tip: str) -> None:
        """Begins to, unless it is followed already. `tip`: the commit whose history says that the file is this run."""
        if _key(claim) not in self._followed:
            task = self._tasks.create_task(self._patiently(claim, tip), name=f"follow {claim.run}")
            self._followed[_key(claim)] = task
            task.add_done_callback(lambda _: self._wake())

    async def settle(self, claims: Iterable[Trailers], quiet: timedelta) -> None:
        """Waits until all have ended, or none has for a while."""
        await settle([self._followed[_key(claim)] for claim in claims], quiet)

    def goes_on(self, claim: Trailers) -> bool:
        """Whether it is followed and has not ended."""
        task = self._followed.get(_key(claim))
        return task is not None and not task.done()

    def result(self, claim: Trailers) -> Answer:
        """How a run that has ended did, or why nobody can say."""
        return self._followed[_key(claim)].result()

    async def see_off(self, wanted: Callable[[Claim], bool]) -> None:
        """Releases and forgets the runs that have ended and are wanted. One that can't be released now is the next time."""
        await at_once(self._see_off(claim) for claim, task in list(self._followed.items()) if task.done() and wanted(claim))

    async def _see_off(self, claim: Claim) -> None:
        run, answer = claim[0], self._followed[claim].result()
        if isinstance(answer, Summary):
            try:
                await self._engine.release(answer.run)
            except _PASSES as error:
                self._telling.tell(run, f"run {run} can't be released yet: {error}")
                return
            except Exception as error:
                log.info("run %s could not be released", run, exc_info=error)
                self._telling.tell(run, f"run {run} can't be released: {error}. `jobyard clean` removes it")
        self._telling.forget(run)
        del self._followed[claim]

    async def settle_others(self, in_use: Collection[Claim], quiet: timedelta) -> None:
        """`settle` for those that are followed though no file stands for them."""
        await settle([task for claim, task in self._followed.items() if claim not in in_use], quiet)

    async def _patiently(self, claim: Trailers, tip: str) -> Answer:
        """How the file's run ended. What may pass is waited out; whatever else breaks over one run is the end of following that one alone."""
        failures = 0
        while True:
            try:
                return await self._until_the_end(claim, tip)
            except _PASSES as error:
                failures += 1
                self._telling.tell(claim.run, f"{claim.file or claim.run} can't be followed at the moment: {error}")
                await asyncio.sleep(CLUSTER.draw(failures, error))
            except JobyardError as error:
                return f"{type(error).__name__}: {error}"
            except Exception as error:
                log.info("run %s can't be followed", claim.run, exc_info=error)
                return f"NotFollowed: run {claim.run} can't be followed ({type(error).__name__}: {error}). Its Jobs go on; `jobyard show` shows it"

    async def _until_the_end(self, claim: Trailers, tip: str) -> Answer:
        """How the file's run ended. A run that is still held begins: its move was pushed."""
        gone = f"RunNotFound: run {claim.run} no longer exists."
        if not self._settings.policy.allows_namespace(claim.namespace):
            return gone
        try:
            run = await self._engine.find(claim.run, claim.namespace)
        except NoSuchRun:
            return gone
        if not await self._is_of_here(run, claim, tip):
            return gone
        if run.held:
            await self._engine.begin(run)
        outcome = await self._engine.outcome(run)
        try:
            return await ending.summarize(self._engine, run, outcome, self._settings.log_lines)
        except Exception as error:
            log.info("the end of run %s can't be reported in full", run.name, exc_info=error)
            return ending.bare(run, outcome, f"{type(error).__name__}: {error}")

    async def _is_of_here(self, run: Run, claim: Trailers, tip: str) -> bool:
        """Whether this repository started the run, of this file. Anybody who can push can write a commit that says so, and would be told its
        log, or keep the end of it from the file that it is."""
        origin = run.origin
        named = origin.get("file", "").rpartition("/")[2]
        if run.trigger == self._trigger:
            return not (named and claim.file) or named == claim.file
        # Another Jobyard may know the repository by another address: then the commit that queued the file is in our history all the same.
        if named != claim.file:
            return False
        return await self._repository.contains(tip, origin.get("commit", ""))


def _key(claim: Trailers) -> Claim:
    return claim.run, claim.file
