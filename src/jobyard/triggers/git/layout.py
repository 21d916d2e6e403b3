"""The five folders of a repository, and what lies in them. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SUFFIXES = (".yaml", ".yml", ".json")
KEEP = ".gitkeep"
BASES = ("", "jobs/")
"""Where the folders may be, the first that has one of them."""
REGULAR = ("100644", "100755")
LINK = "120000"


class Place(StrEnum):
    """A folder, and so the state of what lies in it."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


ENDS = (Place.SUCCEEDED, Place.FAILED, Place.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Something in a commit's tree. Bytes of a path that are no UTF-8 are surrogates, as in Python's file names."""

    path: str
    mode: str
    oid: str
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class QueueFile:
    """A file that is, or stands for, a run."""

    name: str
    place: Place
    mode: str
    oid: str
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A commit as far as it concerns us."""

    base: str
    files: Mapping[Place, Mapping[str, QueueFile]]
    missing: tuple[Place, ...] = ()
    """Folders that are not there, which in Git means: empty."""
    kept: frozenset[str] = field(default_factory=frozenset)
    """Paths of the .gitkeep files that there are."""

    def path(self, place: Place, name: str) -> str:
        return f"{self.base}{place}/{name}"

    def places(self, name: str) -> list[Place]:
        """Every folder that holds a file of this name."""
        return [place for place, files in self.files.items() if name in files]


def read(entries: Iterable[Entry], base: str | None = None) -> Layout:
    """The folders of a tree, found by themselves at the top or under jobs/, or at `base`."""
    listed = list(entries)
    if base is None:
        base = find_base(entry.path for entry in listed)
    files: dict[Place, dict[str, QueueFile]] = {place: {} for place in Place}
    there: set[Place] = set()
    kept: set[str] = set()
    for entry in listed:
        if not entry.path.startswith(base):
            continue
        folder, _, name = entry.path[len(base) :].partition("/")
        place = next((each for each in Place if each == folder), None)
        if place is None or not name:
            continue
        there.add(place)
        if name == KEEP:
            kept.add(entry.path)
        if "/" in name or name.startswith(".") or not name.endswith(SUFFIXES):
            continue
        files[place][name] = QueueFile(name=name, place=place, mode=entry.mode, oid=entry.oid, size=entry.size)
    missing = tuple(place for place in Place if place not in there)
    return Layout(base=base, files=files, missing=missing, kept=frozenset(kept))


def folders(base: str | None) -> list[str]:
    """Where the five folders are, or may be when `base` is not known."""
    return [f"{each}{place}/" for each in (BASES if base is None else (base,)) for place in Place]


def find_base(paths: Iterable[str]) -> str:
    """Where the folders are; at the top when there are none yet."""
    heads = {f"{base}{place}/" for base in BASES for place in Place}
    found = {head for path in paths for head in heads if path.startswith(head)}
    return next((base for base in BASES if any(head == f"{base}{place}/" for head in found for place in Place)), BASES[0])


def show(name: str) -> str:
    """A file's name as it may stand in a message: no control characters, no bytes that are no text."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def is_plain(name: str) -> bool:
    """Whether a name is one that a run may be known by: text, without control characters."""
    return show(name) == name
