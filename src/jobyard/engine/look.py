"""Runs as they stand, for whoever only wants to see them: one look at the cluster, no watch, nothing done."""

from __future__ import annotations

from jobyard.contracts import Clock, Cluster
from jobyard.engine.decide import decide
from jobyard.engine.observe import Sight, show
from jobyard.model import names
from jobyard.model.diagnosis import Diagnosis, diagnose
from jobyard.model.errors import NoSuchRun, NotFound
from jobyard.model.finding import did_you_mean
from jobyard.model.objects import CONFIG_MAPS, EVENTS, JOBS, PODS, Job
from jobyard.model.run import RunView


async def look(cluster: Cluster, clock: Clock, namespace: str, run: str = "") -> list[RunView]:
    """The runs of a namespace, the newest first; with `run`, that one alone. Raises NoSuchRun."""
    selector = f"{names.SELECTOR},{names.RUN}={run}" if run else names.SELECTOR
    sight = Sight()
    for record in await cluster.list(CONFIG_MAPS, namespace, labels=selector):
        sight.see(record)
    if run and run not in sight.records:
        raise NoSuchRun(run=run, namespace=namespace, hint=await _hint(cluster, namespace, run))
    for job in await cluster.list(JOBS, namespace, labels=selector):
        sight.see(job)
    for pod in await cluster.list(PODS, namespace, labels=selector):
        sight.see(pod)
    if run:  # events matter to who asks about one run
        for event in await cluster.list(EVENTS, namespace, fields="type=Warning"):
            sight.see(event)
    views = []
    for name in sight.records:
        workflow, observed = sight.workflow(name), sight.observe(name, {})
        if workflow is None or observed is None:
            continue
        decision = decide(workflow, observed, clock.now())
        views.append(show(sight, name, workflow, namespace, decision, observed.created))
    return sorted(views, key=lambda view: view.started, reverse=True)


async def _hint(cluster: Cluster, namespace: str, run: str) -> str:
    known = [record.metadata.name for record in await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR)]
    guess = did_you_mean(run, known)
    return f"; {guess}" if guess else ""


async def look_at_job(cluster: Cluster, namespace: str, name: str) -> tuple[Job, Diagnosis | None] | None:
    """Any Job of the namespace, ours or not, with its diagnosis; None when there is no such Job."""
    try:
        job = await cluster.get(JOBS, namespace, name)
    except NotFound:
        return None
    pods = await cluster.list(PODS, namespace, labels=f"batch.kubernetes.io/job-name={name}")
    about = {name, *(pod.metadata.name for pod in pods)}
    events = [event for event in await cluster.list(EVENTS, namespace, fields="type=Warning") if event.involved_object.name in about]
    return job, diagnose(job, pods, events)
