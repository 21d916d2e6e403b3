"""The kinds of file that hold a workflow."""

from __future__ import annotations

from pathlib import Path

from jobyard.compat import jobernetes
from jobyard.files import plain, run_file, workflow_file
from jobyard.files.reading import Reader, Reading, read

_WORKFLOWS = (workflow_file.READER, jobernetes.READER)
READERS: tuple[Reader, ...] = (run_file.reader(_WORKFLOWS), *_WORKFLOWS)


def read_workflow(path: Path) -> Reading:
    """Reads a workflow, a model, or plain manifests."""
    return read(path, READERS, plain.read)
