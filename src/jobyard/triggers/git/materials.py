"""The files that a workflow or a run of one names: looked up by their paths in the commit, each with its size before it is read, and within bounds."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobyard.files.borders import SIZE, Budget
from jobyard.files.document import load
from jobyard.files.reading_room import Allowance, ReadingRoom
from jobyard.model.errors import WrongInput
from jobyard.triggers.git.layout import FOLDER, REGULAR, SUFFIXES, Entry
from jobyard.triggers.git.objects import Objects

FILES = 2_000
"""How many files a workflow may name, those of its folders included."""
FOLDERS = 1_000
"""How many folders are looked into for that."""
DEPTH = 32
BYTES = 64 * 1024 * 1024
"""How many bytes they may have together."""


class TooMuch(WrongInput):
    """A workflow names more of the repository than one run may need."""

    sentence = "it names {what} of the repository; expected at most {expected}. Name fewer, or split it into several workflows"
    what: str
    expected: str


def needs_others(text: bytes) -> bool:
    """Whether a file may name other files of the repository: only workflows and runs of them do."""
    return any(key in text for key in (b"manifest", b"revert", b"workflow")) and b"jobyard.dev/" in text


@dataclass(frozen=True, kw_only=True)
class Text:
    """A file of the repository: what it holds, and where it stands."""

    path: str
    content: bytes


async def collect(objects: Objects, commit: str, file: Text, room: ReadingRoom, allowance: Allowance) -> dict[str, bytes]:
    """The files that a file names, and those that they name: a run names a workflow, which names manifests. `allowance`: what the file may
    take, all of them included. Raises TooMuch, GitFailed, InvalidFiles, NoChild."""
    found = await gather(objects, commit, await room.read(named, [file], file.path, allowance))
    others = [Text(path=path, content=content) for path, content in found.items() if needs_others(content)]
    more = [path for path in await room.read(named, others, file.path, allowance) if path not in found] if others else []
    return {**await gather(objects, commit, more, BYTES - sum(map(len, found.values()))), **found} if more else found


def named(files: list[Text]) -> list[str]:
    """The paths in the repository that files name; none that leads out of it. All have one budget. For a `files.reading_room`."""
    found: dict[str, None] = {}
    budget = Budget()
    for file in files:
        for document in load(file.content, file.path, budget)[0]:
            for name in _names(document.tree):
                there = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), name))
                if not (there.startswith(("/", "../")) or there == ".." or "\0" in there):
                    found[there] = None
    return list(found)


def _names(tree: Any) -> Iterable[str]:
    if isinstance(tree, dict) and isinstance(tree.get("workflow"), str):
        yield tree["workflow"]
    spec = tree.get("spec") if isinstance(tree, dict) else None
    steps = spec.get("steps") if isinstance(spec, dict) else None
    for step in steps if isinstance(steps, list) else ():
        for key in ("manifest", "revert") if isinstance(step, dict) else ():
            if isinstance(step.get(key), str):
                yield step[key]


async def gather(objects: Objects, commit: str, paths: Iterable[str], room: int = BYTES) -> dict[str, bytes]:
    """The files at these paths, and of a folder the manifests in it and below, by path. Links, other repositories and hidden files are
    none; what is not there is left out. `room`: how many bytes they may have. Raises TooMuch, GitFailed."""
    found: dict[str, str] = {}
    folders: dict[str, str] = {}
    root = (await objects.find([f"{commit}^{{tree}}"])).get(f"{commit}^{{tree}}")
    for path in paths if root else ():
        entry = Entry(mode=FOLDER, oid=root.oid) if path == "." and root else await _resolve(objects, root.oid if root else "", path)
        if entry is not None and entry.mode == FOLDER:
            folders["" if path == "." else f"{path}/"] = entry.oid
        elif entry is not None and entry.mode in REGULAR:
            found[path] = entry.oid
    await _descend(objects, folders, found)
    return await _read(objects, found, room)


async def _resolve(objects: Objects, folder: str, path: str) -> Entry | None:
    entry: Entry | None = Entry(mode=FOLDER, oid=folder)
    for part in path.split("/"):
        if entry is None or entry.mode != FOLDER:
            return None
        entry = (await objects.trees([entry.oid]))[entry.oid].get(part)
    return entry


async def _descend(objects: Objects, folders: Mapping[str, str], found: dict[str, str]) -> None:
    """Adds the manifests of folders to `found`, level by level: what has no end is noticed."""
    count = 0
    for _ in range(DEPTH):
        count += len(folders)
        if count > FOLDERS:
            raise TooMuch(what="too many folders", expected=f"{FOLDERS:,}")
        trees = await objects.trees(folders.values())
        below: dict[str, str] = {}
        for path, oid in folders.items():
            for name, entry in trees[oid].entries():
                if name.startswith(".") or "/" in name:
                    continue
                if entry.mode == FOLDER:
                    below[f"{path}{name}/"] = entry.oid
                elif entry.mode in REGULAR and name.endswith(SUFFIXES):
                    found[f"{path}{name}"] = entry.oid
                if len(found) > FILES or len(below) > FOLDERS:
                    raise TooMuch(what="too many files and folders", expected=f"{FILES:,} files in {FOLDERS:,} folders")
        if not below:
            return
        folders = below
    raise TooMuch(what=f"folders nested more than {DEPTH} deep", expected=f"{DEPTH}")


async def _read(objects: Objects, found: Mapping[str, str], room: int) -> dict[str, bytes]:
    sizes = await objects.find(found.values())
    total = 0
    for path, oid in found.items():
        size = sizes[oid].size if oid in sizes else 0
        total += size
        if size > SIZE:
            raise TooMuch(what=f"{path}, a file of {size:,} bytes,", expected=f"{SIZE:,}")
        if total > room:
            raise TooMuch(what=f"more than {BYTES:,} bytes", expected="that")
    texts = await objects.blobs(found.values(), SIZE)
    return {path: texts[oid] for path, oid in found.items() if oid in texts}
