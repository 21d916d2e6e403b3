"""Reads a Job: conditions to State; attempts; is it ours. And renders the Job of an attempt from its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from jobyard.model import names
from jobyard.model.objects import Job, Manifest, Pod, condition
from jobyard.model.run import Reason, Role, State


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What a Job's status says of it. `finished` is None while it goes on."""

    state: State
    reason: str = ""
    message: str = ""
    finished: datetime | None = None


def read(job: Job) -> Ending:
    """Where a Job stands.

    It has ended when a condition of type Complete or Failed is True; SuccessCriteriaMet and FailureTarget come first and are not the
    end. A Job that we stopped has ended when it is suspended and its pods are gone: `active` and `terminating` are 0.
    """
    status = job.status
    if complete := condition(status.conditions, "Complete"):
        return Ending(state=State.SUCCEEDED, finished=status.completion_time or complete.last_transition_time)
    if failed := condition(status.conditions, "Failed"):
        return Ending(state=State.FAILED, reason=failed.reason or "", message=failed.message or "", finished=failed.last_transition_time)
    stopped = job.metadata.annotations.get(names.STOP)
    suspended = condition(status.conditions, "Suspended")
    if stopped and job.spec.suspend and suspended and not status.active and not status.terminating:
        state = State.CANCELLED if stopped == Reason.CANCELLED else State.FAILED
        return Ending(state=state, reason=stopped, finished=suspended.last_transition_time)
    if status.ready or status.succeeded or status.failed:
        return Ending(state=State.RUNNING)
    if job.spec.suspend:
        return Ending(state=State.PENDING, reason=Reason.SUSPENDED)
    return Ending(state=State.PENDING, reason=Reason.WAITING_FOR_POD)


def is_ours(job: Job, run: str, uid: str) -> bool:
    """Whether a Job of this name is the one that run (by id, and by its record's uid) would have made itself."""
    return job.metadata.labels.get(names.RUN) == run and any(owner.uid == uid for owner in job.metadata.owner_references)


def outputs(pods: Sequence[Pod]) -> Mapping[str, Any] | None:
    """What a succeeded Job gave: the JSON object in the termination message of the pod that succeeded last; None when there is none."""
    done = [pod for pod in pods if pod.status.phase == "Succeeded"]
    for pod in sorted(done, key=lambda each: str(_ended(each)), reverse=True):
        for status in pod.status.container_statuses:
            message = status.state.terminated.message if status.state.terminated else None
            if not message or not message.lstrip().startswith("{"):
                continue
            try:
                return dict(msgspec.json.decode(message, type=dict[str, Any]))
            except msgspec.DecodeError:
                continue
    return None


def _ended(pod: Pod) -> datetime | None:
    ends = [status.state.terminated.finished_at for status in pod.status.container_statuses if status.state.terminated]
    return max((end for end in ends if end), default=None)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The run's record, which owns every Job of the run: deleting it is enough."""

    run: str
    uid: str
    trigger: str


def owner_reference(run: str, uid: str) -> Manifest:
    """The reference by which whatever belongs to a run goes with its record."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": run, "uid": uid, "controller": True}


def render(
    manifest: Manifest,
    *,
    owner: Owner,
    role: Role,
    step: str,
    attempt: int,
    env: Sequence[Mapping[str, str]],
    owns_retries: bool,
    keeps_name: bool = False,
) -> Manifest:
    """The Job of one attempt: the manifest as it was written, and only what Jobyard adds.

    Added: the name (from the key, never generateName), labels on Job and pods, annotations, the owner, the parameters' variables.
    Taken away: `ttlSecondsAfterFinished` until the run is released, because a name dedupes only while its object lives. `owns_retries`:
    the step has a `retry` of its own, so the Job's back-off limit is 0 unless its author wrote one (one owner of retries).
    `keeps_name`: the manifest's own name, where it has one.
    """
    own = (manifest.get("metadata") or {}).get("name") if keeps_name else None
    name = own or names.job_name(owner.run, role, step, attempt)
    labels = {
        names.MANAGED_BY: names.JOBYARD,
        names.RUN: owner.run,
        names.STEP: names.label_value(step),
        names.ATTEMPT: str(attempt),
        names.ROLE: str(role),
        names.TRIGGER: names.label_value(owner.trigger),
    }
    metadata = {key: value for key, value in (manifest.get("metadata") or {}).items() if key != "generateName"}
    spec = dict(manifest["spec"])
    annotations = {**(metadata.get("annotations") or {}), names.STEP: step}
    ttl = spec.pop("ttlSecondsAfterFinished", None)
    if ttl is not None:
        annotations[names.TTL] = str(ttl)
    if owns_retries:
        spec.setdefault("backoffLimit", 0)
    spec["template"] = _template(spec["template"], labels, env)
    return {
        **manifest,
        "metadata": {
            **metadata,
            "name": name,
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": annotations,
            "ownerReferences": [owner_reference(owner.run, owner.uid)],
        },
        "spec": spec,
    }


def _template(template: Manifest, labels: Mapping[str, str], env: Sequence[Mapping[str, str]]) -> Manifest:
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    spec = dict(template["spec"])
    for kind in ("initContainers", "containers"):
        if env and spec.get(kind):
            spec[kind] = [_with_env(container, env) for container in spec[kind]]
    return {**template, "metadata": metadata, "spec": spec}


def _with_env(container: Manifest, env: Sequence[Mapping[str, str]]) -> Manifest:
    own = list(container.get("env") or [])
    named = {entry.get("name") for entry in own}
    return {**container, "env": [*(dict(entry) for entry in env if entry["name"] not in named), *own]}
