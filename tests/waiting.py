"""Waiting for a condition, by watch, with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobyard.cluster.client import HttpCluster
from jobyard.model import names
from jobyard.model.job import read
from jobyard.model.objects import JOBS, PODS, Job, Kind, Pod, T
from jobyard.model.run import Role, Run

BOUND = 100.0
"""Seconds: whatever takes longer hangs, however busy the machine."""


async def until(cluster: HttpCluster, kind: Kind[T], namespace: str, name: str, holds: Callable[[T], bool]) -> T:
    """The object of this name, as soon as it is as wanted."""
    async with asyncio.timeout(BOUND):
        async for change in cluster.watch(kind, namespace, fields=f"metadata.name={name}"):
            if change.type == "SEEN" and change.object is not None and holds(change.object):
                return change.object
    raise AssertionError


async def until_gone(cluster: HttpCluster, kind: Kind[T], namespace: str, name: str) -> None:
    """Returns when there is no object of this name."""
    present = False
    async with asyncio.timeout(BOUND):
        async for change in cluster.watch(kind, namespace, fields=f"metadata.name={name}"):
            present = change.type == "SEEN" or (present and change.type != "GONE")
            if change.type in ("SYNCED", "GONE") and not present:
                return


async def until_ended(cluster: HttpCluster, namespace: str, name: str) -> Job:
    """The Job, once it is Complete or Failed."""
    return await until(cluster, JOBS, namespace, name, lambda job: read(job).state.is_end)


async def until_pod(cluster: HttpCluster, namespace: str, job: str, holds: Callable[[Pod], bool]) -> Pod:
    """A pod of the Job, as soon as one is as wanted."""
    async with asyncio.timeout(BOUND):
        async for change in cluster.watch(PODS, namespace, labels=f"batch.kubernetes.io/job-name={job}"):
            if change.type == "SEEN" and change.object is not None and holds(change.object):
                return change.object
    raise AssertionError


async def until_job(cluster: HttpCluster, namespace: str, run: Run, step: str = "a", role: Role = Role.STEP, attempt: int = 1) -> str:
    """The name of the Job of a run's step, as soon as there is one, whichever home the run has."""
    async with asyncio.timeout(BOUND):
        async for change in cluster.watch(JOBS, namespace, labels=f"{names.RUN}={run.id},{names.ATTEMPT}={attempt}"):
            if change.type == "SEEN" and change.object is not None:
                job = change.object
                roles = ("step", "run") if role is Role.STEP else (role,)
                if job.metadata.annotations.get(names.STEP) == step and job.metadata.labels[names.ROLE] in roles:
                    return job.metadata.name
    raise AssertionError


def is_running(pod: Pod) -> bool:
    return pod.status.phase == "Running"
