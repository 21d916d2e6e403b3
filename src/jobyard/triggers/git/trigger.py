"""The trigger: look at the branch, decide, push, act; again when something happens.

The order that makes it safe, for a file that is queued: its run is submitted *held* (nothing starts), the move to `processing` is pushed,
and only then the run begins. A push that fails leaves a run that never began, which is forgotten; a crash after the push leaves a file in
`processing` whose run is held, which whoever looks next lets begin. So a file that a person moves, edits or deletes first never runs, of
two Jobyards one has its push accepted, and a file in `processing` whose run is not there has lost it: `unknown`, never started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from jobyard.contracts import Engine
from jobyard.files.reading_room import ReadingRoom
from jobyard.model import names
from jobyard.model.errors import innermost
from jobyard.model.run import Run
from jobyard.triggers.git import ending, moves
from jobyard.triggers.git.claims import Claims
from jobyard.triggers.git.following import Following
from jobyard.triggers.git.layout import ENDS, Layout, Place, QueueFile
from jobyard.triggers.git.manifests import Unread, Verdict, read_queued
from jobyard.triggers.git.moves import Move, Trailers
from jobyard.triggers.git.preparation import Preparation, Prepared
from jobyard.triggers.git.repository import Commit, Repository, against_rivals
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.together import QUIET, at_once


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one look at the branch came to."""

    moves: tuple[Move, ...] = ()
    running: int = 0
    """Files in `processing` whose runs go on."""
    waiting: int = 0
    """Files that stay queued for now."""


