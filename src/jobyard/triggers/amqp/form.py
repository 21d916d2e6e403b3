"""kubernetes-event-jobs' short form of a Job: what an entry of its ConfigMap says, and the Job that the original makes of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobyard.model import names
from jobyard.model.objects import Manifest
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow

TIMEOUT = 3600
BACK_OFF_LIMIT, TTL = 5, 21600
CONTAINER = "processor"
REQUESTS = {"cpu": "10m", "memory": "56Mi"}
LIMITS = {"cpu": "25m", "memory": "96Mi"}


@dataclass(frozen=True, kw_only=True)
class Form:
    """What is run for each message of a queue."""

    image: str
    """Registry and version included."""
    job_name: str = ""
    """Begins the Jobs' names; '' for the queue's."""
    version: str = "latest"
    timeout: int = TIMEOUT
    """Seconds of all tries together."""
    environment: tuple[Manifest, ...] = ()
    """Entries of the container's `env`."""
    service_account: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    restricted: bool = False
    """Its pods pass the `restricted` Pod Security Standard. The original's do not: it says nothing of security."""


def full_image(image: str, version: str, registry: str) -> str:
    """The image as the original composes it."""
    return f"{registry}/{image}:{version}" if registry else f"{image}:{version}"


def job_name(form: Form, queue: str) -> str:
    """What the Jobs' names begin with, before the digest."""
    return names.prefix(form.job_name or queue)


def workflow(form: Form, queue: str, namespace: str) -> Workflow:
    """The workflow of one Job that the form stands for."""
    name = job_name(form, queue)
    step = Step(name=CONTAINER, job=Template(_manifest(form, name, queue, namespace), literal=True))
    return Workflow(name=name, steps=(step,), namespace=namespace)


def _manifest(form: Form, name: str, queue: str, namespace: str) -> Manifest:
    labels = {
        **form.labels,
        "app.kubernetes.io/component": "job",
        "app.kubernetes.io/managed-by": "goci-kubernetes-event-job",
        "jobgroup": "kubernetes-event-jobs",
        "app.kubernetes.io/name": names.label_value(f"{queue}-processor"),
        "app.kubernetes.io/version": names.label_value(form.version),
        "app.kubernetes.io/part-of": names.label_value(namespace),
        "jobitem": name,
    }
    container: Manifest = {
        "name": CONTAINER,
        "image": form.image,
        "resources": {"requests": dict(REQUESTS), "limits": dict(LIMITS), **form.resources},
    }
    if form.environment:
        container["env"] = list(form.environment)
    pod: Manifest = {"restartPolicy": "OnFailure", "containers": [container]}
    if form.service_account:
        pod["serviceAccountName"] = form.service_account
    if form.restricted:
        pod["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "parallelism": 1,
            "backoffLimit": BACK_OFF_LIMIT,
            "ttlSecondsAfterFinished": TTL,
            "activeDeadlineSeconds": form.timeout,
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }
