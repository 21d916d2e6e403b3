"""A Job manifest, checked: what the API server would refuse, and what could never work, said before anything is created."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jobyard.files import reserved
from jobyard.files.borders import MISTAKES
from jobyard.files.document import Document
from jobyard.files.folder import Folder, manifests, show
from jobyard.files.inspection import Inspection, did_you_mean_key, word
from jobyard.files.job_source import JobSource
from jobyard.files.objects import check_object, is_side_object
from jobyard.files.rules import walk as rules
from jobyard.files.schema_check import check_fields
from jobyard.model.finding import Finding, Position, did_you_mean
from jobyard.model.template import Template

KIND = "batch/v1/Job"


def read_jobs(folder: Folder, path: Path, *, literal: bool) -> list[JobSource]:
    """Every Job of a file or a folder, in order; the objects beside them go to the folder's `objects`, what is wrong to its findings, both
    once, however often it is asked for. `literal`: braces in it mean nothing to us.

    Understands several documents, a List, and folders (sorted, nested). A file that holds no Job is a finding, as is a folder without any.
    """
    if (path, literal) in folder.jobs:
        return list(folder.jobs[path, literal])
    before, beside = len(folder.findings), len(folder.objects)
    read = _read(folder, path, literal=literal)
    if not read and (len(folder.objects) > beside or len(folder.findings) == before):
        what = "folder" if path.is_dir() else "file"
        first = folder.objects[beside] if len(folder.objects) > beside else None
        position = first.document.at(("kind",)) if first else Position(file=show(path))
        hint = "write its spec.jobTemplate as a Job of its own" if first and first.kind == "CronJob" else ""
        found = f"the {what} holds no Job, only a {first.kind}" if first else f"the {what} is empty"
        folder.findings.append(Finding(position=position, what=found, expected="at least one Job", remedy=hint))
    folder.jobs[path, literal] = [job for job in read if job is not None]
    return list(folder.jobs[path, literal])


def _read(folder: Folder, path: Path, *, literal: bool) -> list[JobSource | None]:
    """The Jobs, and None for each document that was to be one."""
    if path.is_dir():
        files = manifests(path)
        if not files:
            finding = Finding(
                position=Position(file=show(path)),
                what=f"the folder {show(path)} holds no manifest",
                expected="a .yaml, .yml or .json file",
                is_placed=False,
            )
            folder.findings.append(finding)
        return [job for file in files for job in _read(folder, file, literal=literal)]
    jobs: list[JobSource | None] = []
    for document in (part for whole in folder.documents(path) for part in unfold(whole)):
        if is_side_object(document.tree):
            inspection = folder.inspect(document)
            try:
                folder.objects.append(check_object(inspection, literal=literal))
            finally:
                folder.findings += inspection.findings
        else:
            jobs += check_job(folder, document, path, literal=literal) or [None]
    return jobs


def unfold(document: Document) -> Iterator[Document]:
    """The document itself, or the items of a List."""
    tree = document.tree
    if isinstance(tree, dict) and str(tree.get("kind", "")).endswith("List") and isinstance(tree.get("items"), list):
        for index in range(len(tree["items"])):
            yield document.sub(("items", index))
    else:
        yield document


def check_job(
    folder: Folder, document: Document, path: Path | None = None, *, literal: bool = False, needs_name: bool = True
) -> list[JobSource]:
    """The Job that a document holds, as a list of one; an empty list when it is none. Its mistakes go to the folder's findings."""
    inspection = folder.inspect(document)
    try:
        if not _is_job(inspection):
            return []
        tree = document.tree
        typed = check_fields(inspection, KIND, literal=literal)
        reserved.check(inspection)
        rules.check(inspection, KIND, literal=literal, needs_name=needs_name)
    finally:
        folder.findings += inspection.findings
    metadata = tree.get("metadata") if isinstance(tree.get("metadata"), dict) else {}
    name = str(metadata.get("name") or str(metadata.get("generateName") or "").rstrip("-") or "job")
    return [JobSource(name=name, template=Template(tree, typed, literal), document=document, path=path)]


def _mapping(tree: Any, *keys: str) -> dict[str, Any] | None:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else None


def _is_job(inspection: Inspection) -> bool:
    tree = inspection.document.tree
    if not isinstance(tree, dict):
        inspection.error((), f"{word(tree)} is not a Job", "a mapping with apiVersion, kind and spec")
        return False
    kind, version = tree.get("kind"), tree.get("apiVersion")
    if kind == "Job" and version == "batch/v1":
        return True
    if kind is None and version is None:
        guess = did_you_mean_key(tree, ("apiVersion", "kind"))
        inspection.error((), "no kind: this is not a Kubernetes object", "apiVersion: batch/v1 and kind: Job", guess)
    elif kind == "Job":
        inspection.error(("apiVersion",), f"apiVersion {version} of a Job", "batch/v1")
    else:
        inspection.error(("kind",), f"kind {kind} is not a Job", "kind: Job", did_you_mean(str(kind), ("Job",)))
    return False


def without_command(jobs: Iterable[JobSource]) -> list[Finding]:
    """A warning for each container that relies on its image's entry point: the local cluster's processes have no image."""
    found: list[Finding] = []
    for job in jobs:
        spec = _mapping(job.template.manifest, "spec", "template", "spec") or {}
        for kind in ("initContainers", "containers"):
            there = spec.get(kind)
            for index, container in enumerate(there if isinstance(there, list) else ()):
                if isinstance(container, dict) and not container.get("command") and len(found) < MISTAKES:
                    position = job.document.at(("spec", "template", "spec", kind, index))
                    what = f"container {container.get('name', '')} has no command"
                    remedy = "on a real cluster its image's entry point runs"
                    found.append(
                        Finding(position=position, what=what, expected="one, to run on the local cluster", remedy=remedy, is_error=False)
                    )
    return found
