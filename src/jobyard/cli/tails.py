"""The last log lines of what runs, followed while it runs; and of what failed, asked for at the end."""

from __future__ import annotations

import asyncio
from collections import deque

from jobyard.contracts import Cluster
from jobyard.model.errors import JobyardError
from jobyard.model.objects import PODS, Pod
from jobyard.model.run import RunView, State, StepView

FOLLOWED = 16
"""How many steps' logs are followed at once; of more nobody could read the last lines anyway."""
TAIL = 20


class Tails:
    """Follows the logs of running steps, and keeps their last lines."""

    def __init__(self, cluster: Cluster, namespace: str, tasks: asyncio.TaskGroup) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._tasks = tasks
        self._following: dict[str, asyncio.Task[None]] = {}
        self._lines: dict[str, deque[str]] = {}

    def see(self, view: RunView) -> None:
        """Begins to follow what runs now."""
        for step in view.steps:
            if step.state is State.RUNNING and step.job not in self._following and len(self._following) < FOLLOWED:
                self._following[step.job] = self._tasks.create_task(self._follow(step.name, step.job))

    def last_lines(self) -> dict[str, str]:
        return {name: lines[-1] for name, lines in self._lines.items() if lines}

    def kept(self, step: str) -> list[str]:
        return list(self._lines.get(step, ()))

    def close(self) -> None:
        for task in self._following.values():
            task.cancel()

    async def _follow(self, step: str, job: str) -> None:
        try:
            pods = await pods_of(self._cluster, self._namespace, job)
            running = [pod for pod in pods if pod.status.phase == "Running"] or pods
            if not running:
                return
            lines = self._lines.setdefault(step, deque(maxlen=TAIL))
            lines.clear()
            pod = running[-1]
            container = pod.status.container_statuses[0].name if pod.status.container_statuses else ""
            async for line in self._cluster.logs(self._namespace, pod.metadata.name, container=container, tail=TAIL, follow=True):
                lines.append(line)
        except JobyardError:
            return  # a log that can't be had is no reason to disturb the run
        finally:
            self._following.pop(job, None)


async def pods_of(cluster: Cluster, namespace: str, job: str) -> list[Pod]:
    """A Job's pods, the oldest first."""
    pods = await cluster.list(PODS, namespace, labels=f"batch.kubernetes.io/job-name={job}")
    return sorted(pods, key=lambda pod: str(pod.metadata.creation_timestamp))


async def last_lines(cluster: Cluster, namespace: str, step: StepView, kept: list[str]) -> list[str]:
    """The last lines of a step's log: of the pod that its diagnosis names, else of its newest; what was followed, when the pod is gone."""
    if not step.job:
        return []
    try:
        pods = await pods_of(cluster, namespace, step.job)
        name = step.diagnosis.pod if step.diagnosis and step.diagnosis.pod else pods[-1].metadata.name if pods else ""
        pod = next((pod for pod in pods if pod.metadata.name == name), None)
        if pod is None:
            return kept
        container = step.diagnosis.container if step.diagnosis else ""
        if not container and pod.status.container_statuses:
            container = pod.status.container_statuses[0].name
        return [line async for line in cluster.logs(namespace, name, container=container, tail=TAIL)] or kept
    except JobyardError:
        return kept
