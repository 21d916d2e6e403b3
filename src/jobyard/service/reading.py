"""The kinds of file that are read."""

from __future__ import annotations

from pathlib import Path

from jobyard.compat import jobernetes
from jobyard.files import plain, run_file, workflow_file
from jobyard.files.reading import Reading, read, workflows

_WORKFLOWS = (workflow_file.READER, jobernetes.READER)
READERS = (run_file.reader(_WORKFLOWS), *_WORKFLOWS)


def read_file(path: Path) -> Reading:
    """Reads a file, or what a folder stands for, whichever kind it is."""
    return read(path, READERS, plain.read)


def files_of(path: Path) -> list[Path]:
    """What is to be read for a path where all of it is meant: each workflow of a folder that holds several, else the path itself."""
    inside = workflows(path, READERS) if path.is_dir() else []
    return inside if len(inside) > 1 else [path]
