"""What lies in a folder beside its workflows, and is named by none: whoever checks the folder wants it looked at, too."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobyard.files.borders import TooMuch
from jobyard.files.document import Document
from jobyard.files.folder import Folder, manifests, show
from jobyard.files.manifest import unfold
from jobyard.files.reading import Reader
from jobyard.model.finding import Finding


@dataclass(kw_only=True)
class Rest:
    """The files that nobody looked into."""

    files: list[Path] = field(default_factory=list)
    """Those that hold a Job, a List, or what a reader knows: each is to be read by itself."""
    findings: list[Finding] = field(default_factory=list)
    """Those that can't be read, so that nobody knows what they hold."""
    skipped: list[str] = field(default_factory=list)
    """Those that hold something else."""


def rest(path: Path, looked_into: Collection[str], readers: Sequence[Reader]) -> Rest:
    """What is under a folder, hidden files left alone. `looked_into`: files by the names that messages use."""
    found = Rest()
    for file in manifests(path):
        if show(file) in looked_into:
            continue
        try:
            documents, wrong = Folder(file.parent).look_into(file)
        except TooMuch:
            found.files.append(file)  # whoever reads it is told
            continue
        found.findings += wrong
        if any(_is_ours(document, readers) for document in documents):
            found.files += [] if wrong else [file]
        elif not wrong:
            found.skipped.append(show(file))
    return found


def _is_ours(document: Document, readers: Sequence[Reader]) -> bool:
    if any(reader.recognises(document.tree) for reader in readers):
        return True
    return any(isinstance(part.tree, dict) and part.tree.get("kind") == "Job" for part in unfold(document))
