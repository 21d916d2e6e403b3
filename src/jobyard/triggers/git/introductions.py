"""Which commit put each queued file where it is, as it is: with its path and content, that makes it the same request wherever it is read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from jobyard.triggers.git.objects import EMPTY
from jobyard.triggers.git.repository import Repository

_AT_ONCE = 200
"""How many commits are looked at in one go."""
_DIFF = ("diff-tree", "--stdin", "-z", "--raw", "--no-renames", "--no-abbrev")
Pair = tuple[str, str]
"""Two trees, the older first."""


class Introductions:
    """Reads the history back to what is asked for, and the next time only what is new in it.

    A file was put there by the newest commit in which it differs from what every commit before that one had in its place. Only the folder
    itself is compared, never what lies below it.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: dict[str, tuple[str, str]] = {}
        """From name to the object and the commit that were found at `_read_up_to`."""
        self._read_up_to = ""

    async def of(self, tip: str, folder: str, oids: Mapping[str, str]) -> dict[str, str]:
        """From the names of files in a folder, with their objects, to commits. Raises GitFailed."""
        since = self._read_up_to
        known = self._known if since and await self._repository.contains(tip, since) else {}
        found = await self._walk(tip, [f"^{since}"] if known else [], folder, oids)
        found |= {name: known[name][1] for name, oid in oids.items() if name not in found and known.get(name, ("",))[0] == oid}
        if known:
            found |= await self._walk(tip, [], folder, {name: oid for name, oid in oids.items() if name not in found})
        self._known, self._read_up_to = {name: (oids[name], commit) for name, commit in found.items()}, tip
        return found

    async def _walk(self, tip: str, but: Sequence[str], folder: str, oids: Mapping[str, str]) -> dict[str, str]:
        left, found = dict(oids), dict[str, str]()
        if not left:
            return found
        group: list[list[str]] = []
        words = ("log", "--format=%H %P", "--no-show-signature", tip, *but, "--")
        async with self._repository.git.lines(*words, separator=b"\n") as lines:
            async for line in lines:
                group.append(line.decode().split())
                if len(group) >= _AT_ONCE:
                    await self._look(group, folder, left, found)
                    group = []
                    if not left:
                        return found
        await self._look(group, folder, left, found)
        return found

    async def _look(self, commits: Sequence[Sequence[str]], folder: str, left: dict[str, str], found: dict[str, str]) -> None:
        """Moves names from `left` to `found` that these commits, the newest first, put there."""
        path = folder.rstrip("/")
        trees = await self._repository.objects.find(f"{commit}:{path}" for each in commits for commit in each)

        def tree(commit: str) -> str:
            there = trees.get(f"{commit}:{path}")
            return there.oid if there is not None and there.kind == "tree" else ""

        pairs: dict[str, list[Pair]] = {}
        for commit, *parents in commits:
            ours, theirs = tree(commit), [tree(parent) for parent in parents] or [""]
            if ours and ours not in theirs:
                pairs[commit] = [(each or EMPTY[len(ours)], ours) for each in theirs]
        changed = await self._changes(list(dict.fromkeys(pair for each in pairs.values() for pair in each)), left)
        for commit, each in pairs.items():
            first, *others = (changed[pair] for pair in each)
            for name, oid in first.items():
                if left.get(name) == oid and all(name in other for other in others):
                    found[name] = commit
                    del left[name]

    async def _changes(self, pairs: Sequence[Pair], wanted: Mapping[str, str]) -> dict[Pair, dict[str, str]]:
        """What of the wanted lies right in the second tree of a pair and not so in the first: names, with their objects."""
        found: dict[Pair, dict[str, str]] = {pair: {} for pair in pairs}
        if not pairs:
            return found
        asked = "".join(f"{old} {new}\n" for old, new in pairs).encode()
        now: dict[str, str] = {}
        change: list[str] | None = None
        async with self._repository.git.lines(*_DIFF, separator=b"\0", stdin=asked) as words:
            async for word in words:
                if change is not None:  # its name
                    name = os.fsdecode(word)
                    if name in wanted and change[-1] != "D":
                        now[name] = change[3]
                    change = None
                    continue
                *heads, last = word.decode().split("\n")
                for head in heads:  # which pair it is that is told of now
                    old, _, new = head.partition(" ")
                    now = found[old, new]
                change = last.split() or None
        return found
