"""Whether what a person named is there: a namespace, a run, a Job. Kubernetes lists a missing namespace as an empty one."""

from __future__ import annotations

from dataclasses import dataclass

from jobyard.cluster.client import HttpCluster
from jobyard.contracts import Clock, Cluster, Engine
from jobyard.engine import face
from jobyard.model import names
from jobyard.model.errors import (
    Forbidden,
    HiddenNamespace,
    IsJob,
    MissingRights,
    NoSuchNamespace,
    NoSuchRun,
    NoSuchRunOrJob,
    NotFound,
    Rejected,
)
from jobyard.model.finding import did_you_mean
from jobyard.model.job import run_name
from jobyard.model.objects import CONFIG_MAPS, JOBS, Job
from jobyard.model.run import Run, RunView, StepView

_PROBE = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "jobyard-probe"}}


async def require_namespace(cluster: HttpCluster, namespace: str) -> None:
    """Asked when nothing was found, or a right was missing. Raises NoSuchNamespace, HiddenNamespace, MissingRights.

    Where we may neither get the namespace nor try to create something in it, being allowed to list its Jobs has to do.
    """
    there = await cluster.has_namespace(namespace)
    if there is None:
        there = await _takes_objects(cluster, namespace)
    if there is False:
        guess = did_you_mean(namespace, await cluster.namespaces())
        raise NoSuchNamespace(namespace=namespace, hint=f"; {guess}" if guess else "")
    try:
        await cluster.page(JOBS, namespace, labels="", size=1)
    except Forbidden:
        if there:
            raise MissingRights(rights="list jobs.batch", namespace=namespace) from None
        raise HiddenNamespace(namespace=namespace) from None


async def _takes_objects(cluster: Cluster, namespace: str) -> bool | None:
    """Whether an object could be created there (nothing is); None where we may not."""
    try:
        await cluster.create(CONFIG_MAPS, namespace, _PROBE, dry_run=True)
    except NotFound:
        return False
    except Forbidden:
        return None
    except Rejected:
        return True  # a quota, a hook, a name that is taken: all of a namespace that is there
    return True


@dataclass(frozen=True, kw_only=True)
class SingleJob:
    """A Job that was asked for by its own name, and what is to be said of it."""

    job: Job
    view: StepView


async def run_or_job(cluster: Cluster, clock: Clock, namespace: str, name: str) -> RunView | SingleJob:
    """The run of this id or name, or the Job of this name, ours or not. Raises NoSuchRunOrJob, RunDamaged."""
    try:
        return await face.view(cluster, clock, namespace, name)
    except NoSuchRun as missing:
        found = await face.look_at_job(cluster, namespace, name)
        if found is None:
            raise NoSuchRunOrJob(run=name, namespace=namespace, hint=missing.hint) from None
        return SingleJob(job=found[0], view=found[1])


async def find_run(cluster: Cluster, engine: Engine, name: str, command: str) -> Run:
    """The run of this id or name. `command`: of ours, that is to be called with it. Raises NoSuchRun, with what may have been meant; IsJob."""
    try:
        return await engine.find(name)
    except NoSuchRun as missing:
        found = await face.look_at_job(cluster, missing.namespace, name)
        if found is not None:
            raise IsJob(name=name, hint=_whose(found[0], command)) from None
        raise NoSuchRun(run=name, namespace=missing.namespace, hint=await face.run_hint(cluster, missing.namespace, name)) from None


def _whose(job: Job, command: str) -> str:
    run = run_name(job)
    return f"it belongs to run {run}: `jobyard {command} {run}`" if run else "Jobyard did not start it, so use kubectl"


async def let_go(engine: Engine, run: Run) -> None:
    """Releases a run that has ended and that a person started; those of a source are for its trigger to release."""
    if run.trigger in names.FACES:
        await engine.release(run)
