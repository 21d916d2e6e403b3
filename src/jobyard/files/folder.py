"""Where a file's paths lead: the files beside it, read once each, all from one budget."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from jobyard.files.borders import SIZE, Budget
from jobyard.files.document import Document, parse
from jobyard.files.events import Mistake
from jobyard.files.inspection import Inspection
from jobyard.files.job_source import JobSource
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
    budget: Budget = field(default_factory=Budget)
    jobs: dict[tuple[Path, bool], list[JobSource]] = field(default_factory=dict)
    """The Jobs of what was read, by path and whether braces mean nothing in it: many steps may name one file."""
    _read: dict[Path, tuple[list[Document], list[Finding]]] = field(default_factory=dict)

    @property
    def looked_into(self) -> list[Path]:
        """The files that were read, or were to be, also those in which nothing was found."""
        return list(self._read)

    def resolve(self, relative: str) -> Path:
        """A path as a file in this folder means it; for those written for another working directory, as this process means it."""
        if self.root is not None:
            return self.path / relative
        beside = self.path / relative
        return Path(relative) if not is_there(beside) and is_there(Path(relative)) else beside

    def inspect(self, document: Document) -> Inspection:
        """What gathers the mistakes of one document."""
        return Inspection(document, self.budget)

    def mistake(self, finding: Finding) -> None:
        """Takes a mistake in. Raises TooMuch."""
        self.budget.mistake(finding.position)
        self.findings.append(finding)

    def documents(self, path: Path) -> list[Document]:
        """The documents of one file. A file that can't be read is a finding. Raises TooMuch."""
        documents, findings = self.look_into(path)
        self.findings += findings
        return documents

    def look_into(self, path: Path) -> tuple[list[Document], list[Finding]]:
        """The documents of one file, and the mistake that kept others from being read, which does not count yet. Raises TooMuch."""
        if path not in self._read:
            self._read[path] = self._documents(path)
        return self._read[path]

    def _documents(self, path: Path) -> tuple[list[Document], list[Finding]]:
        shown = show(path)
        documents: list[Document] = []
        if not self.holds(path):
            return documents, [Finding(position=Position(file=shown), what="leads out of the repository", expected="a file in it")]
        try:
            with path.open("rb") as stream:
                documents.extend(parse(stream.read(SIZE + 1), shown, self.budget))
        except OSError as error:
            remedy = "check the path" if isinstance(error, FileNotFoundError) else ""
            what = f"can't be read ({error.strerror})"
            return documents, [Finding(position=Position(file=shown), what=what, expected="a readable file", remedy=remedy)]
        except Mistake as mistake:
            return documents, [mistake.finding(shown)]
        return documents, []

    def holds(self, path: Path) -> bool:
        """Whether a path may be read: it does not lead out of the root."""
        try:
            return self.root is None or path.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError, ValueError):
            return False  # no path at all, or one that leads in a circle


def is_there(path: Path) -> bool:
    """Whether there is a file or a folder; not where it can't be one."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


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
