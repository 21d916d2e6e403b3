"""How the tests are spread over processes: how many, in which order, and who shares one. Most tests wait for pods, so there are more workers than processors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

MOST = 4
"""Workers at the most: what two processors and one node can bear without any test being late."""
TESTS_A_WORKER = 6
"""A worker takes a second to begin, which fewer tests than these do not win back."""
WHOLE = ("tests/contract/test_amqp.py", "tests/contract/test_outages.py", "tests/contract/test_runtimes.py")
"""Their fixtures are so dear that all tests of one value (a node, a broker, podman, docker) run in one worker, one after another."""
BUSY_AT_ONCE = 1
BUSY = ("tests/contract/test_crashes.py", "tests/contract/test_fuzz.py", "tests/contract/test_scale.py", "tests/hostile/test_hostile.py")
"""These keep the processors busy by themselves, and so many of them run at once: more would be slower, and starve what waits beside them."""
WORTH_TELLING = 60.0
"""Seconds that a run takes before it says where they went."""
NEVER_WAIT = Path("tests/unit")
"""Nothing is won by several workers for these: they take processor time alone, and not much."""


def how_many(paths: Sequence[Path], root: Path) -> int:
    """The workers that these files and folders are worth; 0 for none but this process."""
    files = [file for path in paths for file in (path.rglob("test_*.py") if path.is_dir() else [path])]
    waiting = [file for file in files if not file.is_relative_to(root / NEVER_WAIT)]
    tests = sum(len(re.findall(r"^(?:async )?def test_", file.read_text(), re.MULTILINE)) for file in waiting)
    count = min(MOST, tests // TESTS_A_WORKER)
    return count if count > 1 else 0


def is_narrow(options: object, arguments: Iterable[str]) -> bool:
    """Whether somebody looks for one thing: a test by its name, the first failure, what a test prints."""
    asked = ("keyword", "markexpr", "maxfail", "collectonly", "usepdb", "setupshow", "setupplan")
    return (
        any(getattr(options, name, None) for name in asked)
        or getattr(options, "capture", "") == "no"
        or any("::" in each for each in arguments)
    )


def group(test: str) -> str:
    """Which tests share a worker with this one: those of the same name here. Most share it with nobody."""
    file, _, name = test.partition("::")
    if file not in WHOLE:
        return test
    return f"{file}[{re.split('[-[]', name.rstrip(']') + '[')[1]}]"


def choose(waiting: Iterable[str], begun: Iterable[str]) -> str:
    """Which of the groups that wait is next: the first, unless it is a busy one and enough of those have begun."""
    groups = list(waiting)
    is_full = sum(each.startswith(BUSY) for each in begun) >= BUSY_AT_ONCE
    return next((each for each in groups if not (is_full and each.startswith(BUSY))), groups[0])


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out group by group, in the order of the tests; to each worker one more than it runs, so that little waits behind what takes long."""

    # xdist has such groups too (loadgroup), but not with pytest 9.2: https://github.com/pytest-dev/pytest-xdist/issues/1386

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        begun = [name for work in self.assigned_work.values() for name, tests in work.items() if not all(tests.values())]
        self.workqueue.move_to_end(choose(self.workqueue, begun), last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if self.workqueue and self._pending_of(self.assigned_work[node]) > 1:
            return
        super()._reschedule(node)


def may_take(item: pytest.Item) -> float:
    """Seconds that a test says it may take; 0 where it is as short as most. What may take longest begins first, or all would wait for it at the end."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker else 0.0


def where_time_went(spent: Iterable[tuple[str, float]]) -> str:
    """The files whose tests took longest, with the seconds of all workers together; '' where that is not worth a line."""
    files: dict[str, float] = {}
    for test, seconds in spent:
        name = test.partition("::")[0].removeprefix("tests/").removesuffix(".py")
        files[name] = files.get(name, 0.0) + seconds
    whole = sum(files.values())
    if whole < WORTH_TELLING:
        return ""
    dearest = sorted(files.items(), key=lambda each: -each[1])[:10]
    return f"{whole:.0f} s of all workers: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in dearest)
