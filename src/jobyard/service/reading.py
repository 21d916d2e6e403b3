"""The kinds of file that are read."""

from __future__ import annotations

import os
from pathlib import Path

from jobyard.files import plain
from jobyard.files.document import Document
from jobyard.files.folder import Folder, show
from jobyard.files.reading import Reader, Reading, is_for_checks, read, workflows
from jobyard.model.finding import Finding
from jobyard.service import settings, workflow_files
from jobyard.service.sources import Outside


def _read_settings(folder: Folder, path: Path, document: Document) -> Reading:
    """A service's settings, for who checks them before the service has them."""
    outside = Outside(env=os.environ, folder=path.parent, is_elsewhere=True)
    _, findings = settings.read_document(document, outside, folder.budget)
    folder.findings += findings
    kind = document.at(("kind",)) if "kind" in document.tree else document.at()
    remedy = f"`jobyard serve {show(path)}` serves them"
    return Reading(workflow=None, instead=Finding(position=kind, what="a service's settings", expected="something to run", remedy=remedy))


SETTINGS = Reader(recognises=settings.recognises, read=_read_settings, runs=False)
READERS = (SETTINGS, *workflow_files.READERS)


def read_file(path: Path) -> Reading:
    """Reads a file, or what a folder stands for, whichever kind it is."""
    return read(path, READERS, plain.read)


def files_of(path: Path) -> list[Path]:
    """What is to be read for a path where all of it is meant: of a folder, the settings in it, and each workflow where it holds several;
    else the path itself."""
    if not path.is_dir():
        return [path]
    default = path / settings.DEFAULT_FILE
    served = [default] if default.is_file() and is_for_checks(default, READERS) else []
    inside = workflows(path, READERS)
    return [*served, *(inside if len(inside) > 1 or served else [path])]
