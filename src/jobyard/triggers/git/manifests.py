"""From a queued file to what is to be run, within what the repository may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobyard.files import namespaces, plain, run_file, workflow_file
from jobyard.files.borders import SIZE
from jobyard.files.folder import show
from jobyard.files.reading import Reading, read
from jobyard.model import names
from jobyard.model.belongings import Belonging
from jobyard.model.finding import Finding
from jobyard.model.objects import Manifest
from jobyard.model.workflow import Workflow
from jobyard.triggers.git.layout import LINK, NAME_LIMIT, REGULAR, QueueFile, is_plain
from jobyard.triggers.git.policy import Policy, beyond

_READERS = (run_file.reader((workflow_file.READER,)), workflow_file.READER)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What a queued file asks for: a workflow, and the objects that its Jobs use."""

    workflow: Workflow
    objects: tuple[Manifest, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The values of its parameters, as a run file gives them."""


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A queued file that is to be read."""

    path: str
    """Of the file, below the root."""
    root: str
    """A folder that nothing leads out of."""
    policy: Policy
    contents: Mapping[str, bytes] = field(default_factory=dict)
    """What is to lie below the root and does not yet: the file itself, and those that it names."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of reading a file: a bundle, or what is wrong."""

    bundle: Bundle | None = None
    mistakes: tuple[Finding, ...] = ()


def refuse(file: QueueFile) -> str:
    """Why a file can't be run whatever it holds; '' when it may be."""
    if not is_plain(file.name):
        return f"Its name is not plain text, or is longer than {NAME_LIMIT} bytes: use letters, digits, dots and dashes."
    if file.mode == LINK:
        return "It is a symbolic link. Commit the file itself."
    if file.mode not in REGULAR:
        return "It is not a file but another repository."
    if file.size is not None and file.size > SIZE:
        return f"It has {file.size:,} bytes; expected at most {SIZE:,}."
    return ""


def read_queued(file: Unread) -> Verdict:
    """What the file asks for, or its mistakes, their paths relative to its root. It is others who wrote it: for a `files.reading_room`."""
    root, policy = Path(file.root), file.policy
    for each, content in file.contents.items():
        target = root / each
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    reading = read(root / file.path, _READERS, plain.read, root)
    findings = [*reading.findings, *_kinds(reading, policy), *beyond(reading.placed, policy, reading.budget)]
    findings += [] if reading.errors else run_file.unanswerable(reading)
    workflow = reading.workflow
    if workflow is not None:
        namespace = workflow.namespace or policy.default_namespace
        findings += _namespaces(reading, namespace, policy)
        keeps_names = bool(reading.jobs) and all(job.template.literal for job in reading.jobs)
        findings += _names(reading) if keeps_names else []
        workflow = replace(workflow, namespace=namespace, keeps_names=keeps_names)
    mistakes = tuple(_relative(finding, root) for finding in findings if finding.is_error)
    if workflow is None or mistakes:
        return Verdict(mistakes=mistakes)
    objects = tuple(each.manifest for each in reading.objects)
    return Verdict(bundle=Bundle(workflow=workflow, objects=objects, inputs=reading.inputs))


def _names(reading: Reading) -> list[Finding]:
    """A mistake for each Job that keeps its name, where that is one of those that Jobyard gives."""
    return [
        Finding(
            position=job.document.at(("metadata", "name")),
            what=f"Job {job.name}: Jobyard uses such names itself",
            expected="another name",
        )
        for job in reading.jobs
        if names.is_ours(job.name)
    ]


def _kinds(reading: Reading, policy: Policy) -> list[Finding]:
    """A mistake for each object of a kind that this repository may not make."""
    allowed = ", ".join(sorted(policy.kinds or ()))
    return [
        Finding(
            position=each.document.at(("kind",)),
            what=f"kind {each.kind}, which is not allowed in this repository",
            expected=f"one of {allowed}",
            remedy=f"remove it, or allow it: --allow-kind {each.kind} (in a service's settings: kinds)",
        )
        for each in reading.objects
        if each.belonging is not Belonging.REFUSED and not policy.allows_kind(each.api_version, each.kind)
    ]


def _namespaces(reading: Reading, namespace: str, policy: Policy) -> list[Finding]:
    """What is wrong with where the file's manifests are to live."""
    findings = namespaces.foreign_to(reading.placed, namespace)
    if not policy.allows_namespace(namespace):
        named = [each for each in reading.placed if namespaces.of(each) == namespace] or reading.placed
        allowed = ", ".join(sorted({policy.default_namespace, *(policy.namespaces or ())}))
        where = named[0].document.at(("metadata", "namespace"))
        remedy = f"change it, or allow it: --allow-namespace {namespace} (in a service's settings: namespaces)"
        what = f"namespace {namespace}, which is not allowed in this repository"
        findings.append(Finding(position=where, what=what, expected=f"one of {allowed}", remedy=remedy))
    return findings


def _relative(finding: Finding, root: Path) -> Finding:
    """The finding as a person who has the repository would read it."""
    for shown in (show(root), str(root), str(root.resolve())):
        if finding.position.file.startswith(f"{shown}/"):
            return replace(finding, position=replace(finding.position, file=finding.position.file[len(shown) + 1 :]))
    return finding
