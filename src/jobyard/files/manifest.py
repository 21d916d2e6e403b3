"""A Job manifest, checked: what the API server would refuse, and what could never work, said before anything is created."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobyard import schema
from jobyard.files.document import Document
from jobyard.files.folder import Folder, manifests, show
from jobyard.model.finding import Finding, Position, did_you_mean
from jobyard.model.template import Path as TreePath
from jobyard.model.template import Template, is_whole, placeholders
from jobyard.schema import spell

KIND = "batch/v1/Job"
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_KEY = re.compile(r"(?:[a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
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


@dataclass
class Inspection:
    """Gathers what is wrong with one document."""

    document: Document
    findings: list[Finding] = field(default_factory=list)

    def error(self, path: TreePath, what: str, expected: str = "", remedy: str = "", *, key: bool = False) -> None:
        self.findings.append(Finding(position=self.document.at(path, key=key), what=what, expected=expected, remedy=remedy))

    def warn(self, path: TreePath, what: str, expected: str = "", remedy: str = "", *, key: bool = False) -> None:
        finding = Finding(position=self.document.at(path, key=key), what=what, expected=expected, remedy=remedy, is_error=False)
        self.findings.append(finding)


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
    _metadata(inspection, needs_name=needs_name)
    template = _mapping(tree, "spec", "template")
    if template is not None:
        _job(inspection, tree["spec"])
        _labels(inspection, template, ("spec", "template", "metadata", "labels"), ("metadata", "labels"))
        if isinstance(template.get("spec"), dict):
            _pod(inspection, template["spec"], ("spec", "template", "spec"))
    folder.findings += inspection.findings
    metadata = tree.get("metadata") if isinstance(tree.get("metadata"), dict) else {}
    name = str(metadata.get("name") or str(metadata.get("generateName") or "").rstrip("-") or "job")
    return [JobSource(name=name, template=Template(tree, typed, literal), document=document, path=path)]


def _mapping(tree: Any, *keys: str) -> dict[str, Any] | None:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


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


def did_you_mean_key(tree: Mapping[str, Any], wanted: Iterable[str]) -> str:
    """A hint at a key that looks like one of those wanted."""
    return next((hint for key in tree for hint in [did_you_mean(str(key), wanted)] if hint), "")


def word(value: object) -> str:
    """What kind of thing a value is, and which, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return f'the text "{value[:40]}"'
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _fits_schema(inspection: Inspection, *, literal: bool) -> tuple[TreePath, ...]:
    """Checks every field against Kubernetes' schema; returns where a placeholder has to keep its own type."""
    typed: list[TreePath] = []
    for problem in schema.problems(KIND, inspection.document.tree):
        path, name = problem.path, str(problem.path[-1]) if problem.path else ""
        match problem.kind:
            case "unknown":
                hint = _elsewhere(name, path) or did_you_mean(name, problem.known)
                inspection.error(path, f'unknown field "{name}" in {spell(path[:-1]) or "the Job"}', "", hint or "remove it", key=True)
            case "missing":
                inspection.error(path[:-1], f"{spell(path)} is missing", "", "add it")
            case "type":
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


def _metadata(inspection: Inspection, *, needs_name: bool) -> None:
    tree = inspection.document.tree
    metadata = _mapping(tree, "metadata")
    if metadata is None:
        if needs_name:
            inspection.error((), "metadata.name is missing", "a name", "add metadata: {name: …}")
        return
    name = metadata.get("name")
    if name is None:
        if needs_name and not metadata.get("generateName"):
            inspection.error(("metadata",), "metadata.name is missing", "a name", "add it")
    elif isinstance(name, str) and not placeholders(name) and (len(name) > 63 or not SUBDOMAIN.fullmatch(name)):
        long = f"{len(name)} characters" if len(name) > 63 else f'"{name}"'
        inspection.error(("metadata", "name"), f"metadata.name of {long}", NAME_EXPECTED, _plainer(name))
    _labels(inspection, tree, ("metadata", "labels"), ("metadata", "labels"))


NAME_EXPECTED = "at most 63 lower-case letters, digits, - and ., a letter or digit first and last"


def _plainer(name: str) -> str:
    plain = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:63].strip("-.")
    return f'Kubernetes would refuse it; perhaps "{plain}"' if plain else "Kubernetes would refuse it"


