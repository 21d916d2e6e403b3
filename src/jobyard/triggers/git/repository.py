"""A repository and its branch: read as a tree, changed by commits on the tip that was read, published or not at all.

Nothing is checked out: commits are made with git's plumbing on a scratch index, so a person's working tree and index are left alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jobyard.model.errors import GitFailed, NoAnswer, Overtaken
from jobyard.patience import Backoff, patiently
from jobyard.triggers.git import layout
from jobyard.triggers.git.command import Git
from jobyard.triggers.git.layout import KEEP, Entry, Layout
from jobyard.triggers.git.lock import alone
from jobyard.triggers.git.moves import Move

SHALLOW_STEP = 200
"""How many more commits are fetched at a time, where a shallow clone does not reach back far enough."""
Edit = tuple[str, str, str]
"""Mode, object and path; mode 0 takes the path away."""
GONE = "0" * 40


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


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit of ours in the making: its message and what it changes."""

    message: str
    edits: tuple[Edit, ...]


class Repository:
    """One branch of one repository."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.git = Git(source.folder, source.identity)
        self._ref = f"refs/jobyard/{source.branch}"

    async def fetch(self) -> str:
        """The branch's newest commit. Raises GitFailed: the remote is away, refuses, or has no such branch."""
        source = self.source
        if source.remote:
            refs = f"+refs/heads/{source.branch}:{self._ref}"
            async with self._alone() as lock:
                await self.git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", source.remote, refs, keep=lock)
                return await self._resolve(self._ref)
        return await self._resolve(f"refs/heads/{source.branch}")

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
        git_folder = Path((await self.git("rev-parse", "--absolute-git-dir")).decode().strip())
        async with alone(git_folder / "jobyard.lock") as lock:
            # Nobody else writes this ref now: a lock file of git's own is what a kill left behind.
            (git_folder / f"{self._ref}.lock").unlink(missing_ok=True)
            yield lock

    async def entries(self, tip: str, folders: Sequence[str] = ()) -> list[Entry]:
        """What a commit holds, in these folders or everywhere."""
        out = await self.git("ls-tree", "-r", "-z", "-l", "--full-tree", tip, "--", *folders)
        found = []
        for line in out.split(b"\0"):
            if line:
                head, _, path = line.partition(b"\t")
                mode, _, oid, size = head.split()
                found.append(
                    Entry(path=os.fsdecode(path), mode=mode.decode(), oid=oid.decode(), size=int(size) if size.isdigit() else None)
                )
        return found

    async def look(self, base: str | None) -> tuple[str, Layout]:
        """The branch's newest commit, and what lies in its folders. Raises GitFailed."""
        tip = await self.fetch()
        return tip, layout.read(await self.entries(tip, layout.folders(base)), base)

    async def blobs(self, oids: Iterable[str]) -> dict[str, bytes]:
        """The contents of objects."""
        wanted = list(dict.fromkeys(oids))
        if not wanted:
            return {}
        out = await self.git("cat-file", "--batch", stdin="".join(f"{oid}\n" for oid in wanted).encode())
        found, at = {}, 0
        for oid in wanted:
            end = out.index(b"\n", at)
            _, _, size = out[at:end].split(b" ")
            at = end + 1
            found[oid] = out[at : at + int(size)]
            at += int(size) + 1
        return found

    async def archive(self, tip: str) -> bytes:
        """All of a commit, as a tar."""
        return await self.git("archive", "--format=tar", tip)

    async def introduced(self, tip: str, folder: str, names: Iterable[str]) -> dict[str, str]:
        """For each file of a folder, the commit that put it there as it is now."""
        open_ = set(names)
        found: dict[str, str] = {}
        if not open_:
            return found
        words = ("log", "--format=%x01%H", "--name-only", "-z", "--no-renames", tip, "--", folder)
        commit = ""
        async with self.git.lines(*words, separator=b"\0") as lines:
            async for line in lines:
                text = os.fsdecode(line).lstrip("\n")
                if text.startswith("\x01"):
                    commit = text[1:41]
                    text = text[41:].lstrip("\n")
                name = text.removeprefix(folder)
                if name in open_:
                    open_.discard(name)
                    found[name] = commit
                    if not open_:
                        break
        return found

    async def messages(self, tip: str, since: str, folder: str) -> AsyncGenerator[str, None]:
        """The messages of the commits that touched a folder, the newest first; `since` (exclusive) ends them, where it is an ancestor."""
        range_ = f"{since}..{tip}" if since and await self.contains(tip, since) else tip
        async with self.git.lines("log", "--format=%B%x00", "-z", range_, "--", folder, separator=b"\0\0") as lines:
            async for line in lines:
                yield line.decode(errors="replace").strip("\n\0")

    async def contains(self, tip: str, commit: str) -> bool:
        """Whether a commit is in the history of the tip."""
        if not commit or not commit.isalnum():
            return False
        return (await self.git.run("merge-base", "--is-ancestor", commit, tip, accept=(0, 1, 128))).code == 0

    async def deepen(self) -> bool:
        """Fetches more history, where the clone is shallow; False when there is no more."""
        shallow = (await self.git("rev-parse", "--is-shallow-repository")).strip() == b"true"
        if not shallow or not self.source.remote:
            return False
        async with self._alone() as lock:
            refs = f"+refs/heads/{self.source.branch}:{self._ref}"
            await self.git("fetch", "--quiet", "--no-tags", f"--deepen={SHALLOW_STEP}", self.source.remote, refs, keep=lock)
        return True

    # --- change ---

    async def commit(self, tip: str, commits: Sequence[Commit]) -> str:
        """Stacks commits on the tip ('' for a first one); the last one's id. Nothing is published yet."""
        sign = ["-S"] if (await self.git("config", "--bool", "--default", "false", "commit.gpgsign")).strip() == b"true" else []
        with tempfile.TemporaryDirectory(prefix="jobyard-index-") as scratch:
            env = {"GIT_INDEX_FILE": f"{scratch}/index"}
            await self.git("read-tree", tip or "--empty", env=env)
            for each in commits:
                lines = b"".join(f"{mode} {oid}\t".encode() + os.fsencode(path) + b"\0" for mode, oid, path in each.edits)
                await self.git("update-index", "-z", "--index-info", stdin=lines, env=env)
                tree = (await self.git("write-tree", env=env)).decode().strip()
                tip = (
                    (await self.git("commit-tree", *sign, *(["-p", tip] if tip else []), "-F", "-", tree, stdin=each.message.encode()))
                    .decode()
                    .strip()
                )
        return tip

    async def edits(self, look: Layout, moves: Sequence[Move]) -> tuple[Edit, ...]:
        """What moves change in the tree; folders that are missing come back with their .gitkeep."""
        found: list[Edit] = []
        for move in moves:
            file = move.file
            found += [("0", GONE, look.path(place, file.name)) for place in (file.place, *move.replaces)]
            if move.target is not None:
                found.append((file.mode, file.oid, look.path(move.target, file.name)))
        return (*found, *await self.keeps(look))

    async def keeps(self, look: Layout) -> tuple[Edit, ...]:
        """The .gitkeep of each folder that is missing."""
        if not look.missing:
            return ()
        empty = (await self.git("hash-object", "-w", "--stdin", stdin=b"")).decode().strip()
        return tuple(("100644", empty, look.path(place, KEEP)) for place in look.missing)

    async def publish(self, old: str, new: str) -> None:
        """Makes `new` the branch's tip, if `old` still is. Raises Overtaken (somebody was faster: look again), GitFailed."""
        source = self.source
        if not source.remote:
            await self._publish_here(old, new)
            return
        done = await self.git.run("push", "--porcelain", source.remote, f"{new}:refs/heads/{source.branch}", accept=(0, 1, 128))
        said = [line for line in done.out.decode(errors="replace").splitlines() if line.startswith("!")]
        if said:
            why = self.git.hide(said[0].split("\t")[-1])
            if "[rejected]" in why or await self._moved(old):
                raise Overtaken(action="push", message=why, remedy="")
            raise GitFailed(action="push", message=why, remedy=f". Branch {source.branch} must be open to us")
        if done.code:
            raise self.git.failed("push", done)  # perhaps it arrived all the same: the next look tells
        await self._follow(new)

    async def _moved(self, old: str) -> bool:
        return await self.fetch() != old

    async def _publish_here(self, old: str, new: str) -> None:
        """In a repository without a remote: the branch itself, and the working tree where a person has it checked out."""
        if await self._is_checked_out():
            if not (await self.git.run("merge", "--ff-only", "--quiet", new, accept=(0, 1, 128))).code:
                return
            if await self.fetch() != old:
                raise Overtaken(action="merge", message="somebody committed meanwhile", remedy="")
            raise GitFailed(action="merge", message="files in the working tree are in the way", remedy=": commit or stash them")
        if (await self.git.run("update-ref", f"refs/heads/{self.source.branch}", new, old, accept=(0, 1, 128))).code:
            raise Overtaken(action="update-ref", message="somebody committed meanwhile", remedy="")

    async def _follow(self, new: str) -> None:
        """A clone that a person works in follows, where nothing of theirs is in the way."""
        if await self._is_checked_out():
            await self.git.run("merge", "--ff-only", "--quiet", new, accept=(0, 1, 128))

    async def _is_checked_out(self) -> bool:
        if (await self.git("rev-parse", "--is-bare-repository")).strip() == b"true":
            return False
        head = await self.git.run("symbolic-ref", "--quiet", "HEAD", accept=(0, 1))
        return head.out.decode().strip() == f"refs/heads/{self.source.branch}"


AGAINST_RIVALS = 180.0


async def against_rivals(attempt: Callable[[], Awaitable[Answer]]) -> Answer:
    """Makes an attempt that begins with a look at the branch, and again while others push first, for three minutes. Raises Overtaken then."""
    try:
        return await patiently(attempt, over=(Overtaken,), backoff=Backoff(first=0.2, longest=5.0), seconds=AGAINST_RIVALS)
    except NoAnswer:
        raise GitFailed(action="push", message=f"not done within {AGAINST_RIVALS:.0f} s", remedy=": is the remote slow?") from None
