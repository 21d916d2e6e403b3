"""The kinds of file that are read."""

from __future__ import annotations

from pathlib import Path

from jobyard.compat import jobernetes
from jobyard.files import plain, run_file, workflow_file
from jobyard.files.reading import Reading, read

_WORKFLOWS = (workflow_file.READER, jobernetes.READER)
READERS = (run_file.reader(_WORKFLOWS), *_WORKFLOWS)


def read_file(path: Path) -> Reading:
    """Reads a file, or what a folder stands for, whichever kind it is."""
    return read(path, READERS, plain.read)
