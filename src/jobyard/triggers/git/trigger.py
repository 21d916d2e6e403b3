"""The trigger: look at the branch, decide, push, act; again when something happens.

The order that makes it safe, for a file that is queued: its run is submitted *held* (nothing starts), the move to `processing` is pushed,
and only then the run begins. A push that fails leaves a run that never began, which is forgotten; a crash after the push leaves a file in
`processing` whose run is held, which whoever looks next lets begin. So a file that a person moves, edits or deletes first never runs, of
two Jobyards one has its push accepted, and a file in `processing` whose run is not there has lost it: `unknown`, never started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from jobyard.contracts import Engine
from jobyard.files.reading_room import ReadingRoom
from jobyard.model import names
from jobyard.model.errors import GitFailed, JobyardError, innermost
from jobyard.model.run import Run
from jobyard.triggers.git import ending, layout, moves
from jobyard.triggers.git.claims import Claims
from jobyard.triggers.git.ending import Summary
from jobyard.triggers.git.following import Claim, Following
from jobyard.triggers.git.introductions import Introductions
from jobyard.triggers.git.layout import ENDS, Layout, Place, QueueFile
from jobyard.triggers.git.moves import Move, Trailers
from jobyard.triggers.git.objects import is_oid
from jobyard.triggers.git.preparation import Answer, Preparation, Prepared
from jobyard.triggers.git.repository import Commit, Repository, against_rivals
from jobyard.triggers.git.secrecy import tellable
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.together import QUIET, Telling, at_once
from jobyard.triggers.git.turns import LISTED, Turns, at_work, choose

log = logging.getLogger("jobyard.git")

TOLD_TOGETHER = 250
"""Of how many files one commit tells."""
REMEMBERED = 1000
"""How many pushes that we were told of are remembered, so that one that is told of twice is looked at once."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one look at the branch came to."""

    moves: tuple[Move, ...] = ()
    running: int = 0
    """Files in `processing` whose runs go on."""
    waiting: int = 0
    """Files that stay queued for now."""
    untried: int = 0
    """Those of them that were not tried yet: there were others before them."""
    trouble: JobyardError | None = None
    """What keeps a file waiting that is no limit, and passes by itself."""

    def and_then(self, later: Pass) -> Pass:
        """Both as one."""
        return dataclasses.replace(later, moves=(*self.moves, *later.moves))


class GitTrigger:
    """Runs what is queued in one branch of one repository."""

    def __init__(
        self,
        repository: Repository,
        settings: Settings,
        url: str,
        say: Callable[[Move], None] = lambda _: None,
        tell: Callable[[str], None] = lambda _: None,
        name: str = "",
    ) -> None:
        """`url`: names the repository in keys; without passwords. `say`: is told of each transition once it is pushed; `tell`, in words, what
        goes wrong with one file while the others go on. `name`: the trigger's; '' for one that is made from address and branch."""
        self.repository = repository
        self.settings = settings
        self.url = url
        self.say = say
        self.tell = tell
        self.pushed = ""
        """The last commit that we pushed: a webhook that tells of it tells nothing new."""
        self.wanted = asyncio.Event()
        """Somebody wants us to look."""
        self.seen = Pass()
        """What the last look came to, while somebody goes on looking."""
        self._heard: dict[str, None] = {}
        branch = repository.source.branch
        self.name = (
            name or f"git-{names.slug(url.rstrip('/').rsplit('/', 1)[-1].removesuffix('.git'), 30)}-{names.digest('git', url, branch)}"
        )

    def hear(self, commit: str) -> None:
        """Somebody says that the branch has moved, to this commit where they know. Our own pushes are no news, nor what was told before."""
        if commit and (commit == self.pushed or commit in self._heard):
            return
        if is_oid(commit):
            self._heard[commit] = None
        while len(self._heard) > REMEMBERED:
            del self._heard[next(iter(self._heard))]
        self.wanted.set()

    async def run(self, engine: Engine) -> None:
        """Raises what keeps files waiting where nothing goes on, GitFailed."""
        async with self._serving(engine) as serving:
            while True:
                self.wanted.clear()
                self.seen = await serving.run_once(timedelta(0))
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
                self.seen = done = await serving.run_once(timedelta(0))
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
            async with ReadingRoom() as room, asyncio.TaskGroup() as tasks:
                serving = _Serving(self, engine, tasks, room)
                try:
                    yield serving
                finally:
                    serving.close()
        except BaseExceptionGroup as group:
            raise innermost(group) from group


