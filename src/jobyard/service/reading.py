"""The kinds of file that are read."""

from __future__ import annotations

from pathlib import Path

from jobyard.compat import jobernetes
from jobyard.files import plain, workflow_file
from jobyard.files.reading import Reading, read

READERS = (workflow_file.READER, jobernetes.READER)


def read_file(path: Path) -> Reading:
    """Reads a file, or what a folder stands for, whichever kind it is."""
    return read(path, READERS, plain.read)
