"""A repository and its branch: read as a tree, changed by commits on the tip that was read, published or not at all.

Nothing is checked out: commits are made of new folders alone, so a person's working tree and index are left alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from jobyard.model.errors import GitFailed, NoAnswer, Overtaken
from jobyard.patience import Backoff, patiently
from jobyard.triggers.git import layout
from jobyard.triggers.git.command import Git
from jobyard.triggers.git.credentials import NOBODY, Login
from jobyard.triggers.git.layout import KEEP, Layout, Names
from jobyard.triggers.git.lock import alone
from jobyard.triggers.git.moves import FILE, Move
from jobyard.triggers.git.objects import Edit, Objects, is_oid

SHALLOW_STEP = 200
"""How many more commits are fetched at a time, where a shallow clone does not reach back far enough."""
FOLLOWED = 200_000
"""How many files and folders a commit may have so that a working tree follows it."""
TIDIED_EVERY = 100
"""After how many new tips git looks after its objects."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FETCH = ("--no-tags", "--no-recurse-submodules", "--no-auto-maintenance")
_CHECKED_AT_ONCE, _CHECKED_BYTES = 200, 4 * 1024 * 1024
"""Of how many commits, with how much in their messages, it is asked at once what they changed."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a branch is."""

    folder: Path
    """A clone: its own bare one, or one that a person works in."""
    branch: str
    remote: str = ""
    """The remote's name or address; empty for a repository that has none."""
    identity: tuple[str, str] | None = None
    login: Login = NOBODY
    is_partial: bool = False
    """The clone lacks objects, which git fetches when they are asked for."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A commit that tells of files: who it comes after, when it was made, and its message."""

    commit: str
    parents: tuple[str, ...]
    at: datetime
    text: str


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit of ours in the making: its message and what it changes."""

    message: str
    edits: tuple[Edit, ...]


class Repository:
    """One branch of one repository."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.git = Git(source.folder, source.identity, source.login, is_partial=source.is_partial)
        self.objects = Objects(self.git)
        self._ref = f"refs/jobyard/{source.branch}"
        self._fetched, self._tips = "", 0
        """The tip that was fetched last, and how many there were."""
        self._tree = ("", "")
        """The last tip that was looked at, and its tree."""
        self._ancestors: dict[tuple[str, str], bool] = {}
        """What was said last of commits in the history of others."""
        self._own: dict[str, str] = {}
        """What git said of this clone, and does not change."""

    async def fetch(self) -> str:
        """The branch's newest commit. Raises GitFailed: the remote is away, refuses, or has no such branch."""
        source = self.source
        if source.remote:
            refs = f"+refs/heads/{source.branch}:{self._ref}"
            tip = await self._fetch(refs)
            if tip != self._fetched:
                self._fetched, self._tips = tip, self._tips + 1
                if self._tips % TIDIED_EVERY == 1:
                    await self._tidy()
            return tip
        return await self._resolve(f"refs/heads/{source.branch}")

    async def _tidy(self) -> None:
        """Has git look after its objects. Apart from the fetch: it goes on by itself, and need not know who we are."""
        await self.git.run("gc", "--auto", "--quiet", accept=range(256))

    async def _ask(self, *words: str) -> str:
        """What git says of this clone, and will not say otherwise."""
        key = " ".join(words)
        if key not in self._own:
            self._own[key] = os.fsdecode(await self.git(*words)).strip()
        return self._own[key]

    async def _fetch(self, refs: str) -> str:
        async with self._alone() as lock:
            await self.git("fetch", "--quiet", *_FETCH, "--no-write-fetch-head", self.source.remote, refs, keep=lock)
            return await self._resolve(self._ref)

    async def is_empty(self) -> bool:
        """Whether there is no branch at all yet."""
        if self.source.remote:
            return not (await self.git("ls-remote", "--heads", self.source.remote)).strip()
        return not (await self.git("for-each-ref", "refs/heads")).strip()

    async def _resolve(self, ref: str) -> str:
        done = await self.git.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", accept=(0, 1))
        if done.code:
            raise GitFailed(
                action="read", message=f"there is no branch {self.source.branch}", remedy=": `jobyard git init` makes its first commit"
            )
        return done.out.decode().strip()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[int]:
        """The right to write our ref, held by this process and by the git that it starts: it outlives us where we are killed."""
        git_folder = Path(await self._ask("rev-parse", "--absolute-git-dir"))
        async with alone(git_folder / "jobyard.lock") as lock:
            # Nobody else writes this ref now: a lock file of git's own is what a kill left behind.
            (git_folder / f"{self._ref}.lock").unlink(missing_ok=True)
            yield lock

    async def look(self, base: str | None) -> tuple[str, Layout]:
        """The branch's newest commit, and what lies in its folders. Raises GitFailed."""
        tip = await self.fetch()
        return tip, await self.layout(tip, base)

    async def layout(self, tip: str, base: str | None) -> Layout:
        """What lies in a commit's folders ('' for no commit): each is listed as it is, and nothing below it. Raises GitFailed."""
        if not tip:
            return layout.read({}, base)
        paths = {f"{tip}:{path.rstrip('/')}": path for path in layout.folders(base)}
        found = await self.objects.find([f"{tip}^{{tree}}", *paths])
        self._tree = (tip, found[f"{tip}^{{tree}}"].oid)
        trees = await self.objects.open(found.values())
        there: dict[str, Names] = {paths[name]: trees[each.oid] for name, each in found.items() if name in paths and each.oid in trees}
        return layout.read(there, base)

    # --- history ---

    async def told(self, tip: str, since: str, folders: Sequence[str]) -> AsyncGenerator[Told, None]:
        """The commits that tell of files and changed one of the folders, the newest first; `since` (exclusive) ends them, where it is an
        ancestor. Nobody looks into the folders for that: what one holds may be without end."""
        range_ = f"{since}..{tip}" if since and await self.contains(tip, since) else tip
        words = ("log", "--format=%H%x1f%P%x1f%cI%x1f%B%x00", "-z", "--no-show-signature", "--no-notes")
        only = ("--basic-regexp", f"--grep=^{FILE}: ", range_, "--")
        group: list[Told] = []
        async with self.git.lines(*words, *only, separator=b"\0\0") as commits:
            async for each in commits:
                commit, parents, at, text = (each.decode(errors="replace").strip("\0\n") + "\x1f" * 3).split("\x1f", 3)
                group.append(Told(commit=commit, parents=tuple(parents.split()), at=_moment(at), text=text.rstrip("\x1f")))
                if len(group) >= _CHECKED_AT_ONCE or sum(len(one.text) for one in group) > _CHECKED_BYTES:
                    for one in await self._changing(group, folders):
                        yield one
                    group = []
        for one in await self._changing(group, folders):
            yield one

    async def _changing(self, commits: Sequence[Told], folders: Sequence[str]) -> list[Told]:
        """Those of the commits in which a folder is another than in each commit before them."""
        trees = [folder.rstrip("/") for folder in folders]
        known = await self.objects.find(f"{commit}:{tree}" for each in commits for commit in (each.commit, *each.parents) for tree in trees)

        def at(commit: str, tree: str) -> str:
            return known[f"{commit}:{tree}"].oid if f"{commit}:{tree}" in known else ""

        def changes(each: Told, tree: str) -> bool:
            return at(each.commit, tree) not in ([at(parent, tree) for parent in each.parents] or [""])

        return [each for each in commits if any(changes(each, tree) for tree in trees)]

    async def contains(self, tip: str, commit: str) -> bool:
        """Whether a commit is in the history of the tip."""
        if not is_oid(commit):
            return False
        if (commit, tip) not in self._ancestors:
            while len(self._ancestors) > 100:
                del self._ancestors[next(iter(self._ancestors))]
            done = await self.git.run("merge-base", "--is-ancestor", commit, tip, accept=(0, 1, 128))
            self._ancestors[commit, tip] = done.code == 0
        return self._ancestors[commit, tip]

    async def deepen(self) -> bool:
        """Fetches more history, where the clone is shallow; False when there is no more."""
        shallow = (await self.git("rev-parse", "--is-shallow-repository")).strip() == b"true"
        if not shallow or not self.source.remote:
            return False
        async with self._alone() as lock:
            refs = f"+refs/heads/{self.source.branch}:{self._ref}"
            await self.git("fetch", "--quiet", *_FETCH, f"--deepen={SHALLOW_STEP}", self.source.remote, refs, keep=lock)
        self._ancestors.clear()
        return True

    # --- change ---

    async def commit(self, tip: str, commits: Sequence[Commit]) -> str:
        """Stacks commits on the tip ('' for a first one); the last one's id. Nothing is published yet."""
        sign = ["-S"] if (await self.git("config", "--bool", "--default", "false", "commit.gpgsign")).strip() == b"true" else []
        tree = self._tree[1] if tip and self._tree[0] == tip else ""
        if tip and not tree:
            tree = (await self.objects.find([f"{tip}^{{tree}}"]))[f"{tip}^{{tree}}"].oid
        trees = []
        for each in commits:
            trees.append(tree := await self.objects.tree(tree, each.edits))
        await self.objects.store()
        for each, tree in zip(commits, trees, strict=True):
            before = ["-p", tip] if tip else []
            tip = (await self.git("commit-tree", *sign, *before, "-F", "-", tree, stdin=each.message.encode())).decode().strip()
        return tip

    async def edits(self, look: Layout, moves: Sequence[Move]) -> tuple[Edit, ...]:
        """What moves change in the tree; folders that are missing come back with their .gitkeep."""
        found: list[Edit] = []
        for move in moves:
            file = move.file
            found += [("0", "", look.path(place, file.name)) for place in (file.place, *move.replaces)]
            if move.target is not None:
                found.append((file.mode, file.oid, look.path(move.target, file.name)))
        return (*found, *await self.keeps(look))

    async def keeps(self, look: Layout) -> tuple[Edit, ...]:
        """The .gitkeep of each folder that is missing."""
        if not look.missing:
            return ()
        empty = await self.objects.blob(b"")
        return tuple(("100644", empty, look.path(place, KEEP)) for place in look.missing)

    async def publish(self, old: str, new: str) -> None:
        """Makes `new` the branch's tip, if `old` still is. Raises Overtaken (somebody was faster: look again), GitFailed."""
        source = self.source
        if not source.remote:
            await self._publish_here(old, new)
            return
        done = await self.git.run(
            "push", "--porcelain", "--no-recurse-submodules", source.remote, f"{new}:refs/heads/{source.branch}", accept=(0, 1, 128)
        )
        said = [line for line in done.out.decode(errors="replace").splitlines() if line.startswith("!")]
        if said:
            why = self.git.hide(said[0].split("\t")[-1])
            if "[rejected]" in why or await self._moved(old):
                raise Overtaken(action="push", message=why, remedy="")
            raise GitFailed(action="push", message=why, remedy=f". Branch {source.branch} must accept our pushes")
        if done.code:
            raise self.git.failed("push", done)  # perhaps it arrived all the same: the next look tells
        await self._follow(new)

    async def _moved(self, old: str) -> bool:
        return await self.fetch() != old

    async def _publish_here(self, old: str, new: str) -> None:
        """In a repository without a remote: the branch itself, and the working tree where a person has it checked out."""
        if await self._is_checked_out():
            if not await self._has_an_end(new):
                raise GitFailed(action="merge", message=f"the commit has more than {FOLLOWED:,} files and folders", remedy=". Remove some")
            if not (await self.git.run("merge", "--ff-only", "--quiet", new, accept=(0, 1, 128))).code:
                return
            if await self.fetch() != old:
                raise Overtaken(action="merge", message="somebody else committed in the meantime", remedy="")
            raise GitFailed(action="merge", message="files in the working tree are in the way", remedy=": commit or stash them")
        if (await self.git.run("update-ref", f"refs/heads/{self.source.branch}", new, old, accept=(0, 1, 128))).code:
            raise Overtaken(action="update-ref", message="somebody else committed in the meantime", remedy="")

    async def _follow(self, new: str) -> None:
        """A clone that a person works in follows, where nothing of theirs is in the way, and the commit can be checked out at all."""
        if await self._is_checked_out() and await self._has_an_end(new):
            await self.git.run("merge", "--ff-only", "--quiet", new, accept=(0, 1, 128))

    async def _has_an_end(self, commit: str) -> bool:
        """Whether a commit can be checked out: a few objects may be any number of files."""
        count = 0
        async with self.git.lines("ls-tree", "-r", "-t", "-z", "--name-only", commit, separator=b"\0") as names:
            async for _ in names:
                count += 1
                if count > FOLLOWED:
                    return False
        return True

    async def _is_checked_out(self) -> bool:
        if await self._ask("rev-parse", "--is-bare-repository") == "true":
            return False
        head = await self.git.run("symbolic-ref", "--quiet", "HEAD", accept=(0, 1))
        return head.out.decode().strip() == f"refs/heads/{self.source.branch}"


def _moment(text: str) -> datetime:
    """When a commit says that it was made: anything may stand there."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = _EPOCH
    return found if found.tzinfo is not None and 1970 <= found.year < 3000 else _EPOCH


AGAINST_RIVALS = 180.0


async def against_rivals(attempt: Callable[[], Awaitable[Answer]]) -> Answer:
    """Makes an attempt that begins with a look at the branch, and again while others push first, for three minutes. Raises Overtaken then."""
    try:
        return await patiently(attempt, over=(Overtaken,), backoff=Backoff(first=0.2, longest=5.0), seconds=AGAINST_RIVALS)
    except NoAnswer:
        raise GitFailed(action="push", message=f"not finished within {AGAINST_RIVALS:.0f} s", remedy=": is the remote slow?") from None
