"""The limits of a namespace as people set and see them."""

from __future__ import annotations

from collections.abc import Mapping

from jobyard.contracts import Clock, Cluster
from jobyard.engine import home, limits
from jobyard.engine.places import Places
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.errors import Conflict, NotFound
from jobyard.model.objects import CONFIG_MAPS, JOBS, Manifest
from jobyard.patience import patiently


async def set_limit(cluster: Cluster, namespace: str, name: str, number: str | None) -> None:
    """Sets a limit of the namespace, or with None removes it. No service keeps it then, until one says so again."""
    await _write(cluster, namespace, {name: number}, {names.KEPT_LIMIT + name: None})


async def keep_limits(cluster: Cluster, namespace: str, service: str, numbers: Mapping[str, int]) -> None:
    """Sets the limits that a service's settings name, and notes that they do. Those that they named before and don't any more are removed."""
    gone = {name for name, keeper in (await limit_keepers(cluster, namespace)).items() if keeper == service} - numbers.keys()
    data = {name: str(number) for name, number in numbers.items()} | dict.fromkeys(gone)
    if data:
        await _write(cluster, namespace, data, {names.KEPT_LIMIT + name: service if name in numbers else None for name in data})


async def _write(cluster: Cluster, namespace: str, data: Mapping[str, str | None], annotations: Mapping[str, str | None]) -> None:
    labels = {names.MANAGED_BY: names.JOBYARD, names.ROLE: "limits"}  # by which it is seen, whoever made it
    change: Manifest = {"metadata": {"labels": labels, "annotations": annotations}, "data": data}

    async def once() -> None:
        try:
            await cluster.patch(CONFIG_MAPS, namespace, limits.LIMITS, change)
        except NotFound:
            if kept := _without_none(data):
                metadata = {"name": limits.LIMITS, "labels": labels, "annotations": _without_none(annotations)}
                await cluster.create(CONFIG_MAPS, namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": kept})

    await patiently(once, over=(Conflict,))  # somebody else may make it in the same moment


def _without_none(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


async def limit_names(cluster: Cluster, namespace: str) -> list[str]:
    """The limits that somebody has set in a namespace, also those whose number is none."""
    try:
        return sorted((await cluster.get(CONFIG_MAPS, namespace, limits.LIMITS)).data)
    except NotFound:
        return []


async def limit_keepers(cluster: Cluster, namespace: str) -> dict[str, str]:
    """By limit, the service whose settings say its number."""
    try:
        annotations = (await cluster.get(CONFIG_MAPS, namespace, limits.LIMITS)).metadata.annotations
    except NotFound:
        return {}
    return {key.removeprefix(names.KEPT_LIMIT): service for key, service in annotations.items() if key.startswith(names.KEPT_LIMIT)}


async def all_that_is_open(cluster: Cluster, namespace: str) -> Sight:
    """The open runs, the limits and their places, as the cluster has them now. Of each run its record and its Jobs."""
    sight = Sight()
    for found in await cluster.list(CONFIG_MAPS, namespace, labels=names.WATCHED):
        sight.see(found)
    for job in await cluster.list(JOBS, namespace, labels=names.WATCHED):
        sight.see(job)
    return sight


async def list_limits(cluster: Cluster, clock: Clock, namespace: str) -> list[tuple[str, int | None, list[str]]]:
    """Each limit by name, with its number where it is set and who holds a place, as the cluster has it now: also those that need none,
    because a leader began them, and count."""
    sight = await all_that_is_open(cluster, namespace)
    shared = Places(cluster, clock, namespace, sight, sees_all=lambda: False)
    rows: dict[str, tuple[int | None, list[str]]] = {name: (number, []) for name, number in limits.numbers(sight.limits).items()}
    for run in sight.runs.values():
        workflow = run.workflow
        if workflow is not None and workflow.max_runs and home.end(run.record) is None:
            rows.setdefault(limits.workflow_scope(workflow.name), (workflow.max_runs, []))
    for places in sight.places.values():
        scope = places.metadata.annotations.get(names.SCOPE, "")
        held = [holder for holder, place in limits.holders(places).items() if not await shared.is_over(holder, place)]
        if scope in rows or held:
            rows[scope] = (rows.get(scope, (None, []))[0], held)
    for scope, (number, held) in rows.items():
        begun = [each.id for uid in sight.active(scope) if (each := sight.of(uid)) is not None and each.has_begun]
        active = dict.fromkeys([*held, *begun, *sorted(sight.jobs_of(scope))])
        rows[scope] = (number, [sight.runs[each].record.metadata.name if each in sight.runs else each for each in active])
    return sorted((name, number, held) for name, (number, held) in rows.items())
