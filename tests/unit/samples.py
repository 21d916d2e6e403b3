"""Requests, and what the API server would answer for their objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from jobyard.engine import job_home
from jobyard.engine import record as records
from jobyard.model import names
from jobyard.model.objects import ConfigMap, Job, Manifest
from jobyard.model.run import RunRequest
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def manifest(*env: Any, name: str = "load", spec: dict[str, Any] | None = None, **pod: Any) -> Manifest:
    """A Job as an author writes it."""
    containers = [{"name": "main", "image": "busybox", "env": list(env)}]
    template = {"spec": {"restartPolicy": "Never", "containers": containers, **pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template, **(spec or {})}}


def flow(*jobs: Manifest, **more: Any) -> Workflow:
    """A workflow of so many steps, none of which needs another."""
    steps = tuple(Step(name=f"s{number}", job=Template(job)) for number, job in enumerate(jobs or (manifest(),)))
    return Workflow(name="etl", steps=steps, **more)


def request(key: str = "k", *, trigger: str = "amqp", workflow: Workflow | None = None, **more: Any) -> RunRequest:
    return RunRequest(trigger=trigger, key=key, workflow=workflow or flow(), **more)


def served(tree: Manifest, uid: str, version: int = 1, status: dict[str, Any] | None = None) -> Manifest:
    """An object as the API server gives it back."""
    stamp = {"uid": uid, "resourceVersion": str(version), "creationTimestamp": NOW.isoformat()}
    return {**tree, "metadata": {**tree["metadata"], **stamp}, "status": status or {}}


COMPLETE = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": NOW.isoformat()}]}
STOPPED = {"conditions": [{"type": "Suspended", "status": "True", "lastTransitionTime": NOW.isoformat()}]}


def job_record(asked: RunRequest, uid: str = "job", version: int = 1, status: dict[str, Any] | None = None) -> Job:
    """The Job that is its run's record."""
    made = job_home.write_job(asked, asked.run_id)
    assert made is not None
    return msgspec.convert(served(made, uid, version, status), Job)


def map_record(asked: RunRequest, uid: str = "record", version: int = 1) -> ConfigMap:
    """The ConfigMap that is its run's record."""
    return msgspec.convert(served(records.write(asked, asked.run_id, records.pack(asked)), uid, version), ConfigMap)


def changed(seen: Any, *, version: int | None = None, labels: Any = None, annotations: Any = None, **metadata: Any) -> Any:
    """The object with some of its metadata changed; a label or annotation that is None is taken away."""
    old = seen.metadata
    news = {
        "labels": {key: value for key, value in {**old.labels, **(labels or {})}.items() if value is not None},
        "annotations": {key: value for key, value in {**old.annotations, **(annotations or {})}.items() if value is not None},
        "resource_version": old.resource_version if version is None else str(version),
        **metadata,
    }
    return msgspec.structs.replace(seen, metadata=msgspec.structs.replace(old, **news))


def stopped(job: Job, reason: str, version: int) -> Job:
    """The Job as we stop it, its pods gone."""
    ended: Job = changed(job, version=version, annotations={names.STOP: reason, names.STOPPED_AT: NOW.isoformat()})
    spec = msgspec.structs.replace(job.spec, suspend=True)
    return msgspec.structs.replace(ended, spec=spec, status=msgspec.convert(STOPPED, type(job.status)))
