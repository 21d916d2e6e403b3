"""Why Jobs that are due are not made, for who looks and drives nothing: what fills a limit can be seen; what else was answered (a full quota,
a missing right) its driver has noted on the record."""

from __future__ import annotations

from collections.abc import Sequence

from jobyard.contracts import Clock, Cluster
from jobyard.engine import home, limits
from jobyard.engine.attempt import job_name
from jobyard.engine.decision import Create, Refusal
from jobyard.engine.limit_settings import all_that_is_open
from jobyard.engine.limiter import Limiter
from jobyard.engine.refusal import LOOK_FOR_ROOM
from jobyard.engine.run_sight import RunSight
from jobyard.model.errors import Forbidden, NotFound
from jobyard.model.objects import CONFIG_MAPS
from jobyard.model.run import Reason, Role
from jobyard.model.workflow import Workflow


async def refusals(
    cluster: Cluster, clock: Clock, namespace: str, seen: RunSight, workflow: Workflow, due: Sequence[Create]
) -> dict[tuple[Role, str, int], Refusal]:
    """By attempt, as far as it is known, for the Jobs that are `due`."""
    until = clock.now() + LOOK_FOR_ROOM
    noted = home.waiting(seen.record)
    note = None
    if noted is not None and noted.reason != Reason.WAITING_FOR_LIMIT:  # that one can be seen, or is over
        note = Refusal(reason=noted.reason, message=noted.message, until=until)
    set_ = await _numbers(cluster, namespace)
    limiter: Limiter | None = None
    full: dict[frozenset[str], Refusal | None] = {}
    """By what a step's Job needs beside its run."""
    found: dict[tuple[Role, str, int], Refusal] = {}
    for each in due:
        step = workflow.by_name[each.step]
        kind = frozenset(step.limits)
        if kind not in full:
            job = job_name(workflow, seen.id, each.role, each.step, each.attempt)
            claims = [*limits.of_run(workflow, seen.id, set_), *limits.of_job(step, job, set_)]
            if claims and limiter is None:
                limiter = Limiter(cluster, clock, namespace, await all_that_is_open(cluster, namespace), leads=lambda: True)
            answer = await limiter.look(seen.id, workflow, step, job) if claims and limiter is not None else None
            full[kind] = Refusal(reason=Reason.WAITING_FOR_LIMIT, message=str(answer), until=until) if answer else None
        refusal = full[kind] or note
        if refusal is not None:
            found[each.role, each.step, each.attempt] = refusal
    return found


async def _numbers(cluster: Cluster, namespace: str) -> dict[str, int]:
    try:
        return limits.numbers(await cluster.get(CONFIG_MAPS, namespace, limits.LIMITS))
    except (NotFound, Forbidden):
        return {}
