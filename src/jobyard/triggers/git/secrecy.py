"""What a run's files keep secret, so that it can be kept out of what is told of the run: read from the repository as the run was made of it."""

from __future__ import annotations

import logging
from typing import Any

from jobyard.files.borders import SIZE
from jobyard.files.document import load
from jobyard.files.reading_room import ReadingRoom
from jobyard.model.run import Run
from jobyard.triggers.git.layout import QueueFile
from jobyard.triggers.git.manifests import secrets
from jobyard.triggers.git.materials import Text, collect, needs_others
from jobyard.triggers.git.objects import Objects, is_oid

log = logging.getLogger("jobyard.git")

READ_AT = "readAt"
"""In a run's origin: the commit whose files its workflow named."""


async def kept_secret(objects: Objects, file: QueueFile, run: Run, tip: str, room: ReadingRoom) -> list[str] | None:
    """The values that nobody may be told, the longest first; None where they can't be known any more.

    Both the file as it was queued and as it lies there now are read: somebody may have edited it. So are the manifests that it names, as they
    were when the run was made.
    """
    try:
        queued, path, at = (run.origin.get(each, "") for each in ("blob", "file", READ_AT))
        wanted = {file.oid, *([queued] if is_oid(queued) else [])}
        texts = await objects.blobs(wanted, SIZE)
        if len(texts) < len(wanted):
            return None
        files = [Text(path=file.name, content=text) for text in texts.values()]
        for text in texts.values():
            if needs_others(text):
                if not await _has(objects, at or tip):
                    return None
                named = await collect(objects, at or tip, Text(path=path or file.name, content=text), room)
                files += [Text(path=path, content=content) for path, content in named.items()]
        return await room.read(secrets_of, files, file.name)
    except Exception as error:
        log.info("what file %s keeps secret can't be read", file.name, exc_info=error)
        return None


async def _has(objects: Objects, commit: str) -> bool:
    return is_oid(commit) and commit in await objects.find([commit])


def secrets_of(files: list[Text]) -> list[str] | None:
    """What these files keep secret; None where one can't be read. For a `files.reading_room`."""
    trees: list[Any] = []
    for file in files:
        documents, mistakes = load(file.content, file.path)
        if mistakes:
            return None
        trees += [document.tree for document in documents]
    return secrets(trees)
