"""Whose turn it is, where more is queued than is looked at at once: who waits keeps nobody else from a turn. Pure."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from jobyard.triggers.git.layout import QueueFile

LISTED = 10_000
"""How many files of a folder are looked at at once; the others' turn comes as these leave, or have had theirs."""
TRIED, TRIED_BYTES = 500, 64 * 1024 * 1024
"""How many queued files, of how many bytes together, are prepared before what came of them is pushed."""


class Turns:
    """How often each of too many queued files was looked at."""

    def __init__(self) -> None:
        self._had: Counter[str] = Counter()

    def __contains__(self, name: str) -> bool:
        return name in self._had

    def next(self, files: Mapping[str, QueueFile], held: Collection[str]) -> tuple[list[QueueFile], int]:
        """The queued files to be looked at now, and how many of the others never were. Of too many, those come first for which a run is `held`,
        then those that were looked at least often."""
        if len(files) <= LISTED:
            self._had.clear()
            return list(files.values()), 0
        self._had = Counter({name: self._had[name] for name in files if name in self._had})
        chosen = heapq.nsmallest(LISTED, files.values(), key=lambda file: -1 if file.name in held else self._had[file.name])
        self._had.update(file.name for file in chosen)
        return chosen, len(files) - len(self._had)


def at_work(files: Mapping[str, QueueFile], going: Collection[str]) -> dict[str, QueueFile]:
    """The files in `processing` to be looked at now: all whose runs are known to go on, of which there are no more than runs, and of the others
    the first."""
    room = LISTED
    found: dict[str, QueueFile] = {}
    for file in files.values():
        room -= file.name not in going
        if room >= 0 or file.name in going:
            found[file.name] = file
    return found


def choose(new: Mapping[str, QueueFile], commits: Mapping[str, str], tries: Mapping[str, int]) -> dict[str, QueueFile]:
    """The files, by key, to be tried now. What was tried in vain comes after what was not, and of those that were pushed together not all
    before others: a push of thousands holds up nobody else's. Pure."""
    turns: defaultdict[tuple[int, str], int] = defaultdict(int)
    order: list[tuple[int, int, str]] = []
    for key, file in new.items():
        push = (tries.get(key, 0), commits.get(file.name, ""))
        turns[push] += 1
        order.append((push[0], turns[push], key))
    chosen: dict[str, QueueFile] = {}
    room = TRIED_BYTES
    for _, _, key in sorted(order):
        room -= new[key].size or 0
        if chosen and (len(chosen) >= TRIED or room < 0):
            break
        chosen[key] = new[key]
    return chosen
