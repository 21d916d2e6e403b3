"""What comes of reading a file: a workflow, what was found wrong, and what the file says of its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobyard.files import namespaces, objects
from jobyard.files.borders import SIZE, Budget, TooMuch
from jobyard.files.document import Document
from jobyard.files.folder import SUFFIXES, Folder, is_there, show
from jobyard.files.graph_check import check_graph
from jobyard.files.job_source import JobSource
from jobyard.files.namespaces import Placed
from jobyard.files.objects import SideObject
from jobyard.model.errors import InvalidFiles, WrongInput
from jobyard.model.finding import Finding, Position
from jobyard.model.workflow import Workflow


class SeveralWorkflows(WrongInput):
    """A folder stands for the workflow in it, and there is more than one."""

    sentence = "{count} workflows in {folder}: {files}; name one"
    count: int
    folder: str
    files: str


@dataclass(kw_only=True)
class Reading:
    """A file as it was read. `workflow` is None when nothing sensible could be made of it."""

    workflow: Workflow | None
    findings: list[Finding] = field(default_factory=list)
    advice: list[Finding] = field(default_factory=list)
    """Warnings for who checks the file; who runs it has decided."""
    jobs: list[JobSource] = field(default_factory=list)
    objects: tuple[SideObject, ...] = ()
    """What stands beside the Jobs: the run's to make, each once."""
    places: dict[str, tuple[Document, tuple[str | int, ...]]] = field(default_factory=dict)
    """Where each step stands in its file."""
    asked: dict[str, tuple[Document, tuple[str | int, ...]]] = field(default_factory=dict)
    """Where each parameter is declared."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """The values of parameters that the file gives: a run file's."""
    budget: Budget = field(default_factory=Budget)
    """What the reading has left, for whoever goes on with it."""
    in_cluster: bool | None = None
    quiet_tls: bool = False
    instead: Finding | None = None
    """What the file is, that can be checked but not run."""
    files: frozenset[str] = frozenset()
    """Every file that was looked into, as messages name it."""

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_error]

    @property
    def placed(self) -> list[Placed]:
        """Every manifest that was read, with its place."""
        return [*self.jobs, *self.objects]

    def require(self) -> Workflow:
        """The workflow. Raises InvalidFiles when anything is wrong with it."""
        if self.instead is not None:
            raise InvalidFiles([self.instead])
        if self.errors or self.workflow is None:
            raise InvalidFiles(self.findings)
        return self.workflow


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads one kind of file, which it knows by its content, never by its name."""

    recognises: Callable[[Any], bool]
    read: Callable[[Folder, Path, Document], Reading]
    marks: tuple[bytes, ...] = ()
    """What a file of this kind can't be without: a folder is searched for these before anything in it is parsed. None of a kind that a folder
    never stands for."""
    runs: bool = True
    """Whether files of this kind can be run. A folder never stands for one that can't, whatever its name."""


DEFAULT_NAMES = ("jobermodel.yaml", "workflow.yaml", "workflow.yml", "jobyard.yaml", "jobyard.yml")
"""What is run in a folder when only the folder is named."""


def inside(path: Path) -> Path:
    """The workflow or model that a folder stands for; else the path itself."""
    return next((path / name for name in DEFAULT_NAMES if (path / name).is_file()), path) if path.is_dir() else path


def read(path: Path, readers: Sequence[Reader], plain: Callable[[Folder, Path], Reading], root: Path | None = None) -> Reading:
    """Reads a workflow, a model, or plain manifests. A folder stands for the workflow in it, or for all manifests under it. What goes beyond
    the borders of a reading is the last of its mistakes.

    `root`: a folder that nothing in the file may lead out of. Raises SeveralWorkflows.
    """
    if is_there(path) and path.is_dir():
        found = workflows(path, readers)
        if len(found) > 1:
            raise SeveralWorkflows(count=len(found), folder=show(path), files=", ".join(file.name for file in found))
        path = next(iter(found), path)
    if not is_there(path):
        finding = Finding(
            position=Position(file=show(path)), what="there is no such file", expected="a workflow, a model or a Job manifest"
        )
        return Reading(workflow=None, findings=[finding])
    folder = Folder(path.parent if not path.is_dir() else path, root=root)
    much: list[Finding] = []
    try:
        reading = _read(path, folder, readers, plain)
    except TooMuch as error:
        reading, much = Reading(workflow=None, findings=folder.findings), [error.finding]
    reading.budget = folder.budget
    reading.findings.sort(key=lambda found: (found.position.file, found.position.line, found.position.column))
    reading.findings += much
    reading.files = frozenset(map(show, folder.looked_into))
    return reading


def workflows(path: Path, readers: Sequence[Reader]) -> list[Path]:
    """The workflow or model that a folder stands for; or those that lie in it, where none has a name that says so. Below may lie what is theirs."""
    named = [path / name for name in DEFAULT_NAMES if (path / name).is_file() and not is_for_checks(path / name, readers)]
    if named:
        return named[:1]
    every, readers = readers, [reader for reader in readers if reader.marks]
    marks = [mark for reader in readers for mark in reader.marks]
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith(".") and file.is_file())
    found = [file for file in files if _is_workflow(file, readers, marks)]
    return [file for file in found if len(found) == 1 or not is_for_checks(file, every)]


def is_for_checks(file: Path, readers: Sequence[Reader]) -> bool:
    """Whether a file is of a kind that can be checked but not run."""
    try:
        documents = Folder(file.parent).documents(file)
    except TooMuch:
        return False  # whoever reads it is told
    return any(reader.recognises(document.tree) for document in documents[:1] for reader in readers if not reader.runs)


def _is_workflow(file: Path, readers: Sequence[Reader], marks: Sequence[bytes]) -> bool:
    try:
        with file.open("rb") as stream:
            data = stream.read(SIZE)
    except OSError:
        return False
    if not any(mark in data for mark in marks):
        return False
    try:
        documents = Folder(file.parent).documents(file)
    except TooMuch:
        return True  # whoever reads it is told
    return any(reader.recognises(document.tree) for document in documents for reader in readers)


def _read(path: Path, folder: Folder, readers: Sequence[Reader], plain: Callable[[Folder, Path], Reading]) -> Reading:
    reading = read_as(path, folder, readers, plain)
    reading.objects, twice = objects.once(folder.objects)
    for each in twice:
        folder.mistake(each)
    if reading.workflow is not None:
        for each in namespaces.different(reading.placed):
            folder.mistake(each)
        reading.workflow = replace(reading.workflow, namespace=reading.workflow.namespace or namespaces.namespace(reading.placed))
        for each in check_graph(reading.workflow, reading.places, reading.jobs, folder.budget):
            folder.mistake(each)
    reading.findings = folder.findings
    return reading


def read_as(path: Path, folder: Folder, readers: Sequence[Reader], plain: Callable[[Folder, Path], Reading]) -> Reading:
    """What a file holds, by the reader that recognises it, else by `plain`."""
    if path.is_dir():
        return plain(folder, path)
    documents, findings = folder.look_into(path)
    for document in documents:
        for reader in readers:
            if reader.recognises(document.tree):
                if len(documents) > 1:
                    position = documents[1].at()
                    folder.mistake(
                        Finding(
                            position=position,
                            what="a second document",
                            expected="one workflow per file",
                            remedy="move it to a file of its own",
                        )
                    )
                folder.findings += findings
                return reader.read(folder, path, document)
    return plain(folder, path)
