"""The end of a step's log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from jobyard.contracts import Cluster
from jobyard.engine.sight import JOB_NAME_LABEL
from jobyard.model.diagnosis import Diagnosis
from jobyard.model.errors import Forbidden, JobyardError
from jobyard.model.job import job_of
from jobyard.model.objects import PODS, Pod
from jobyard.model.run import StepView


async def pods_of(cluster: Cluster, namespace: str, job: str) -> list[Pod]:
    """The pods of the Job of this name, the oldest first."""
    pods = await cluster.list(PODS, namespace, labels=f"{JOB_NAME_LABEL}={job}")
    return sorted((pod for pod in pods if (owner := job_of(pod)) and owner.name == job), key=created)


def created(pod: Pod) -> str:
    """What pods are ordered by."""
    return str(pod.metadata.creation_timestamp)


async def end_of(cluster: Cluster, namespace: str, diagnosis: Diagnosis | None, count: int) -> list[str]:
    """The last lines of the log that a diagnosis is about; empty when it can't be had."""
    if diagnosis is None or not diagnosis.pod:
        return []
    try:
        return await _last(cluster, namespace, diagnosis.pod, diagnosis.container, count)
    except JobyardError:
        return []


async def last_lines(
    cluster: Cluster,
    namespace: str,
    step: StepView,
    count: int,
    kept: Sequence[str] = (),
    known: Sequence[Pod] = (),
    without: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """The last lines of a step's log: of the pod that its diagnosis names, else of its newest; what was followed, when the pod is gone.

    `without` is told when we have no right to read logs."""
    if not step.job:
        return []
    try:
        pods = sorted(known, key=created) or await pods_of(cluster, namespace, step.job)
        name = step.diagnosis.pod if step.diagnosis and step.diagnosis.pod else pods[-1].metadata.name if pods else ""
        pod = next((pod for pod in pods if pod.metadata.name == name), None)
        if pod is None:
            return list(kept)
        container = step.diagnosis.container if step.diagnosis else ""
        if not container and pod.status.container_statuses:
            container = pod.status.container_statuses[0].name
        return await _last(cluster, namespace, name, container, count) or list(kept)
    except Forbidden as forbidden:
        without(str(forbidden))
        return list(kept)
    except JobyardError:
        return list(kept)


async def _last(cluster: Cluster, namespace: str, pod: str, container: str, count: int) -> list[str]:
    """No more than that many, also of lines so long that each comes in pieces."""
    found: deque[str] = deque(maxlen=count)
    async for line in cluster.logs(namespace, pod, container=container, tail=count):
        found.append(line)
    return list(found)
