"""One engine for several namespaces: each request goes to the one that its workflow names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from jobyard.contracts import Clock, Cluster
from jobyard.engine.loop import ClusterEngine, open_engine
from jobyard.model.errors import innermost
from jobyard.model.run import Outcome, Run, RunRequest, StepView


class Namespaces:
    """The Engine of several namespaces; each is opened when it is first asked for. Made by `open_namespaces`."""

    def __init__(self, cluster: Cluster, clock: Clock, default: str, tasks: asyncio.TaskGroup, told: Callable[[Run], None]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._default = default
        self._tasks = tasks
        self._told = told
        self._opened: dict[str, asyncio.Future[ClusterEngine]] = {}
        self._keeping: list[asyncio.Task[None]] = []

    async def of(self, namespace: str = "") -> ClusterEngine:
        """The engine of a namespace."""
        name = namespace or self._default
        if name not in self._opened:
            self._opened[name] = asyncio.get_running_loop().create_future()
            self._keeping.append(self._tasks.create_task(self._keep(name, self._opened[name]), name=f"namespace {name}"))
        return await asyncio.shield(self._opened[name])

    async def _keep(self, namespace: str, opened: asyncio.Future[ClusterEngine]) -> None:
        """Holds an engine open; a task of its own, because who first asks for one may be gone long before the last."""
        try:
            async with open_engine(self._cluster, self._clock, namespace, self._told) as engine:
                opened.set_result(engine)
                await asyncio.get_running_loop().create_future()
        except Exception as error:
            if opened.done():
                raise
            del self._opened[namespace]  # the next who asks tries again
            opened.set_exception(innermost(error))
            opened.exception()

    def close(self) -> None:
        for task in self._keeping:
            if not task.cancelling():
                task.cancel()

    async def submit(self, request: RunRequest) -> Run:
        return await (await self.of(request.workflow.namespace or "")).submit(request)

    async def begin(self, run: Run) -> None:
        await (await self.of(run.namespace)).begin(run)

    async def abandon(self, run: Run) -> None:
        await (await self.of(run.namespace)).abandon(run)

    async def find(self, run_id: str, namespace: str = "") -> Run:
        return await (await self.of(namespace)).find(run_id)

    async def outcome(self, run: Run) -> Outcome:
        return await (await self.of(run.namespace)).outcome(run)

    async def runs(self, trigger: str) -> list[Run]:
        """Those in the namespaces that are open."""
        found = [run for name in list(self._opened) for run in await (await self.of(name)).runs(trigger)]
        return sorted(found, key=lambda run: run.created)

    async def release(self, run: Run) -> None:
        await (await self.of(run.namespace)).release(run)

    async def last_lines(self, run: Run, step: StepView, count: int) -> list[str]:
        return await (await self.of(run.namespace)).last_lines(run, step, count)


@asynccontextmanager
async def open_namespaces(
    cluster: Cluster, clock: Clock, default: str, told: Callable[[Run], None] = lambda _: None
) -> AsyncIterator[Namespaces]:
    """Engines for as many namespaces as are asked for, the default one open from the start. `told`: as `open_engine` has it."""
    async with asyncio.TaskGroup() as tasks:
        engines = Namespaces(cluster, clock, default, tasks, told)
        try:
            await engines.of()
            yield engines
        finally:
            engines.close()
