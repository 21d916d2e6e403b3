"""The Job home: a run of one plain Job that starts at once is that Job. Which runs are such, what the Job bears, and what it says was asked.
Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from jobyard.engine.drawn import stem
from jobyard.engine.home import StoredRequest, job_labels, record_annotations, record_labels
from jobyard.model import names
from jobyard.model.job import render
from jobyard.model.objects import Job, Manifest
from jobyard.model.run import Role, RunRequest
from jobyard.model.template import Path
from jobyard.model.workflow import Cleanup, When

ANNOTATIONS_LIMIT = 100_000
"""Bytes of annotations that a Job may bear; Kubernetes allows 256 KiB, the author's own included."""
HIDDEN = "***"
_WAITED_FOR = {"Secret": ("secretKeyRef", "secretRef", "secret"), "ConfigMap": ("configMapKeyRef", "configMapRef", "configMap")}
"""Kinds of objects that a pod waits for by itself, and how it refers to them."""


def is_plain(request: RunRequest) -> bool:
    """Whether a run's only Job can be its record: one step that starts at once, once, as it is written."""
    flow, step = request.workflow, request.workflow.steps[0]
    return (
        len(flow.steps) == 1
        and step.job is not None
        and not (step.retry.limit or step.revert or step.limits or step.when is When.FAILED)
        and not (flow.parameters or request.carried or request.held or flow.keeps_names or flow.look_every)
        and flow.cleanup is Cleanup.NEVER
        and not step.job.placeholders()
        and all(_follows(each, step.job.manifest, request.run_id) for each in request.objects)
    )


def _follows(manifest: Manifest, job: Manifest, run: str) -> bool:
    """Whether an object may be made after the Job: its pods wait for it, and its name can be nobody else's."""
    name, kind = stem(manifest) or str((manifest.get("metadata") or {}).get("name")), str(manifest.get("kind"))
    return manifest.get("apiVersion") == "v1" and kind in _WAITED_FOR and run in name and _needs(job["spec"]["template"], kind, name)


def _needs(tree: Any, kind: str, name: str) -> bool:
    """Whether a pod's template refers to the object so that the pod does not start without it."""
    if isinstance(tree, list):
        return any(_needs(each, kind, name) for each in tree)
    if not isinstance(tree, dict):
        return False
    for key in _WAITED_FOR[kind]:
        found = tree.get(key)
        if isinstance(found, dict) and name in (found.get("name"), found.get("secretName")) and not found.get("optional"):
            return True
    return any(_needs(each, kind, name) for each in tree.values())


def write_job(request: RunRequest, run: str) -> Manifest | None:
    """The Job that is its run's record; None when it would have to bear too much."""
    step = request.workflow.steps[0]
    if step.job is None:
        return None
    literals = tuple(path for path in request.literals if is_there(step.job.manifest, path))
    hidden = replace(step, job=replace(step.job, manifest=_hide(step.job.manifest, literals)))
    stored = StoredRequest(workflow=replace(request.workflow, steps=(hidden,)), literals=literals)
    annotations = {**record_annotations(request), names.STEP: step.name, names.REQUEST: msgspec.json.encode(stored).decode()}
    labels = job_labels(run, request.trigger, Role.STEP, step.name, 1)
    made = render(
        step.job.manifest,
        name=names.record(request.prefix, run),
        labels={**labels, **record_labels(request, run)},
        annotations=annotations,
        pod_labels=labels,
    )
    size = sum(len(key) + len(str(value).encode()) for key, value in made["metadata"]["annotations"].items())
    return made if size <= ANNOTATIONS_LIMIT else None


def _hide(manifest: Manifest, literals: Sequence[Path]) -> Manifest:
    for path in literals:
        manifest = put(manifest, path, HIDDEN)
    return manifest


def is_there(tree: Any, path: Path) -> bool:
    """Whether the tree has a place at `path`."""
    for part in path:
        there = part in tree if isinstance(tree, dict) else isinstance(tree, list) and isinstance(part, int) and 0 <= part < len(tree)
        if not there:
            return False
        tree = tree[part]
    return True


def put(tree: Any, path: Path, value: object) -> Any:
    """The tree with `value` at `path`, in a new tree; the tree itself where there is no such place."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(tree, dict) and first in tree:
        return {**tree, first: put(tree[first], rest, value)}
    if isinstance(tree, list) and isinstance(first, int) and first < len(tree):
        return [*tree[:first], put(tree[first], rest, value), *tree[first + 1 :]]
    return tree


def stored(job: Job) -> StoredRequest | None:
    """What a run was asked whose record is this Job; None when somebody has damaged it."""
    try:
        return msgspec.json.decode(job.metadata.annotations.get(names.REQUEST, ""), type=StoredRequest)
    except (msgspec.MsgspecError, RecursionError):
        return None