def _labels(inspection: Inspection, tree: Mapping[str, Any], path: TreePath, keys: tuple[str, ...]) -> None:
    for key, value in (_mapping(tree, *keys) or {}).items():
        if not _LABEL_KEY.fullmatch(key):
            inspection.error(
                (*path, key), f'label key "{key}"', "letters, digits, -, _ and ., at most 63, perhaps after a prefix/", key=True
            )
        if isinstance(value, str) and not placeholders(value) and not _LABEL_VALUE.fullmatch(value):
            inspection.error((*path, key), f'label value "{value[:80]}"', "at most 63 letters, digits, -, _ and .", "use an annotation")


def _job(inspection: Inspection, spec: Mapping[str, Any]) -> None:
    for name in (
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        _not_negative(inspection, spec.get(name), ("spec", name))
    mode = spec.get("completionMode")
    if isinstance(mode, str) and mode not in ("NonIndexed", "Indexed") and not placeholders(mode):
        inspection.error(
            ("spec", "completionMode"), f'completionMode "{mode}"', "NonIndexed or Indexed", did_you_mean(mode, ("NonIndexed", "Indexed"))
        )
    if mode == "Indexed" and spec.get("completions") is None:
        inspection.error(
            ("spec", "completionMode"), "completionMode Indexed without completions", "spec.completions", "say how many indexes there are"
        )


def _not_negative(inspection: Inspection, value: object, path: TreePath) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and value < 0:
        inspection.error(path, f"{spell(path)} is {value}", "0 or more")


def _pod(inspection: Inspection, spec: Mapping[str, Any], path: TreePath) -> None:
    policy = spec.get("restartPolicy")
    if policy is None:
        inspection.error(
            path,
            "restartPolicy is missing, and then means Always, which a Job may not have",
            "Never or OnFailure",
            "add restartPolicy: Never",
        )
    elif isinstance(policy, str) and policy not in ("Never", "OnFailure") and not placeholders(policy):
        remedy = "a Job ends, so it can't always restart" if policy == "Always" else did_you_mean(policy, ("Never", "OnFailure"))
        inspection.error((*path, "restartPolicy"), f"restartPolicy {policy}", "Never or OnFailure", remedy)
    _not_negative(inspection, spec.get("terminationGracePeriodSeconds"), (*path, "terminationGracePeriodSeconds"))
    volumes = {str(volume.get("name")) for volume in spec.get("volumes") or [] if isinstance(volume, dict)}
    names: set[str] = set()
    containers = spec.get("containers")
    if isinstance(containers, list) and not containers:
        inspection.error((*path, "containers"), "no containers", "at least one")
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(_list(spec.get(kind))):
            if isinstance(container, dict):
                _container(inspection, container, (*path, kind, index), names, volumes)


def _container(inspection: Inspection, container: Mapping[str, Any], path: TreePath, names: set[str], volumes: set[str]) -> None:
    name = container.get("name")
    if isinstance(name, str) and not placeholders(name):
        if len(name) > 63 or not LABEL.fullmatch(name):
            inspection.error(
                (*path, "name"), f'container name "{name}"', "at most 63 lower-case letters, digits and -", _plainer(name.replace(".", "-"))
            )
        elif name in names:
            inspection.error((*path, "name"), f'container name "{name}" stands here twice', "a name of its own")
        names.add(name)
    if "image" not in container or container["image"] in ("", None):
        inspection.error(
            path,
            f"container {name or ''} has no image".replace("  ", " "),
            "an image",
            "the local cluster does not use it, Kubernetes needs it",
        )
    for index, mount in enumerate(container.get("volumeMounts") or []):
        if (
            isinstance(mount, dict)
            and isinstance(mount.get("name"), str)
            and mount["name"] not in volumes
            and not placeholders(mount["name"])
        ):
            hint = did_you_mean(mount["name"], volumes) or "add the volume to spec.template.spec.volumes"
            inspection.error((*path, "volumeMounts", index, "name"), f'no volume is named "{mount["name"]}"', "", hint)
    for kind, amounts in (_mapping(container, "resources") or {}).items():
        for resource, amount in amounts.items() if isinstance(amounts, dict) and kind in ("limits", "requests") else ():
            if isinstance(amount, str) and not placeholders(amount) and not _QUANTITY.fullmatch(amount):
                guess = re.sub(r"([kmgtpe])i?b?$", lambda unit: unit[1].upper() + "i", amount.lower())
                remedy = f'perhaps "{guess}"' if _QUANTITY.fullmatch(guess) else ""
                inspection.error(
                    (*path, "resources", kind, resource), f'"{amount}" is no quantity', 'a number with a unit, as "500m" or "128Mi"', remedy
                )


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
