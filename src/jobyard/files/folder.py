"""Where a file's paths lead: the files beside it, read once each."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from jobyard.files.document import SIZE_LIMIT, Document, load
from jobyard.files.objects import SideObject
from jobyard.model.finding import Finding, Position

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass
class Folder:
    """A folder to read from; what was found wrong gathers in `findings`."""

    path: Path
    findings: list[Finding] = field(default_factory=list)
    objects: list[SideObject] = field(default_factory=list)
    """What stands beside the Jobs of the files that were read."""
    root: Path | None = None
    """What no path may lead out of: whoever wrote the file is not who reads it."""

    def resolve(self, relative: str) -> Path:
        """A path as a file in this folder means it; for those written for another working directory, as this process means it."""
        if self.root is not None:
            return self.path / relative
        beside = self.path / relative
        return Path(relative) if not beside.exists() and Path(relative).exists() else beside

    def documents(self, path: Path) -> list[Document]:
        """The documents of one file. A file that can't be read is a finding."""
        shown = show(path)
        if not self.holds(path):
            position = Position(file=shown)
            self.findings.append(Finding(position=position, what="leads out of the repository", expected="a file in it"))
            return []
        try:
            with path.open("rb") as stream:
                data = stream.read(SIZE_LIMIT + 1)
        except OSError as error:
            remedy = "check the path" if isinstance(error, FileNotFoundError) else ""
            self.findings.append(
                Finding(position=Position(file=shown), what=f"can't be read ({error.strerror})", expected="a readable file", remedy=remedy)
            )
            return []
        documents, findings = load(data, shown)
        self.findings += findings
        return documents

    def holds(self, path: Path) -> bool:
        """Whether a path may be read: it does not lead out of the root."""
        return self.root is None or path.resolve().is_relative_to(self.root.resolve())


def manifests(path: Path) -> list[Path]:
    """Every manifest under a folder, nested ones too, sorted by path; hidden ones are left alone."""
    found = []
    for base, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(base) / name for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(found)


def show(path: Path) -> str:
    """A path as a person here would write it."""
    try:
        return str(path.resolve().relative_to(Path.cwd())) if path.is_absolute() else os.path.normpath(path)
    except ValueError:
        return os.path.normpath(path)
