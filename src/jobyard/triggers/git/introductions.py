"""Which commit put each queued file where it is, as it is: with its path and content, that makes it the same request wherever it is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jobyard.triggers.git.layout import Entry
from jobyard.triggers.git.objects import Found
from jobyard.triggers.git.repository import Repository

_AT_ONCE = 200
"""How many commits are looked at in one go."""
_BYTES = 8 * 1024 * 1024
"""Of how many bytes of folders together."""
SECONDS = 20.0
"""For which one look reads the history. The next goes on where it stopped."""
_KEPT = 16
"""Of how many folders of the past it is remembered what they held: they come again and again."""
_NOTHING: Mapping[str, Entry] = {}


@dataclass(kw_only=True)
class _Walk:
    """A way back through the history, from a commit (inclusive) to another (exclusive; '' for the beginning of all)."""

    start: str
    end: str
    left: dict[str, str]
    """The names, with their objects, that no commit was found for yet."""
    passed: int = 0
    """How many commits lie behind us."""
    is_over: bool = False
    held: dict[str, Mapping[str, Entry]] = field(default_factory=dict)
    """What some folders held of the names that were left then, by their objects."""


@dataclass(frozen=True, kw_only=True)
class Introduced:
    """What is known now."""

    commits: Mapping[str, str]
    """From names to commits."""
    unread: frozenset[str]
    """Names about which the history has yet to be read, by looks to come."""


class Introductions:
    """Reads the history back to what is asked for, and the next time only what is new in it, and what there was no time for.

    A file was put there by the newest commit in which it differs from what every commit before that one had in its place. Only the folder
    itself is compared, never what lies below it; and of the folder only what is asked for: who pushes may have given it a million entries,
    in any order, with any names.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: dict[str, tuple[str, str]] = {}
        """From name to the object and the commit that were found."""
        self._walks: list[_Walk] = []
        """Those that are not over, the newest part of the history first."""
        self._read_up_to = ""

    async def of(self, tip: str, folder: str, oids: Mapping[str, str], seconds: float = SECONDS) -> Introduced:
        """The commits of files in a folder, by their names with their objects. Reads for so long, and at least one commit. Raises GitFailed."""
        await self._turn_to(tip, oids)
        until = time.monotonic() + seconds
        while self._walks:
            walk = self._walks[0]
            await self._go(walk, folder, until)
            if not walk.is_over:
                break
            del self._walks[0]
        unread = {name for walk in self._walks for name in walk.left}
        commits = {name: commit for name, (_, commit) in self._known.items() if name not in unread}
        return Introduced(commits=commits, unread=frozenset(unread))

    async def _turn_to(self, tip: str, oids: Mapping[str, str]) -> None:
        """Forgets what is not asked for any more, and sets out on the walks that what is new needs."""
        since = self._read_up_to
        if since and not await self._repository.contains(tip, since):
            self._known, self._walks, since = {}, [], ""
        self._known = {name: known for name, known in self._known.items() if oids.get(name) == known[0]}
        for walk in self._walks:
            walk.left = {name: oid for name, oid in walk.left.items() if oids.get(name) == oid}
        self._walks = [walk for walk in self._walks if walk.left]
        if since and since != tip and oids:
            self._walks.insert(0, _Walk(start=tip, end=since, left=dict(oids)))
        covered = {*self._known, *(name for walk in self._walks if not walk.end for name in walk.left)}
        if strangers := {name: oid for name, oid in oids.items() if name not in covered}:
            self._walks.append(_Walk(start=since or tip, end="", left=strangers))
        self._read_up_to = tip

    async def _go(self, walk: _Walk, folder: str, until: float) -> None:
        """Goes on until all is found, the end is reached, or time is over."""
        group: list[list[str]] = []
        but = [f"^{walk.end}"] if walk.end else []
        words = ("log", "--format=%H %P", "--no-show-signature", f"--skip={walk.passed}", walk.start, *but, "--")
        async with self._repository.git.lines(*words, separator=b"\n") as lines:
            async for line in lines:
                group.append(line.decode(errors="replace").split())
                if len(group) >= _AT_ONCE:
                    if not await self._look(walk, group, folder, until):
                        return
                    group = []
        walk.is_over = await self._look(walk, group, folder, until) or not walk.left

    async def _look(self, walk: _Walk, commits: Sequence[Sequence[str]], folder: str, until: float) -> bool:
        """Finds the names that these commits, the newest first, put there; whether to go on."""
        path = folder.rstrip("/")
        trees = await self._repository.objects.find(f"{commit}:{path}" for each in commits for commit in each)

        def tree(commit: str) -> Found | None:
            there = trees.get(f"{commit}:{path}")
            return there if there is not None and there.kind == "tree" else None

        steps = [_Step(commit=commit, ours=tree(commit), theirs=[tree(each) for each in parents] or [None]) for commit, *parents in commits]
        for some in _some(steps):
            await self._read(walk, (each for step in some if step.is_change for each in (step.ours, *step.theirs) if each))
            for step in some:
                if step.is_change:
                    self._found(walk, step)
                walk.passed += 1
            if not walk.left:
                walk.is_over = True
                return False
            if time.monotonic() > until:
                return False
        return True

    async def _read(self, walk: _Walk, folders: Iterable[Found]) -> None:
        """Learns what these folders hold of what is left."""
        wanted = {each.oid: each for each in folders}
        walk.held = {oid: held for oid, held in walk.held.items() if oid in wanted} | walk.held
        while len(walk.held) > max(_KEPT, len(wanted)):
            del walk.held[next(reversed(walk.held))]
        new = [each for oid, each in wanted.items() if oid not in walk.held]
        async for oid, tree in self._repository.objects.pass_by(new):
            walk.held[oid] = await asyncio.to_thread(tree.those, walk.left.keys())

    def _found(self, walk: _Walk, step: _Step) -> None:
        """Takes what a commit put there. A folder that is too large to be read holds nothing."""
        ours, *theirs = (walk.held.get(each.oid, _NOTHING) if each else _NOTHING for each in (step.ours, *step.theirs))
        for name, entry in ours.items():
            if walk.left.get(name) == entry.oid and all(other.get(name) != entry for other in theirs):
                self._known[name] = (entry.oid, step.commit)
                for each in self._walks:  # those behind this one look for what was there before
                    each.left.pop(name, None)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A commit, with the folder as it is in it and in those before it; None where there is none."""

    commit: str
    ours: Found | None
    theirs: Sequence[Found | None]

    @property
    def is_change(self) -> bool:
        return self.ours is not None and self.ours not in self.theirs

    @property
    def size(self) -> int:
        return sum(each.size for each in (self.ours, *self.theirs) if each) if self.is_change else 0


def _some(steps: Sequence[_Step]) -> Iterator[Sequence[_Step]]:
    """The steps, in groups whose folders can be read at once."""
    group: list[_Step] = []
    size = 0
    for step in steps:
        if group and size + step.size > _BYTES:
            yield group
            group, size = [], 0
        group.append(step)
        size += step.size
    if group:
        yield group
