"""The processes of this machine, as /proc tells of them. Any may end while it is looked at: then it is as if it were not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def fields(pid: int) -> list[str]:
    """What the kernel tells of a process, from its state on (field 3 of proc_pid_stat(5)); empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    except OSError:
        return []


def started(pid: int) -> str:
    """When a process started, in the kernel's words: with the pid, it names a process for good. '' when there is none."""
    told = fields(pid)
    return told[19] if told else ""


def descendants(parent: int) -> list[int]:
    """The children of a process, and theirs."""
    return [each for child in children(parent) for each in (child, *descendants(child))]


def children(parent: int) -> list[int]:
    """The children of a process."""
    return [pid for pid in _all() if fields(pid)[1:2] == [str(parent)]]


def with_words(*words: str) -> list[int]:
    """The processes whose command line, its arguments parted by NUL, holds all of these."""
    found = []
    for pid in _all():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if all(each.encode() in command for each in words):
            found.append(pid)
    return found


def _all() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
