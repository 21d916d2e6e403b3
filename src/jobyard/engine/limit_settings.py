"""The limits of a namespace as people set and see them."""

from __future__ import annotations

from jobyard.contracts import Clock, Cluster
from jobyard.engine import home, limits
from jobyard.engine.places import Places
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.errors import Conflict, NotFound
from jobyard.model.objects import CONFIG_MAPS, JOBS, Manifest
from jobyard.patience import patiently


async def set_limit(cluster: Cluster, namespace: str, name: str, number: str | None) -> None:
    """Sets a limit of the namespace, or with None removes it."""
    labels = {names.MANAGED_BY: names.JOBYARD, names.ROLE: "limits"}  # by which it is seen, whoever made it
    change: Manifest = {"metadata": {"labels": labels}, "data": {name: number}}

    async def once() -> None:
        try:
            await cluster.patch(CONFIG_MAPS, namespace, limits.LIMITS, change)
        except NotFound:
            if number is not None:
                metadata = {"name": limits.LIMITS, "labels": labels}
                await cluster.create(CONFIG_MAPS, namespace, {**change, "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

    await patiently(once, over=(Conflict,))  # somebody else may make it in the same moment


async def limit_names(cluster: Cluster, namespace: str) -> list[str]:
    """The limits that somebody has set in a namespace, also those whose number is none."""
    try:
        return sorted((await cluster.get(CONFIG_MAPS, namespace, limits.LIMITS)).data)
    except NotFound:
        return []


async def all_that_is_open(cluster: Cluster, namespace: str) -> Sight:
    """The open runs, the limits and their places, as the cluster has them now. Of each run its record and its Jobs."""
    sight = Sight()
    for found in await cluster.list(CONFIG_MAPS, namespace, labels=names.WATCHED):
        sight.see(found)
    for job in await cluster.list(JOBS, namespace, labels=names.WATCHED):
        sight.see(job)
    return sight


async def list_limits(cluster: Cluster, clock: Clock, namespace: str) -> list[tuple[str, int | None, list[str]]]:
    """Each limit by name, with its number where it is set and who holds a place, as the cluster has it now."""
    sight = await all_that_is_open(cluster, namespace)
    shared = Places(cluster, clock, namespace, sight, sees_all=lambda: False)
    rows: dict[str, tuple[int | None, list[str]]] = {name: (number, []) for name, number in limits.numbers(sight.limits).items()}
    for run in sight.runs.values():
        workflow = run.workflow
        if workflow is not None and workflow.max_runs and home.end(run.record) is None:
            rows.setdefault(limits.workflow_scope(workflow.name), (workflow.max_runs, []))
    for places in sight.places.values():
        scope = places.metadata.annotations.get(names.SCOPE, "")
        held = [(holder, place) for holder, place in limits.holders(places).items() if not await shared.is_over(holder, place)]
        shown = [sight.runs[holder].record.metadata.name if holder in sight.runs else holder for holder, _ in held]
        if scope in rows or shown:
            rows[scope] = (rows.get(scope, (None, []))[0], shown)
    return sorted((name, number, held) for name, (number, held) in rows.items())