class GitTrigger:
    """Runs what is queued in one branch of one repository."""

    def __init__(self, repository: Repository, settings: Settings, url: str, say: Callable[[Move], None] = lambda _: None) -> None:
        """`url`: names the repository in keys; without passwords. `say`: is told of each transition once it is pushed."""
        self.repository = repository
        self.settings = settings
        self.url = url
        self.say = say
        self.pushed = ""
        """The last commit that we pushed: a webhook that tells of it tells nothing new."""
        self.wanted = asyncio.Event()
        """Somebody wants us to look."""
        branch = repository.source.branch
        self.name = f"git-{names.slug(url.rstrip('/').rsplit('/', 1)[-1].removesuffix('.git'), 30)}-{names.digest('git', url, branch)}"

    async def run(self, engine: Engine) -> None:
        async with self._serving(engine) as serving:
            while True:
                self.wanted.clear()
                await serving.run_once(timedelta(0))
                await self._pause()

    async def run_once(self, engine: Engine) -> Pass:
        """One pass: starts what is queued, moves what has ended, leaves what runs."""
        async with self._serving(engine) as serving:
            return await serving.run_once(QUIET)

    async def run_until_idle(self, engine: Engine) -> Pass:
        """Passes until nothing is queued or running any more."""
        async with self._serving(engine) as serving:
            while True:
                self.wanted.clear()
                done = await serving.run_once(timedelta(0))
                if not (done.running or done.waiting):
                    return done
                await self._pause()

    async def _pause(self) -> None:
        """Returns when somebody wants us to look, or it is time to."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.poll.total_seconds()):
                await self.wanted.wait()

    @asynccontextmanager
    async def _serving(self, engine: Engine) -> AsyncIterator[_Serving]:
        try:
            async with ReadingRoom(read_queued) as room, asyncio.TaskGroup() as tasks:
                serving = _Serving(self, engine, tasks, room)
                try:
                    yield serving
                finally:
                    serving.close()
        except BaseExceptionGroup as group:
            raise innermost(group) from group


class _Serving:
    """What is known while the branch is served. All of it can be read again from the branch and the cluster."""

    def __init__(self, trigger: GitTrigger, engine: Engine, tasks: asyncio.TaskGroup, room: ReadingRoom[Unread, Verdict]) -> None:
        self._trigger = trigger
        self._repository = trigger.repository
        self._settings = trigger.settings
        self._engine = engine
        self._claims = Claims(trigger.repository)
        self._following = Following(engine, trigger.name, trigger.repository, trigger.settings, tasks, trigger.wanted.set)
        self._preparation = Preparation(trigger.repository, engine, trigger.settings, trigger.name, trigger.url, room)
        self._prepared: dict[str, Prepared | str] = {}
        """From key to the run that is held for it, or why there can be none."""
        self._before: list[Run] | None = None
        """The runs that somebody cared for before our first look at the branch: read before it, or we might forget what another is just
        about to claim."""

    def close(self) -> None:
        self._following.close()

    async def run_once(self, quiet: timedelta) -> Pass:
        """Looks, decides, pushes, acts; anew when somebody else was faster."""
        if self._before is None:
            self._before = await self._engine.runs(self._trigger.name)
        return await against_rivals(lambda: self._try_once(quiet))

    async def _try_once(self, quiet: timedelta) -> Pass:
        tip, look = await self._repository.look(self._settings.base)
        started, keys = await self._queued(tip, look)
        ended, running = await self._processing(tip, look, quiet)
        moves = (*started, *ended)
        if moves:
            tip = await self._publish(tip, look, moves)
        await self._act(tip, look, moves, keys)
        waiting = len(look.files[Place.QUEUED]) - len({move.name for move in started})
        return Pass(moves=moves, running=running + sum(move.target is Place.PROCESSING for move in started), waiting=waiting)

    # --- what is queued ---

    async def _queued(self, tip: str, look: Layout) -> tuple[list[Move], set[str]]:
        """The moves of queued files, and the keys of all that are queued."""
        found: list[Move] = []
        files: list[QueueFile] = []
        for file in look.files[Place.QUEUED].values():
            others = [place for place in look.places(file.name) if place is not Place.QUEUED]
            if others and self._settings.drop_duplicates:
                found.append(Move(file=file, target=None, reason=f"A file of this name lies in {others[0]} already."))
            elif Place.PROCESSING not in others:  # else: its turn comes when that one has ended
                files.append(file)
        folder = look.path(Place.QUEUED, "")
        commits = await self._repository.introduced(tip, folder, [file.name for file in files])
        keyed = {_key(look.path(Place.QUEUED, file.name), file.oid, commits.get(file.name, tip)): file for file in files}
        new = {key: file for key, file in keyed.items() if key not in self._prepared}
        if new:
            self._prepared |= await self._preparation.prepare(tip, look, new, commits)
        for key, file in keyed.items():
            found += self._start(look, file, self._prepared.get(key))
        return found, set(keyed)

    def _start(self, look: Layout, file: QueueFile, prepared: Prepared | str | None) -> list[Move]:
        older = tuple(place for place in look.places(file.name) if place in ENDS)
        if prepared is None:
            return []  # there is no room for it yet
        if isinstance(prepared, str):
            lines = tuple(prepared.splitlines())
            replaces = tuple(place for place in older if place is not Place.FAILED)
            return [Move(file=file, target=Place.FAILED, reason=lines[0], lines=lines[1:], replaces=replaces)]
        run = prepared.run
        facts = (("Job", ", ".join(prepared.steps)), ("Namespace", run.namespace), ("Run", run.name))
        return [Move(file=file, target=Place.PROCESSING, run=run.name, namespace=run.namespace, facts=facts, replaces=older)]

    # --- what is being processed ---

    async def _processing(self, tip: str, look: Layout, quiet: timedelta) -> tuple[list[Move], int]:
        """The moves of files whose runs have ended, and how many go on."""
        files = look.files[Place.PROCESSING]
        await self._claims.learn(tip, look)
        claims = self._claims.of(files)
        for claim in claims.values():
            self._following.follow(claim, tip)
        await self._following.settle([claim.run for claim in claims.values()], quiet)
        found, ended, running = [], {}, 0
        for name, file in files.items():
            if name not in claims:
                found.append(Move(file=file, target=Place.UNKNOWN, reason="NotClaimed: no commit of Jobyard's says which run it is."))
                continue
            claim = claims[name]
            if not self._following.has_ended(claim.run):
                running += 1
            elif (result := self._following.result(claim.run)) is None:
                reason = f"RunNotFound: there is no run {claim.run} any more."
                found.append(Move(file=file, target=Place.UNKNOWN, run=claim.run, namespace=claim.namespace, reason=reason))
            else:
                ended[name] = result
        texts = await self._repository.blobs(files[name].oid for name in ended)
        found += [ending.leave(files[name], texts[files[name].oid], each) for name, each in ended.items()]
        return found, running

    # --- what comes of it ---

    async def _publish(self, tip: str, look: Layout, moves_: Sequence[Move]) -> str:
        """The branch's new tip."""
        groups: list[Sequence[Move]] = [[move] for move in moves_] if self._settings.commit_each else _by_kind(moves_)
        commits = [Commit(message=moves.message(group), edits=await self._repository.edits(look, group)) for group in groups]
        new = await self._repository.commit(tip, commits)
        await self._repository.publish(tip, new)
        self._trigger.pushed = new
        for move in moves_:
            self._trigger.say(move)
        return new

    async def _act(self, tip: str, look: Layout, moves_: Iterable[Move], keys: set[str]) -> None:
        """After the push: what was claimed begins, what has ended is released, what nobody wants any more is forgotten."""
        claimed = {move.run: move for move in moves_ if move.target is Place.PROCESSING}
        over = {move.run for move in moves_ if move.target is not Place.PROCESSING}
        held = {each.run.name: each.run for each in self._prepared.values() if isinstance(each, Prepared)}
        await at_once(self._engine.begin(held[run]) for run in claimed)
        for run, move in claimed.items():
            claim = Trailers(file=move.name, state=Place.PROCESSING, run=run, namespace=move.namespace)
            self._claims.note(claim)
            self._following.follow(claim, tip)
        in_use = {claim.run for claim in self._claims.of(look.files[Place.PROCESSING]).values()} | set(claimed)
        # A person may have taken the file of a run away: the run goes on, and is released when it ends.
        await self._following.see_off(lambda run: run in over or run not in in_use)
        for key, prepared in list(self._prepared.items()):
            run_ = prepared.run if isinstance(prepared, Prepared) else None
            if key in keys and not (run_ and run_.name in claimed):
                continue
            del self._prepared[key]
            if run_ and run_.name not in in_use:  # a person was faster: it is queued no more, or is another file now
                await self._engine.abandon(run_)
        if self._before:
            await self._tidy(tip, self._before, in_use, keys)
            self._before = []

    async def _tidy(self, tip: str, before: Iterable[Run], in_use: set[str], keys: set[str]) -> None:
        """After a restart: runs that were held for a push that never came are forgotten, others that no file stands for are seen off.

        Whoever else holds one of them pushes onto the commit that we have read, where its file is queued, or has pushed before it.
        """
        for run in before:
            origin = run.origin
            if run.name in in_use or _key(*(origin.get(part, "") for part in ("file", "blob", "commit"))) in keys:
                continue
            if run.held:
                await self._engine.abandon(run)
            else:
                self._following.follow(Trailers(file="", state="", run=run.name, namespace=run.namespace), tip)
        await self._following.settle_others(in_use, QUIET)
        await self._following.see_off(lambda run: run not in in_use)


def _key(path: str, blob: str, commit: str) -> str:
    """What makes a queued file the same request: where it lies, what it holds, and which commit queued it."""
    return "\0".join((path, blob, commit))


def _by_kind(moves_: Sequence[Move]) -> list[Sequence[Move]]:
    """One commit for all transitions, and one for what is thrown out of the queue."""
    kept = [move for move in moves_ if move.target is not None]
    gone = [move for move in moves_ if move.target is None]
    return [group for group in (gone, kept) if group]
