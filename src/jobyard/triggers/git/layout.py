"""The five folders of a repository, and what lies in them. Pure."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, ItemsView, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from jobyard.model.names import digest

SUFFIXES = (".yaml", ".yml", ".json")
KEEP = ".gitkeep"
BASES = ("", "jobs/")
"""Where the folders may be, the first that has one of them."""
REGULAR = ("100644", "100755")
LINK, FOLDER, SUBMODULE = "120000", "040000", "160000"
NAME_LIMIT = 200
"""Bytes of a name that a file may have to be run: it becomes part of other names."""


_SHOWN = 250


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
    """Something in a folder of a commit."""

    mode: str
    oid: str


Names = Mapping[str, Entry]
"""What lies in one folder. Bytes of a name that are no UTF-8 are surrogates, as in Python's file names."""


@dataclass(frozen=True, kw_only=True)
class QueueFile:
    """A file that is, or stands for, a run."""

    name: str
    place: Place
    mode: str
    oid: str
    size: int | None = None


class Files(Mapping[str, QueueFile]):
    """The files of a folder that are, or stand for, runs. Nothing is made of the others: a folder of what is over may be large."""

    def __init__(self, place: Place, names: Names) -> None:
        self._place = place
        self._names = names

    def __getitem__(self, name: str) -> QueueFile:
        entry = self._names[name]
        if not _counts(name, entry):
            raise KeyError(name)
        return self._file(name, entry)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._pass())

    def items(self) -> ItemsView[str, QueueFile]:
        """All of them, in one go: looking up each by its name takes a thousand times as long."""
        return _Items(self)

    def values(self) -> ValuesView[QueueFile]:
        """All of them, in one go."""
        return _Values(self)

    def _pass(self) -> Iterator[tuple[str, Entry]]:
        return ((name, entry) for name, entry in self._names.items() if _counts(name, entry))

    def passing(self) -> Iterator[QueueFile]:
        """One after the other, as the folder has them."""
        return (self._file(name, entry) for name, entry in self._pass())

    def _file(self, name: str, entry: Entry) -> QueueFile:
        return QueueFile(name=name, place=self._place, mode=entry.mode, oid=entry.oid)

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self._pass())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._names and _counts(name, self._names[name])


class _Items(ItemsView[str, QueueFile]):
    _mapping: Files

    def __iter__(self) -> Iterator[tuple[str, QueueFile]]:
        return ((each.name, each) for each in self._mapping.passing())


class _Values(ValuesView[QueueFile]):
    _mapping: Files

    def __iter__(self) -> Iterator[QueueFile]:
        return self._mapping.passing()


def _counts(name: str, entry: Entry) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".") and "/" not in name and entry.mode != FOLDER


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A commit as far as it concerns us."""

    base: str
    files: Mapping[Place, Mapping[str, QueueFile]]
    missing: tuple[Place, ...] = ()
    """Folders that are not there, which in Git means: empty."""
    there: Mapping[Place, Names] = field(default_factory=dict)
    """All that lies in the folders that are there."""

    def path(self, place: Place, name: str) -> str:
        return f"{self.base}{place}/{name}"

    def places(self, name: str) -> list[Place]:
        """Every folder that holds a file of this name."""
        return [place for place, files in self.files.items() if name in files]


def read(folders: Mapping[str, Names], base: str | None = None) -> Layout:
    """The five folders, of those that a commit has (by path, each with what lies right in it): at the top or under jobs/, or at `base`."""
    if base is None:
        base = find_base([path for path, names in folders.items() if names])
    there = {place: names for place in Place if (names := folders.get(f"{base}{place}/"))}
    files = {place: Files(place, there.get(place, {})) for place in Place}
    return Layout(base=base, files=files, missing=tuple(place for place in Place if place not in there), there=there)


def folders(base: str | None) -> list[str]:
    """Where the five folders are, or may be when `base` is not known."""
    return [f"{each}{place}/" for each in (BASES if base is None else (base,)) for place in Place]


def base_of(path: str) -> str | None:
    """The folder of the five folders, of the path that a file had in the queue; None where it was in none."""
    outer, _, _ = path.rpartition("/")
    base, found, after = f"/{outer}".rpartition(f"/{Place.QUEUED}")
    return f"{base}/"[1:] if found and not after else None


def find_base(paths: Collection[str]) -> str:
    """Where the folders are; at the top when there are none yet."""
    return next((base for base in BASES if any(f"{base}{place}/" in paths for place in Place)), BASES[0])


def mode(written: int) -> str:
    """A mode as git shows it, of what stands in a tree: old ones have others."""
    if stat.S_ISREG(written):
        return REGULAR[bool(written & 0o100)]
    return LINK if stat.S_ISLNK(written) else FOLDER if stat.S_ISDIR(written) else SUBMODULE


def show(name: str) -> str:
    """A file's name as it may stand in a message: no control characters, no bytes that are no text, and not too long."""
    text = os.fsencode(name[:_SHOWN]).decode("utf-8", "backslashreplace")
    plain = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)
    return plain if len(name) <= _SHOWN else f"{plain}...{digest(name.encode('utf-8', 'surrogateescape').hex())}"


def is_plain(name: str) -> bool:
    """Whether a name is one that a run may be known by: text, without control characters, not too long."""
    return show(name) == name and len(os.fsencode(name)) <= NAME_LIMIT
