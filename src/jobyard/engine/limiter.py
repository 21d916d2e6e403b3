"""Takes places in limits, and says when there may be room again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jobyard.contracts import Cluster
from jobyard.engine import limits
from jobyard.engine import record as records
from jobyard.engine.limits import Claim, Full
from jobyard.engine.observe import Sight
from jobyard.model import names
from jobyard.model.errors import Conflict, NotFound
from jobyard.model.job import read
from jobyard.model.objects import CONFIG_MAPS, JOBS, ConfigMap
from jobyard.model.run import Run
from jobyard.model.workflow import Step, Workflow

TRIES = 20
"""How often a claim is tried again because another process took or gave a place of the same scope at the same moment."""


class Limiter:
    """The limits of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, sight: Sight) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._sight = sight
        self._turn = asyncio.Lock()

    async def admit(self, run: Run, step: Step, job: str) -> Full | None:
        """Takes every place that this Job, and its run, still need; None when it may start. Raises Unavailable, Conflict."""
        set_ = limits.numbers(self._sight.limits)
        claims = [*limits.of_run(run.workflow, run.id, set_), *limits.of_job(step, job, set_)]
        wanted = [claim for claim in claims if claim.holder not in limits.holders(self._sight.places.get(claim.object_name))]
        if not wanted:
            return None
        async with self._turn:
            taken: list[Claim] = []
            for claim in wanted:
                full = await self._take(claim, run.id)
                if full is not None:
                    await self._give_back(taken)
                    return full
                taken.append(claim)
        return None

    def limits(self, workflow: Workflow) -> bool:
        """Whether a run of this workflow needs a place in some limit."""
        return bool(limits.of_run(workflow, "", limits.numbers(self._sight.limits)))

    def full(self, run: str, workflow: Workflow) -> Full | None:
        """Whether a new run would have to wait, as far as is known here. Runs that wait for a place count as if they had one."""
        for claim in limits.of_run(workflow, run, limits.numbers(self._sight.limits)):
            others = [
                name
                for name, record in self._sight.records.items()
                if name != run
                and records.end(record) is None
                and claim.scope in record.metadata.annotations.get(names.SCOPES, "").split(",")
            ]
            if len(others) >= claim.limit:
                return Full(scope=claim.scope, limit=claim.limit, holders=tuple(others))
        return None

    async def _take(self, claim: Claim, run: str) -> Full | None:
        for _ in range(TRIES):
            places = await self._places(claim)
            held = limits.holders(places)
            over = [holder for holder, of in held.items() if await self.is_over(holder, of)]
            granted = limits.take(claim, run, held, over)
            if isinstance(granted, Full):
                return granted
            try:
                await self._put(claim, granted, places)
            except (Conflict, NotFound):
                continue  # somebody else was at it in the same moment
            return None
        raise Conflict(action=f"take a place of limit {claim.scope}", status=409, reason="Conflict", message="others are faster")

    async def _give_back(self, taken: Sequence[Claim]) -> None:
        """Not needed for anything to be right, but places that nobody uses are a pity."""
        for claim in taken:
            places = await self._places(claim)
            held = limits.holders(places)
            if held.pop(claim.holder, None) is not None:
                try:
                    await self._put(claim, held, places)
                except (Conflict, NotFound):
                    continue

    async def _places(self, claim: Claim) -> ConfigMap | None:
        try:
            return await self._cluster.get(CONFIG_MAPS, self._namespace, claim.object_name)
        except NotFound:
            return None

    async def _put(self, claim: Claim, held: dict[str, str], places: ConfigMap | None) -> None:
        if places is None:
            made = await self._cluster.create(CONFIG_MAPS, self._namespace, limits.write(claim, held))
        else:
            change = limits.write(claim, held, places.metadata.resource_version)
            made = await self._cluster.patch(CONFIG_MAPS, self._namespace, claim.object_name, change)
        self._sight.see(made)

    async def is_over(self, holder: str, run: str) -> bool:
        """Whether a holder needs its place no more. An end never changes, so what we have seen of one holds; of what we have not seen
        we ask: our watch may be a moment behind."""
        record = self._sight.records.get(run)
        if record is None:
            try:
                record = await self._cluster.get(CONFIG_MAPS, self._namespace, run)
            except NotFound:
                return True
        if records.end(record) is not None:
            return True
        if holder == run:
            return False
        job = self._sight.jobs[run].get(holder)
        if job is not None:
            return read(job).state.is_end
        return any(result.job == holder and result.state.is_end for result in self._sight.results(run).values())


async def set_limit(cluster: Cluster, namespace: str, name: str, number: str | None) -> None:
    """Sets a limit of the namespace, or with None removes it."""
    change = {"data": {name: number}}
    try:
        await cluster.patch(CONFIG_MAPS, namespace, limits.LIMITS, change)
    except NotFound:
        if number is not None:
            labels = {names.MANAGED_BY: names.JOBYARD, names.ROLE: "limits"}
            metadata = {"name": limits.LIMITS, "labels": labels}
            await cluster.create(CONFIG_MAPS, namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **change})


async def look(cluster: Cluster, namespace: str) -> list[tuple[str, int | None, list[str]]]:
    """Each limit by name, with its number where it is set and who holds a place, as the cluster has it now."""
    sight = Sight()
    for found in await cluster.list(CONFIG_MAPS, namespace, labels=names.SELECTOR):
        sight.see(found)
    for job in await cluster.list(JOBS, namespace, labels=names.SELECTOR):
        sight.see(job)
    limiter = Limiter(cluster, namespace, sight)
    rows: dict[str, tuple[int | None, list[str]]] = {name: (number, []) for name, number in limits.numbers(sight.limits).items()}
    for run, record in sight.records.items():
        workflow = sight.workflow(run)
        if workflow is not None and workflow.max_runs and records.end(record) is None:
            rows.setdefault(limits.workflow_scope(workflow.name), (workflow.max_runs, []))
    for places in sight.places.values():
        scope = places.metadata.annotations.get(names.SCOPE, "")
        held = [holder for holder, run in limits.holders(places).items() if not await limiter.is_over(holder, run)]
        if scope in rows or held:
            rows[scope] = (rows.get(scope, (None, []))[0], held)
    return sorted((name, number, held) for name, (number, held) in rows.items())
