"""A Job manifest, checked: what the API server would refuse, and what could never work, said before anything is created."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobyard import schema
from jobyard.files.document import Document
from jobyard.files.folder import Folder, manifests, show
from jobyard.files.inspection import Inspection, did_you_mean_key, word
from jobyard.files.rules import walk as rules
from jobyard.model.finding import Finding, Position, did_you_mean
from jobyard.model.template import Path as TreePath
from jobyard.model.template import Template, is_whole
from jobyard.schema import spell

KIND = "batch/v1/Job"
_TYPE_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
}


@dataclass(frozen=True, kw_only=True)
class JobSource:
    """A Job manifest as a file holds it, ready to become a step."""

    name: str
    template: Template
    document: Document
    path: Path | None = None


def read_jobs(folder: Folder, path: Path, *, literal: bool) -> list[JobSource]:
    """Every Job of a file or a folder, in order; what is wrong goes to the folder's findings. `literal`: braces in it mean nothing to us.

    Understands several documents, a List, and folders (sorted, nested). A file that holds no document is a finding, as is an empty folder.
    """
    if path.is_dir():
        files = manifests(path)
        if not files:
            folder.findings.append(
                Finding(position=Position(file=show(path)), what="the folder holds no manifest", expected="a .yaml, .yml or .json file")
            )
        return [job for file in files for job in read_jobs(folder, file, literal=literal)]
    return [job for document in objects_of(folder, path) for job in check_job(folder, document, path, literal=literal)]


def objects_of(folder: Folder, path: Path) -> list[Document]:
    """Every object of a file, Lists unfolded. A file that holds none is a finding."""
    before = len(folder.findings)
    documents = folder.documents(path)
    if not documents and len(folder.findings) == before:
        folder.findings.append(Finding(position=Position(file=show(path)), what="the file is empty", expected="a Job"))
    return [part for document in documents for part in unfold(document)]


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
    inspection = Inspection(document)
    if not _is_job(inspection):
        folder.findings += inspection.findings
        return []
    tree = document.tree
    typed = _fits_schema(inspection, literal=literal)
    rules.check(inspection, KIND, literal=literal, needs_name=needs_name)
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
        inspection.error((), "no kind: this is no Kubernetes object", "apiVersion: batch/v1 and kind: Job", guess)
    elif kind == "Job":
        inspection.error(("apiVersion",), f"apiVersion {version} of a Job", "batch/v1")
    else:
        guess = "write its spec.jobTemplate as a Job of its own" if kind == "CronJob" else did_you_mean(str(kind), ("Job",))
        inspection.error(("kind",), f"kind {kind} is not a Job", "kind: Job", guess)
    return False


def _fits_schema(inspection: Inspection, *, literal: bool) -> tuple[TreePath, ...]:
    """Checks every field against Kubernetes' schema; returns where a placeholder has to keep its own type."""
    typed: list[TreePath] = []
    for problem in schema.problems(KIND, inspection.document.tree):
        path, name = problem.path, str(problem.path[-1]) if problem.path else ""
        match problem.kind:
            case "unknown":
                hint = _elsewhere(name, path) or did_you_mean(name, problem.known)
                inspection.error(path, f'unknown field "{name}" in {spell(path[:-1]) or "the Job"}', "", hint or "remove it", key=True)
            case "type":
                if name == "fieldsV1":
                    continue  # Kubernetes takes anything there
                if not literal and isinstance(problem.found, str) and is_whole(problem.found):
                    typed.append(path)
                    continue
                expected = " or ".join(_TYPE_WORDS.get(kind, kind) for kind in problem.expected)
                quote = 'put it in quotes: "…"' if "string" in problem.expected and not isinstance(problem.found, dict | list) else ""
                inspection.error(path, f"{word(problem.found)} as {spell(path)}", expected, quote)
    return tuple(typed)


_PLACES = {
    "restartPolicy": "spec.template.spec",
    "containers": "spec.template.spec",
    "volumes": "spec.template.spec",
    "serviceAccountName": "spec.template.spec",
    "backoffLimit": "spec",
    "completions": "spec",
    "parallelism": "spec",
    "activeDeadlineSeconds": "spec",
    "ttlSecondsAfterFinished": "spec",
    "image": "spec.template.spec.containers[]",
    "command": "spec.template.spec.containers[]",
    "env": "spec.template.spec.containers[]",
}


def _elsewhere(name: str, path: TreePath) -> str:
    place = _PLACES.get(name)
    return f"it belongs in {place}" if place and place != spell(path[:-1]) else ""


def without_command(jobs: Iterable[JobSource]) -> list[Finding]:
    """A warning for each container that relies on its image's entry point: the local cluster's processes have no image."""
    found: list[Finding] = []
    for job in jobs:
        spec = _mapping(job.template.manifest, "spec", "template", "spec") or {}
        for kind in ("initContainers", "containers"):
            for index, container in enumerate(spec.get(kind) or []):
                if isinstance(container, dict) and not container.get("command"):
                    position = job.document.at(("spec", "template", "spec", kind, index))
                    what = f"container {container.get('name', '')} has no command"
                    remedy = "on a real cluster its image's entry point runs"
                    found.append(
                        Finding(position=position, what=what, expected="one, to run on the local cluster", remedy=remedy, is_error=False)
                    )
    return found
