"""Why there is nothing to do though somebody thinks that there is: the folder is not there, or what was queued was not pushed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from jobyard.model.errors import WrongInput, number
from jobyard.triggers.git.layout import SUFFIXES, Layout, Place
from jobyard.triggers.git.repository import Repository

LISTED = 10_000
"""How many files of a person's working tree are looked at."""


class NoFolders(WrongInput):
    """The branch has none of the five folders where they were said to be."""

    sentence = "there is no folder {folder} with a queue in branch {branch}; `jobyard git init --folder {folder}` makes it"
    folder: str
    branch: str


async def why_idle(repository: Repository, base: str | None) -> str:
    """A sentence for who looked and found nothing queued or running. `base`: where the folders were said to be. Raises NoFolders, GitFailed."""
    source = repository.source
    _, look = await repository.look(base)
    if base and len(look.missing) == len(Place):
        raise NoFolders(folder=base.rstrip("/"), branch=source.branch)
    if (source.folder / ".git").exists():
        left = _unknown(look, await asyncio.to_thread(_names, source.folder / look.path(Place.QUEUED, "")))
        if left:
            where = f"{source.remote}/{source.branch}" if source.remote else f"branch {source.branch}"
            do = "commit and push" if source.remote else "commit"
            return f"Nothing is queued or running. {number(left, 'file')} of {look.path(Place.QUEUED, '')} {'is' if left == 1 else 'are'} not in {where} yet: {do}."
    return "Nothing is queued or running."


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry, _ in zip(entries, range(LISTED), strict=False)]
    except OSError:
        return []


def _unknown(look: Layout, names: list[str]) -> int:
    """How many files of a working tree's queue the branch does not know. One that lies in another folder there was pushed: the tree is old. Pure."""
    return sum(1 for name in names if name.endswith(SUFFIXES) and not name.startswith(".") and not look.places(name))
