"""Reads a Job: conditions to State; attempts; is it ours. And renders the Job of an attempt from its manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from jobyard.model import names
from jobyard.model.back_off import between_tries
from jobyard.model.objects import Job, Manifest, OwnerReference, Pod, condition
from jobyard.model.run import Reason, State, StepResult
from jobyard.model.written import moment, whole


def read(job: Job) -> StepResult:
    """How a Job stands, by its own status; `finished` is None while it goes on. `standing.stands` knows its pods too.

    It has ended when a condition of type Complete or Failed is True; SuccessCriteriaMet and FailureTarget come first and are not the
    end. A Job that we stopped has ended when it is suspended and its pods are gone: `active` and `terminating` are 0.
    """
    status = job.status
    started = status.start_time or moment(job.metadata.annotations.get(names.STARTED))
    if complete := condition(status.conditions, "Complete"):
        return StepResult(state=State.SUCCEEDED, started=started, finished=status.completion_time or complete.last_transition_time)
    if failed := condition(status.conditions, "Failed"):
        reason, message = failed.reason or "", failed.message or ""
        return StepResult(state=State.FAILED, reason=reason, message=message, started=started, finished=failed.last_transition_time)
    stopped = job.metadata.annotations.get(names.STOP)
    suspended = condition(status.conditions, "Suspended")
    if stopped and job.spec.suspend and suspended and not status.active and not status.terminating:
        state = State.CANCELLED if stopped == Reason.CANCELLED else State.FAILED
        return StepResult(state=state, reason=stopped, started=started, finished=suspended.last_transition_time)
    if between_tries(job) is not None:
        return StepResult(state=State.PENDING, reason=Reason.RETRY_BACK_OFF, started=started)
    if status.ready or status.succeeded or status.failed:
        return StepResult(state=State.RUNNING, started=started)
    return StepResult(state=State.PENDING, reason=Reason.SUSPENDED if job.spec.suspend else Reason.WAITING_FOR_POD, started=started)


def is_stopped(job: Job) -> bool:
    """Whether we stopped the Job, rather than Kubernetes having ended it: then no TTL of Kubernetes' ever fires."""
    return names.STOP in job.metadata.annotations and not (
        condition(job.status.conditions, "Complete") or condition(job.status.conditions, "Failed")
    )


def owned_by(job: Job, uid: str) -> bool:
    """Whether the Job belongs to the record with this uid: it is that record, or the record owns it. Labels prove nothing."""
    return job.metadata.uid == uid or any(owner.uid == uid for owner in job.metadata.owner_references)


def run_name(job: Job) -> str:
    """The run that a Job says it is of, as people know it: by the record that owns it; by its id where none does. '' for a Job of no run."""
    run = job.metadata.labels.get(names.RUN, "")
    owners = (owner.name for owner in job.metadata.owner_references if owner.kind == "ConfigMap" and owner.name.endswith(f"-{run}"))
    return next(owners, run) if run else ""


def job_of(pod: Pod) -> OwnerReference | None:
    """The Job whose pod it is: the one that controls it. Labels only find a pod: anybody may make one with a Job's."""
    return next((owner for owner in pod.metadata.owner_references if owner.controller and owner.kind == "Job"), None)


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
            except (msgspec.DecodeError, RecursionError):
                continue
    return None


def _ended(pod: Pod) -> datetime | None:
    ends = [status.state.terminated.finished_at for status in pod.status.container_statuses if status.state.terminated]
    return max((end for end in ends if end), default=None)


def owner_reference(name: str, uid: str, *, kind: str = "ConfigMap") -> Manifest:
    """The reference by which whatever belongs to a run goes with its record."""
    return {"apiVersion": "batch/v1" if kind == "Job" else "v1", "kind": kind, "name": name, "uid": uid, "controller": True}


def render(
    manifest: Manifest,
    *,
    name: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    pod_labels: Mapping[str, str],
    owner: Manifest | None = None,
    env: Sequence[Mapping[str, str]] = (),
    owns_retries: bool = False,
) -> Manifest:
    """A Job of ours: the manifest as it was written, and only what Jobyard adds.

    Added: the name (from the key, never generateName), labels on Job and pods, annotations, the owner, the parameters' variables.
    Taken away: `ttlSecondsAfterFinished` until the run is released, because a name dedupes only while its object lives; owners that the
    manifest names, because the Job would be deleted under its run when they go; and labels and annotations that only we write, which a
    manifest has that was copied from a Job of ours. `owns_retries`: the step has a `retry` of its
    own, so the Job's back-off limit is 0 unless its author wrote one (one owner of retries).
    """
    metadata = {key: value for key, value in (manifest.get("metadata") or {}).items() if key not in ("generateName", "ownerReferences")}
    spec = dict(manifest["spec"])
    notes = {**_theirs(metadata.get("annotations")), **annotations}
    ttl = spec.pop("ttlSecondsAfterFinished", None)
    if ttl is not None:
        notes[names.TTL] = str(ttl)
    if owns_retries:
        spec.setdefault("backoffLimit", 0)
    spec["template"] = _template(spec["template"], pod_labels, env)
    metadata |= {"name": name, "labels": {**_theirs(metadata.get("labels")), **labels}, "annotations": notes}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {**manifest, "metadata": metadata, "spec": spec}


def _theirs(written: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (written or {}).items() if not key.startswith(names.DOMAIN)}


TTL_LIMIT = 2**31 - 1


def ttl(job: Job) -> int | None:
    """The manifest's own ttlSecondsAfterFinished, while we keep it; None when there is none. Anybody may have written the annotation."""
    seconds = whole(job.metadata.annotations.get(names.TTL, ""), 10**10)
    return None if seconds is None else min(seconds, TTL_LIMIT)


def hand_back_ttl(job: Job, finished: datetime | None, now: datetime) -> Manifest | None:
    """The merge patch that gives a Job its TTL back, counted from now; None when it has none.

    Kubernetes counts from the end: so the seconds since then are added, or an outage of ours would free the name before the source let go.
    """
    seconds = ttl(job)
    if seconds is None:
        return None
    if is_stopped(job):
        at = (now + timedelta(seconds=seconds)).isoformat()
        return {"metadata": {"annotations": {names.TTL: None, names.DELETE_AT: at}, "labels": {names.EXPIRING: "true"}}}
    since = max(math.ceil((now - (finished or now)).total_seconds()), 0)
    return {"metadata": {"annotations": {names.TTL: None}}, "spec": {"ttlSecondsAfterFinished": min(since + seconds, TTL_LIMIT)}}


def _template(template: Manifest, labels: Mapping[str, str], env: Sequence[Mapping[str, str]]) -> Manifest:
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {**_theirs(metadata.get("labels")), **labels}
    spec = dict(template["spec"])
    for kind in ("initContainers", "containers"):
        if env and spec.get(kind):
            spec[kind] = [_with_env(container, env) for container in spec[kind]]
    return {**template, "metadata": metadata, "spec": spec}


def _with_env(container: Manifest, env: Sequence[Mapping[str, str]]) -> Manifest:
    own = list(container.get("env") or [])
    named = {entry.get("name") for entry in own}
    return {**container, "env": [*(dict(entry) for entry in env if entry["name"] not in named), *own]}
