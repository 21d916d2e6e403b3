"""What a run's files keep secret, so that it can be kept out of what is told of the run: read from the repository as the run was made of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobyard.files.borders import SIZE, Budget
from jobyard.files.document import load
from jobyard.files.reading_room import ReadingRoom
from jobyard.model.run import Run
from jobyard.triggers.git.hiding import PIECE, hide, secrets
from jobyard.triggers.git.layout import QueueFile
from jobyard.triggers.git.materials import Text, collect, needs_others
from jobyard.triggers.git.objects import Objects, is_oid

log = logging.getLogger("jobyard.git")

READ_AT = "readAt"
"""In a run's origin: the commit whose files its workflow named."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Texts that are to be told, and the files that may hold what must not be."""

    files: list[Text]
    texts: list[str]
    length: int
    """How many characters of each are to be told."""


async def tellable(
    objects: Objects, file: QueueFile, run: Run, tip: str, room: ReadingRoom, texts: Sequence[str], length: int
) -> list[str] | None:
    """Texts about a run, without the values that nobody may be told; None where those can't be known any more.

    Both the file as it was queued and as it lies there now are read: somebody may have edited it. So are the manifests that it names, as they
    were when the run was made.
    """
    try:
        queued, path, at = (run.origin.get(each, "") for each in ("blob", "file", READ_AT))
        allowance = room.allowance()
        wanted = {file.oid, *([queued] if is_oid(queued) else [])}
        contents = await objects.blobs(wanted, SIZE)
        if len(contents) < len(wanted):
            return None
        files = [Text(path=file.name, content=content) for content in contents.values()]
        for content in contents.values():
            if needs_others(content):
                if not await _has(objects, at or tip):
                    return None
                named = await collect(objects, at or tip, Text(path=path or file.name, content=content), room, allowance)
                files += [Text(path=path, content=content) for path, content in named.items()]
        cut = [text[: length + PIECE] for text in texts]
        return await room.read(without_secrets, Asked(files=files, texts=cut, length=length), file.name, allowance)
    except Exception as error:
        log.info("what file %s keeps secret can't be read", file.name, exc_info=error)
        return None


async def _has(objects: Objects, commit: str) -> bool:
    return is_oid(commit) and commit in await objects.find([commit])


def without_secrets(asked: Asked) -> list[str] | None:
    """The texts without what these files keep secret; None where one can't be read. For a `files.reading_room`."""
    trees: list[Any] = []
    budget = Budget()
    for file in asked.files:
        documents, mistakes = load(file.content, file.path, budget)
        if mistakes:
            return None
        trees += [document.tree for document in documents]
    kept = secrets(trees)
    return [hide(text, kept, asked.length) for text in asked.texts]
