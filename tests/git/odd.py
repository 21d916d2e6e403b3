"""Commits that no `git add` makes: trees without end, names that are none, entries of any mode."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.git.remotes import git

Entry = tuple[str, bytes, str]
"""Mode, name, object."""


def store(folder: Path, kind: str, content: bytes) -> str:
    """An object of whatever content; its name."""
    words = ["git", "hash-object", "-w", "-t", kind, "--literally", "--stdin"]
    return subprocess.run(words, cwd=folder, input=content, check=True, capture_output=True).stdout.decode().strip()


def tree(folder: Path, entries: Sequence[Entry]) -> str:
    """A tree, its entries in git's order."""

    def order(entry: Entry) -> bytes:
        return entry[1] + b"/" if entry[0] == "40000" else entry[1]

    raw = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in sorted(entries, key=order))
    return store(folder, "tree", raw)


def bomb(folder: Path, leaf: Entry | None, width: int = 10, depth: int = 10) -> str:
    """A tree of `width` to the power of `depth` entries, and one object a level."""
    inner = tree(folder, [leaf] if leaf else [])
    for _ in range(depth):
        inner = tree(folder, [("40000", b"%d" % number, inner) for number in range(width)])
    return inner


def commit(folder: Path, entries: Sequence[Entry], message: bytes = b"odd\n", date: str = "1700000000 +0000", parent: str = "") -> str:
    """A commit of a tree, whatever its message and date."""
    who = f"A Person <person@x> {date}".encode()
    head = [b"tree " + tree(folder, entries).encode(), *([b"parent " + parent.encode()] if parent else [])]
    return store(folder, "commit", b"\n".join([*head, b"author " + who, b"committer " + who, b"", message]))


def push(folder: Path, oid: str) -> None:
    """Makes a commit the remote's main branch."""
    git(folder, "push", "--quiet", "--force", "origin", f"{oid}:refs/heads/main")


def names(remote: Path, place: str) -> list[str]:
    """What lies right in a folder of the remote's main branch."""
    return [each for each in git(remote, "ls-tree", "-z", "--name-only", f"main:{place}", check=False).split("\0") if each]
