"""How the open runs of a list stand, as `show` would say of each: by their Jobs and pods, with one list of each for all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from jobyard.contracts import Cluster
from jobyard.model import names
from jobyard.model.errors import Forbidden
from jobyard.model.explained import held_up_by, lone
from jobyard.model.job import job_of, owned_by
from jobyard.model.objects import JOBS, PODS, Job, Pod
from jobyard.model.run import Run, State

ASKED_AT_ONCE = 100
"""How many runs one list is asked for by name: they stand in its address."""


async def as_they_stand(cluster: Cluster, namespace: str, runs: Sequence[Run]) -> list[Run]:
    """The runs that have not ended, by what their Jobs and pods are just now."""
    jobs: dict[str, list[Job]] = {}
    pods: dict[str, list[Pod]] = {}
    for start in range(0, len(runs), ASKED_AT_ONCE):
        ids = ",".join(run.id for run in runs[start : start + ASKED_AT_ONCE])
        selector = f"{names.SELECTOR},{names.RUN} in ({ids})"
        for job in await cluster.list(JOBS, namespace, labels=f"{selector},!{names.ENDED}"):
            jobs.setdefault(job.metadata.labels.get(names.RUN, ""), []).append(job)
        with contextlib.suppress(Forbidden):  # then their Jobs alone tell
            for pod in await cluster.list(PODS, namespace, labels=selector, fields="status.phase!=Succeeded"):
                owner = job_of(pod)
                if owner is not None:
                    pods.setdefault(owner.uid, []).append(pod)
    return [_stands(run, [job for job in jobs.get(run.id, ()) if owned_by(job, run.uid)], pods) for run in runs]


def _stands(run: Run, jobs: Sequence[Job], pods: Mapping[str, Sequence[Pod]]) -> Run:
    """Pure."""
    views = [lone(job, pods.get(job.metadata.uid, ()), ()) for job in jobs]
    going = [view for view in views if not view.state.is_end]
    if any(view.state is State.RUNNING for view in going):
        return replace(run, state=State.RUNNING, reason="")
    if held := held_up_by(going):
        return replace(run, state=State.PENDING, reason=held)
    if going and len(going) == len(views) and run.state is State.RUNNING:  # it has only just begun
        return replace(run, state=State.PENDING, reason=going[0].reason)
    return run
