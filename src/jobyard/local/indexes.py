"""Sets of completion indexes, as a Job's status writes them: `1,3-5,7`."""

from __future__ import annotations

from collections.abc import Iterable

INDEX = "batch.kubernetes.io/job-completion-index"


def show(indexes: Iterable[int]) -> str:
    """The indexes as intervals, in order; two neighbours are written apart (`1,2`), three as a range, as Kubernetes does."""
    parts: list[str] = []
    run: list[int] = []
    for index in [*sorted(set(indexes)), None]:
        if run and (index is None or index != run[-1] + 1):
            parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(each) for each in run]
            run = []
        if index is not None:
            run.append(index)
    return ",".join(parts)


def read(text: str | None) -> set[int]:
    """What `show` wrote."""
    found: set[int] = set()
    for part in filter(None, (text or "").split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
