"""Sets of completion indexes, as a Job's status writes them: `1,3-5,7`. Kept as spans: a Job may have two milliards of them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

INDEX = "batch.kubernetes.io/job-completion-index"
_SPAN = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")


@dataclass(frozen=True)
class Indexes:
    """A set of indexes. `spans`: the first and the last of each run of neighbours, in order, with gaps between them."""

    spans: tuple[tuple[int, int], ...] = ()

    def __contains__(self, index: int) -> bool:
        at = bisect_right(self.spans, (index, 2**63))
        return at > 0 and index <= self.spans[at - 1][1]

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __or__(self, other: Indexes) -> Indexes:
        return _joined([*self.spans, *other.spans])

    @property
    def count(self) -> int:
        return sum(last - first + 1 for first, last in self.spans)

    def below(self, end: int) -> Indexes:
        """Those that are less than `end`."""
        return Indexes(tuple((first, min(last, end - 1)) for first, last in self.spans if first < end))

    def shared(self, other: Indexes) -> int:
        """How many are in both."""
        return self.count + other.count - (self | other).count

    def missing(self, end: int) -> Iterator[int]:
        """Those below `end` that are not in it, in order."""
        begin = 0
        for first, last in (*self.below(end).spans, (end, end)):
            yield from range(begin, first)
            begin = last + 1

    def __str__(self) -> str:
        """As Kubernetes writes it: two neighbours apart (`1,2`), three as a range."""
        return ",".join(
            f"{first}-{last}" if last > first + 1 else f"{first},{last}" if last > first else str(first) for first, last in self.spans
        )


def of(indexes: Iterable[int]) -> Indexes:
    """The set of these indexes."""
    ordered = sorted(set(indexes))
    runs = (list(run) for _, run in groupby(enumerate(ordered), lambda each: each[1] - each[0]))
    return Indexes(tuple((run[0][1], run[-1][1]) for run in runs))


def read(text: str | None) -> Indexes:
    """What a status or a policy says. Anybody may have written it: what is no index is passed over."""
    spans = []
    for part in (text or "").split(","):
        if found := _SPAN.fullmatch(part):
            spans.append((int(found[1]), int(found[2] or found[1])))
    return _joined([span for span in spans if span[0] <= span[1]])


def problem(text: str, completions: int) -> str:
    """Why a text is no set of indexes of a Job with so many, in Kubernetes' words; "" when it is one."""
    before = -1
    for part in text.split(",") if text else ():
        found = _SPAN.fullmatch(part)
        if not found:
            return f"cannot convert string to integer for index: {part[:40]!r}"
        first, last = int(found[1]), int(found[2] or found[1])
        if last >= completions or first >= completions:
            return f"too large index: {part!r}"
        if first <= before or (found[2] and first >= last):
            return f"non-increasing order, previous: {before}, current: {first}"
        before = last
    return ""


def _joined(spans: list[tuple[int, int]]) -> Indexes:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return Indexes(tuple(joined))