class _Serving:
    """What is known while the branch is served. All of it can be read again from the branch and the cluster."""

    def __init__(self, trigger: GitTrigger, engine: Engine, tasks: asyncio.TaskGroup, room: ReadingRoom) -> None:
        self._trigger = trigger
        self._room = room
        self._repository = trigger.repository
        self._settings = trigger.settings
        self._engine = engine
        self._telling = Telling(trigger.tell)
        self._claims = Claims(trigger.repository)
        self._introductions = Introductions(trigger.repository)
        self._following = Following(engine, trigger.name, trigger.repository, trigger.settings, tasks, trigger.wanted.set, self._telling)
        self._preparation = Preparation(trigger.repository, engine, trigger.settings, trigger.name, trigger.url, room)
        self._prepared: dict[str, Prepared | str] = {}
        """From key to the run that is held for it, or why there can be none."""
        self._tries: Counter[str] = Counter()
        """From key to how often it was tried in vain to make a run of it."""
        self._turns = Turns()
        self._is_whole = True
        """Whether all of `processing` was looked at the last time."""
        self._before: list[Run] | None = None
        """The runs that somebody cared for before our first look at the branch: read before it, or we might forget what another is just
        about to claim."""
        self._found: list[Run] = []
        """The same, of namespaces that were opened since."""
        self._tasks = tasks
        self._openings: list[asyncio.Task[None]] | None = None

    def close(self) -> None:
        self._following.close()
        for opening in self._openings or ():
            opening.cancel()

    async def run_once(self, quiet: timedelta) -> Pass:
        """Looks, decides, pushes, acts, until every file that is queued was tried; anew when somebody else was faster. Raises what files
        wait for where nothing else goes on."""
        if self._openings is None:
            named = sorted(self._settings.policy.namespaces or ())
            self._openings = [self._tasks.create_task(self._open(name), name=f"opening {name}") for name in named]
        done = await against_rivals(lambda: self._try_once(quiet))
        while done.untried:
            done = done.and_then(await against_rivals(lambda: self._try_once(quiet)))
        if done.trouble is not None and not (done.moves or done.running):
            raise done.trouble
        return done

    async def _open(self, namespace: str) -> None:
        """Has what was left in a namespace seen to. One that can't be seen just now keeps nobody waiting."""
        with contextlib.suppress(JobyardError):
            found = await self._engine.runs(self._trigger.name, namespace)
            self._found += found
            if found:
                self._trigger.wanted.set()

    async def _try_once(self, quiet: timedelta) -> Pass:
        if self._before is None:
            self._before = await self._engine.runs(self._trigger.name)
        self._before, self._found = self._before + self._found, []
        tip, look = await self._repository.look(self._settings.base)
        started, keys, troubles, unread = await self._queued(tip, look)
        untried = unread + sum(key not in self._prepared and not self._tries[key] for key in keys)
        ended, running = await self._processing(tip, look, quiet)
        moves = (*started, *ended)
        if moves:
            tip = await self._publish(tip, look, moves)
        if unread:  # whether the files of those before us are queued is known when all was read
            self._before, self._found = [], self._before + self._found
        await self._act(tip, look, moves, keys)
        return Pass(
            moves=moves,
            running=running + sum(move.target is Place.PROCESSING for move in started),
            waiting=len(look.files[Place.QUEUED]) - len({move.name for move in started}),
            untried=untried,
            trouble=next(iter(troubles), None),
        )

    # --- what is queued ---

    async def _queued(self, tip: str, look: Layout) -> tuple[list[Move], set[str], list[JobyardError], int]:
        """The moves of queued files; the keys of those that are looked at; what keeps some of them waiting; how many have yet to be looked at."""
        found: list[Move] = []
        files: list[QueueFile] = []
        held = {_name(key) for key in self._prepared}
        window, unread = await asyncio.to_thread(self._turns.next, look.files[Place.QUEUED], held)
        for file in window:
            others = [place for place in look.places(file.name) if place is not Place.QUEUED]
            if others and self._settings.drop_duplicates:
                found.append(Move(file=file, target=None, reason=f"A file of this name is already in {others[0]}."))
            elif Place.PROCESSING not in others:  # else: its turn comes when that one has ended
                files.append(file)
        introduced = await self._introductions.of(tip, look.path(Place.QUEUED, ""), {file.name: file.oid for file in files})
        commits = introduced.commits
        known = [file for file in files if file.name not in introduced.unread]
        keyed = {_key(look.path(Place.QUEUED, file.name), file.oid, commits.get(file.name, tip)): file for file in known}
        answers = await self._prepare(tip, look, {key: file for key, file in keyed.items() if key not in self._prepared}, commits)
        for key in [key for key in self._tries if key not in keyed and _name(key) not in self._turns]:
            del self._tries[key]
        for key, file in keyed.items():
            found += self._start(look, file, self._prepared.get(key))
        troubles = [each for each in answers.values() if isinstance(each, JobyardError)]
        return found, set(keyed), troubles, unread + len(introduced.unread)

    async def _prepare(self, tip: str, look: Layout, new: dict[str, QueueFile], commits: Mapping[str, str]) -> dict[str, Answer | None]:
        """Tries to make held runs of as many new files as may be read at once."""
        sizes = await self._repository.objects.find({file.oid for file in new.values()})
        sized = {key: dataclasses.replace(file, size=sizes[file.oid].size if file.oid in sizes else None) for key, file in new.items()}
        tried = choose(sized, commits, self._tries)
        answers = await self._preparation.prepare(tip, look, tried, commits, self._tries) if tried else {}
        for key, file in tried.items():
            if key not in answers:
                continue  # there was no time to read it
            answer = answers[key]
            if isinstance(answer, Prepared | str):
                self._prepared[key] = answer
                self._telling.forget(file.name)
            else:
                self._tries[key] += 1
            if isinstance(answer, JobyardError):
                self._telling.tell(file.name, f"{file.name} stays queued: {answer}")
        return answers

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
        there, was_whole = look.files[Place.PROCESSING], self._is_whole
        going = {name for name, claim in self._claims.of(there).items() if self._following.goes_on(claim)}
        files = await asyncio.to_thread(at_work, there, going)
        self._is_whole = len(files) == len(there)
        await self._claims.learn(tip, look, files, is_whole=was_whole and self._is_whole)
        claims = self._claims.of(files)
        for claim in claims.values():
            self._following.follow(claim, tip)
        await self._following.settle(claims.values(), quiet)
        found, running = list[Move](), len(there) - len(files)
        ended: list[tuple[QueueFile, Summary]] = []
        for name, file in files.items():
            if name not in claims:
                found.append(Move(file=file, target=Place.UNKNOWN, reason="NotClaimed: no commit of Jobyard's says which run it is."))
                continue
            claim = claims[name]
            if self._following.goes_on(claim):
                running += 1
                continue
            answer = self._following.result(claim)
            if isinstance(answer, Summary):
                ended.append((file, answer))
            else:
                found.append(Move(file=file, target=Place.UNKNOWN, run=claim.run, namespace=claim.namespace, reason=answer))
        for start in range(0, len(ended), TOLD_TOGETHER):
            found += await self._leave(ended[start : start + TOLD_TOGETHER], tip)
        return found, running

    async def _leave(self, ended: Sequence[tuple[QueueFile, Summary]], tip: str) -> list[Move]:
        """The moves of files whose runs have ended, without what nobody may be told."""
        objects = self._repository.objects
        await objects.hold(oid for file, answer in ended for oid in (file.oid, answer.run.origin.get("blob", "")) if is_oid(oid))
        moves_ = []
        for file, answer in ended:
            told = await tellable(objects, file, answer.run, tip, self._room, ending.texts(answer), moves.LINE_LENGTH)
            moves_.append(ending.leave(file, answer, told))
        return moves_

    # --- what comes of it ---

    async def _publish(self, tip: str, look: Layout, moves_: Sequence[Move]) -> str:
        """The branch's new tip."""
        groups: list[Sequence[Move]] = [[move] for move in moves_] if self._settings.commit_each else _by_kind(moves_)
        groups = [group[start : start + TOLD_TOGETHER] for group in groups for start in range(0, len(group), TOLD_TOGETHER)]
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
        over = {(move.run, move.name) for move in moves_ if move.target is not Place.PROCESSING}
        held = {each.run.name: each.run for each in self._prepared.values() if isinstance(each, Prepared)}
        await at_once(self._quietly(self._engine.begin(held[run]), f"run {run} does not begin yet") for run in claimed)
        for run, move in claimed.items():
            claim = Trailers(file=move.name, state=Place.PROCESSING, run=run, namespace=move.namespace)
            self._claims.note(claim)
            self._following.follow(claim, tip)
        stand = {(claim.run, claim.file) for claim in self._claims.of(look.files[Place.PROCESSING]).values()}
        stand |= {(run, move.name) for run, move in claimed.items()}
        in_use = {run for run, _ in stand}
        # A person may have taken the file of a run away: the run goes on, and is released when it ends.
        await self._following.see_off(lambda claim: claim in over or claim not in stand)
        for key, prepared in list(self._prepared.items()):
            run_ = prepared.run if isinstance(prepared, Prepared) else None
            if key in keys and not (run_ and run_.name in claimed):
                continue
            del self._prepared[key]
            if run_ and run_.name not in in_use:  # a person was faster: it is queued no more, or is another file now
                await self._quietly(
                    self._engine.abandon(run_), f"run {run_.name} is held but not needed any more, and could not be deleted"
                )
        if self._before:
            crowded = [place for place in (Place.QUEUED, Place.PROCESSING) if len(look.files[place]) > LISTED]
            known = [run for run in self._before if not any(_file(run) in look.files[place] for place in crowded)]
            await self._tidy(tip, [run for run in known if not await self._is_served_apart(tip, look, run)], stand, keys)
            self._before = []

    async def _tidy(self, tip: str, before: Iterable[Run], stand: set[Claim], keys: set[str]) -> None:
        """After a restart: runs that were held for a push that never came are forgotten, others that no file stands for are seen off.

        Not those whose files may lie among too many to be looked at. Whoever else holds one of them pushes onto the commit that we have read,
        where its file is queued, or has pushed before it.
        """
        in_use = {run for run, _ in stand}
        for run in before:
            origin = run.origin
            if run.name in in_use or _key(*(origin.get(part, "") for part in ("file", "blob", "commit"))) in keys:
                continue
            if run.held:
                await self._quietly(self._engine.abandon(run), f"run {run.name} is held but not needed any more, and could not be deleted")
            else:
                self._following.follow(Trailers(file="", state="", run=run.name, namespace=run.namespace), tip)
        await self._following.settle_others(stand, QUIET)
        await self._following.see_off(lambda claim: claim not in stand)

    async def _is_served_apart(self, tip: str, look: Layout, run: Run) -> bool:
        """Whether the run is of other folders of this branch, which somebody else looks after. Of folders that are no more, nobody does."""
        base = layout.base_of(run.origin.get("file", ""))
        if base is None or base == look.base:
            return False
        return bool(await self._repository.objects.find(f"{tip}:{path.rstrip('/')}" for path in layout.folders(base)))

    async def _quietly(self, call: Awaitable[None], otherwise: str) -> None:
        """Makes a call that is about one run: what goes wrong with it is told, and is that one's own."""
        try:
            await call
        except GitFailed:
            raise
        except Exception as error:
            log.debug("%s", otherwise, exc_info=error)
            self._telling.tell(otherwise, f"{otherwise}: {error}")


def _key(path: str, blob: str, commit: str) -> str:
    """What makes a queued file the same request: where it lies, what it holds, and which commit queued it."""
    return "\0".join((path, blob, commit))


def _file(run: Run) -> str:
    """The name of the file that a run was made of."""
    return run.origin.get("file", "").rpartition("/")[2]


def _name(key: str) -> str:
    """The name of the file that a key is of."""
    return key.partition("\0")[0].rpartition("/")[2]


def _by_kind(moves_: Sequence[Move]) -> list[Sequence[Move]]:
    """One commit for all transitions, and one for what is thrown out of the queue."""
    kept = [move for move in moves_ if move.target is not None]
    gone = [move for move in moves_ if move.target is None]
    return [group for group in (gone, kept) if group]
