"""Folders and files that only their owner may read: what the local cluster keeps holds Secrets, and its token runs programs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from jobyard.model.errors import JobyardError

UMASK = 0o077
"""What the cluster's own process makes is for its owner alone. Containers have the umask of whoever started the cluster."""


class FolderNotPrivate(JobyardError):
    """The folder of the local cluster is another's, or not to be had."""

    sentence = "the local cluster can't be kept in {folder}: {why}. Set JOBYARD_DATA to a folder of yours"
    exit_code = 3
    folder: Path
    why: str


def make_private(folder: Path) -> None:
    """Makes a folder that only we may enter, or makes one that is there so. Raises FolderNotPrivate."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise FolderNotPrivate(folder=folder, why="it is a link, and may lead anywhere")
        if found.st_uid != os.geteuid():
            raise FolderNotPrivate(folder=folder, why=f"it belongs to another user (number {found.st_uid}), who could read your Secrets")
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise FolderNotPrivate(folder=folder, why=error.strerror or str(error)) from None


def open_private(path: str, flags: int) -> int:
    """Opens a file that only we may read, from its first byte on: an `opener`."""
    return os.open(path, flags, 0o600)


def write_private(path: Path, text: str) -> None:
    """Writes a file that only we may read."""
    with open(path, "w", opener=open_private) as file:
        file.write(text)
