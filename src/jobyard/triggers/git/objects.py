"""What a commit holds: its folders one level at a time, its files each with its size first; and new folders, made of old ones.

A tree of a hundred thousand files may be a dozen objects, and one with an endless number of folders little more. So nothing here, and
nothing that git is asked here, goes down a tree by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Collection, ItemsView, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from jobyard.model.errors import WrongInput
from jobyard.triggers.git.command import Git
from jobyard.triggers.git.layout import FOLDER, Entry, mode

FOLDER_BYTES = 64 * 1024 * 1024
"""The largest folder that is read: some million files."""
BATCH_BYTES = 32 * 1024 * 1024
"""About how much is asked for at once."""
_SMALL = 64 * 1024
_LARGE = 1024 * 1024
_MODE_DIGITS = 6
"""Octal digits of sixteen bits."""
_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
Edit = tuple[str, str, str]
"""Mode, object and path of a file; mode 0 takes the path away."""


class FolderTooLarge(WrongInput):
    """A folder of a commit holds more than is ever read."""

    sentence = (
        "a folder of the repository has {size:,} bytes of names; expected at most {limit:,}. Move its older files elsewhere, or delete them"
    )
    size: int
    limit: int = FOLDER_BYTES


@dataclass(frozen=True, kw_only=True)
class Found:
    """An object that is there."""

    oid: str
    kind: str
    size: int


class Tree(Mapping[str, Entry]):
    """What lies right in a folder, as git stores it: an entry is read when it is asked for, so that a large folder costs little more than its
    text."""

    def __init__(self, raw: bytes, width: int) -> None:
        """`width`: bytes of an object's name: 20, or 32."""
        self._raw = raw
        self._width = width
        # What is no entry, and all behind it, is taken in one go: looking for where one may begin again would never end.
        self._entry = re.compile(rb"([0-7]++) ([^\0]++)\0(.{%d})|.+" % width, re.DOTALL)

    def index(self) -> None:
        """Makes what finds an entry by its name, before it is asked for: in a large folder that takes a second or two."""
        _ = self._starts

    def _read(self) -> Iterator[re.Match[bytes]]:
        """The entries, in the order in which they are stored."""
        return takewhile(_is_entry, self._entry.finditer(self._raw))

    @cached_property
    def _starts(self) -> array[int]:
        """Where the entries begin, in git's order; who pushes may have stored them in any."""
        return array("Q", sorted((each.start() for each in self._read()), key=self._order))

    def __getitem__(self, name: str) -> Entry:
        wanted = os.fsencode(name)
        for order in (wanted, wanted + b"/"):  # git has it in order: a folder stands where its name would with a slash
            at = bisect_left(self._starts, order, key=self._order)
            if at < len(self._starts) and self._order(self._starts[at]) == order:
                return _entry(*self._at(self._starts[at])[::2])
        raise KeyError(name)

    def _at(self, start: int) -> tuple[bytes, bytes, bytes]:
        space = self._raw.index(b" ", start)
        end = self._raw.index(b"\0", space)
        return self._raw[start:space], self._raw[space + 1 : end], self._raw[end + 1 : end + 1 + self._width]

    def _order(self, start: int) -> bytes:
        return _order(*self._at(start)[:2])

    def __iter__(self) -> Iterator[str]:
        return (os.fsdecode(each[2]) for each in self._read())

    def __len__(self) -> int:
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._raw)

    @property
    def size(self) -> int:
        """Bytes of it as it is stored."""
        return len(self._raw)

    def items(self) -> ItemsView[str, Entry]:
        """All of them, in the order in which they are stored, in one go."""
        return _Items(self)

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """All of them, in the order in which they are stored."""
        return ((os.fsdecode(each[2]), _entry(each[1], each[3])) for each in self._read())

    def those(self, wanted: Collection[str]) -> dict[str, Entry]:
        """Those of the wanted that are there. No index is made for it."""
        names = {os.fsencode(name): name for name in wanted}
        found: dict[str, Entry] = {}
        for each in self._read():
            if each[2] in names:
                found.setdefault(names[each[2]], _entry(each[1], each[3]))
        return found

    def changed(self, changes: Mapping[str, Entry | None]) -> bytes:
        """The folder with entries put in, replaced or (None) taken away, as git stores it; the others byte for byte as they are."""
        names = {os.fsencode(name): entry for name, entry in changes.items()}
        kept = [each.groups() for each in self._read() if each[2] not in names]
        added = [(entry.mode.lstrip("0").encode(), name, bytes.fromhex(entry.oid)) for name, entry in names.items() if entry is not None]
        ordered = sorted((*kept, *added), key=lambda each: _order(each[0], each[1]))
        return b"".join(b"%s %s\0%s" % each for each in ordered)


