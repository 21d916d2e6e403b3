"""Commits that no `git add` makes: trees without end, names that are none, entries of any mode."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
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


def listed(folder: Path, treeish: str) -> list[Entry]:
    """What lies right in a folder of a commit; nothing where there is none."""
    found: list[Entry] = []
    for line in git(folder, "ls-tree", "-z", treeish, check=False).split("\0"):
        head, _, name = line.partition("\t")
        if head:
            mode, _, oid = head.split()
            found.append((mode.lstrip("0"), os.fsencode(name), oid))
    return found


def rewrite(folder: Path, change: Callable[[str, list[Entry]], list[Entry]], places: Sequence[str]) -> str:
    """Pushes a commit in which some folders hold something else, onto whatever others have pushed; the commit."""
    for _ in range(100):
        git(folder, "fetch", "--quiet", "origin", "main")
        tip = git(folder, "rev-parse", "FETCH_HEAD").strip()
        root = [each for each in listed(folder, tip) if each[1].decode(errors="replace") not in places]
        new = [("40000", place.encode(), tree(folder, change(place, listed(folder, f"{tip}:{place}")))) for place in places]
        made = commit(folder, [*root, *new], parent=tip)
        git(folder, "push", "--quiet", "origin", f"{made}:refs/heads/main", check=False)
        if git(folder, "ls-remote", "origin", "refs/heads/main").split()[:1] == [made] or is_in(folder, made):
            return made
    raise AssertionError("others push all the time")


def is_in(folder: Path, commit_: str) -> bool:
    """Whether a commit has been pushed, whatever came after it."""
    git(folder, "fetch", "--quiet", "origin", "main")
    return commit_ in git(folder, "rev-list", "--max-count=50", "FETCH_HEAD").split()


def queue(folder: Path, files: Mapping[bytes, bytes]) -> str:
    """Pushes files into the queue; the commit."""
    new: list[Entry] = [("100644", name, store(folder, "blob", content)) for name, content in files.items()]
    return rewrite(folder, lambda _, there: [*(each for each in there if each[1] not in files), *new], ["queued"])


def names(remote: Path, place: str) -> list[str]:
    """What lies right in a folder of the remote's main branch."""
    return [each for each in git(remote, "ls-tree", "-z", "--name-only", f"main:{place}", check=False).split("\0") if each]