class _Items(ItemsView[str, Entry]):
    """The entries of a folder, none of them looked up by its name."""

    _mapping: Tree

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return self._mapping.entries()


def _is_entry(found: re.Match[bytes]) -> bool:
    return found[1] is not None


def _order(written: bytes, name: bytes) -> bytes:
    return name + b"/" if _mode(written[-_MODE_DIGITS:]) == FOLDER else name


def _entry(written: bytes, oid: bytes) -> Entry:
    return Entry(mode=_mode(written[-_MODE_DIGITS:]), oid=oid.hex())


@lru_cache(maxsize=64)
def _mode(digits: bytes) -> str:
    """The mode that stands there, of whatever number of digits the last: sixteen bits of them count, as for git."""
    return mode(int(digits, 8) & 0xFFFF)


def is_oid(text: str) -> bool:
    """Whether this is the name of an object in full."""
    return _OID.fullmatch(text) is not None


class Objects:
    """The objects of a clone."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._trees: dict[str, Tree] = {}
        """Those that were asked for last."""
        self._held: dict[str, bytes] = {}
        """Small files that will be asked for one by one."""
        self._made: dict[str, bytes] = {}
        """New folders that are not stored yet."""

    async def find(self, names: Iterable[str]) -> dict[str, Found]:
        """What there is of these objects, by whatever names git knows them (`COMMIT:FOLDER`)."""
        wanted = [name for name in dict.fromkeys(names) if "\n" not in name]
        if not wanted:
            return {}
        text = "".join(f"{name}\n" for name in wanted)
        out = await self._git("cat-file", "--batch-check", stdin=text.encode("utf-8", "surrogateescape"))
        found: dict[str, Found] = {}
        for name, line in zip(wanted, out.split(b"\n"), strict=False):
            oid, _, rest = line.decode("utf-8", "surrogateescape").partition(" ")
            kind, _, size = rest.partition(" ")
            if is_oid(oid) and size.isdecimal():
                found[name] = Found(oid=oid, kind=kind, size=int(size))
        return found

    async def blobs(self, oids: Iterable[str], limit: int) -> dict[str, bytes]:
        """The contents of files; those that are larger, or not there, are left out."""
        asked = list(dict.fromkeys(oids))
        held = {oid: self._held[oid] for oid in asked if oid in self._held and len(self._held[oid]) <= limit}
        known = await self.find(oid for oid in asked if oid not in held)
        wanted = [each for each in known.values() if each.kind == "blob" and each.size <= limit]
        return held | {oid: text async for oid, text in self._read(wanted)}

    async def hold(self, oids: Iterable[str]) -> None:
        """Reads small files in one go, and keeps them until this is called again: asking git for each alone takes as long as many."""
        self._held = {}
        self._held = await self.blobs(oids, _SMALL)

    async def trees(self, oids: Iterable[str]) -> dict[str, Tree]:
        """Folders by their objects. Raises FolderTooLarge."""
        wanted = list(dict.fromkeys(oids))
        known = {oid: Tree(self._made[oid], len(oid) // 2) for oid in wanted if oid in self._made}
        known |= {oid: self._trees[oid] for oid in wanted if oid in self._trees}
        return known | await self._open((await self.find(oid for oid in wanted if oid not in known)).values())

    async def open(self, found: Iterable[Found]) -> dict[str, Tree]:
        """The folders among these objects, which are kept until others are opened. Raises FolderTooLarge."""
        wanted = {each.oid: each for each in found}
        kept = {oid: self._trees[oid] for oid in wanted if oid in self._trees}
        self._trees = kept | await self._open(each for oid, each in wanted.items() if oid not in kept)
        return self._trees

    async def pass_by(self, found: Iterable[Found]) -> AsyncIterator[tuple[str, Tree]]:
        """Folders whose sizes are known, some at a time; those that are larger than is ever read, or gone, are left out."""
        async for oid, raw in self._read([each for each in found if each.kind == "tree" and each.size <= FOLDER_BYTES]):
            yield oid, Tree(raw, len(oid) // 2)

    async def _open(self, found: Iterable[Found]) -> dict[str, Tree]:
        trees = [each for each in found if each.kind == "tree"]
        for each in trees:
            if each.size > FOLDER_BYTES:
                raise FolderTooLarge(size=each.size)
        opened = {oid: Tree(raw, len(oid) // 2) async for oid, raw in self._read(trees)}
        for tree in opened.values():
            if tree.size > _LARGE:  # others go on meanwhile
                await asyncio.to_thread(tree.index)
        return opened

    async def _read(self, wanted: Sequence[Found]) -> AsyncIterator[tuple[str, bytes]]:
        """Objects whose sizes are known, some at a time."""
        group: list[Found] = []
        for each in wanted:
            if group and sum(one.size for one in group) + each.size > BATCH_BYTES:
                for read in (await self._batch(group)).items():
                    yield read
                group = []
            group.append(each)
        if group:
            for read in (await self._batch(group)).items():
                yield read

    async def _batch(self, wanted: Sequence[Found]) -> dict[str, bytes]:
        out = await self._git("cat-file", "--batch", stdin="".join(f"{each.oid}\n" for each in wanted).encode())
        found, at = {}, 0
        for each in wanted:
            head, _, _ = out[at : at + 200].partition(b"\n")
            at += len(head) + 1
            if head.endswith(b" %d" % each.size):  # else: gone since we asked
                found[each.oid] = out[at : at + each.size]
                at += each.size + 1
        return found

    # --- new ones ---

    async def blob(self, text: bytes) -> str:
        """A new file's object."""
        return (await self._git("hash-object", "-w", "--stdin", stdin=text)).decode().strip()

    async def tree(self, root: str, edits: Sequence[Edit]) -> str:
        """The tree that edits make of another ('' for none), once it is stored. A folder makes way for a file of its name, and a file for a
        folder."""
        changes: dict[str, Any] = {}
        for mode_, oid, path in edits:
            *outer, name = path.split("/")
            inside = changes
            for part in outer:
                inside = inside.setdefault(part, {})
            inside[name] = None if mode_ == "0" else Entry(mode=mode_, oid=oid)
        width = len(root) or next((len(oid) for _, oid, _ in edits if oid), 40)
        return await self._change(root, changes, width) or self._make(b"", width)

    async def _change(self, folder: str, changes: Mapping[str, Any], width: int) -> str:
        """The folder with its changes; '' when it is empty, which in Git means that there is none."""
        old: Tree = (await self.trees([folder]))[folder] if folder else Tree(b"", 20)
        edited: dict[str, Entry | None] = {}
        for name, change in changes.items():
            if not isinstance(change, dict):
                edited[name] = change
                continue
            there = old.get(name)
            inside = await self._change(there.oid if there is not None and there.mode == FOLDER else "", change, width)
            if inside:
                edited[name] = Entry(mode=FOLDER, oid=inside)
            elif there is not None and there.mode == FOLDER:
                edited[name] = None
        raw = old.changed(edited)
        return self._make(raw, width) if raw else ""

    def _make(self, raw: bytes, width: int) -> str:
        made = hashlib.new("sha1" if width == 40 else "sha256", b"tree %d\0%s" % (len(raw), raw), usedforsecurity=False).hexdigest()
        self._made[made] = raw
        return made

    async def store(self) -> None:
        """Stores the new folders, all in one go."""
        made, self._made = self._made, {}
        if not made:
            return
        with tempfile.TemporaryDirectory(prefix="jobyard-trees-") as name:
            for oid, raw in made.items():
                Path(name, oid).write_bytes(raw)
            paths = "".join(f"{name}/{oid}\n" for oid in made)
            # Literally: what others put into the repository is theirs, however odd.
            await self._git("hash-object", "-w", "-t", "tree", "--literally", "--stdin-paths", stdin=os.fsencode(paths))
