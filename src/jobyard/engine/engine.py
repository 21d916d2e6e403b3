"""The engine over all namespaces that are open: each question goes to the namespace that it is about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from jobyard.contracts import Clock, Cluster, Page
from jobyard.engine import face
from jobyard.engine.namespace import COMMAND, Load, Namespace, Options, open_namespace
from jobyard.engine.signals import Signal
from jobyard.model import names
from jobyard.model.errors import NotANamespace, TooManyNamespaces, innermost
from jobyard.model.run import Outcome, Run, RunRequest, RunView, StepView
from jobyard.model.workflow import Workflow


class ClusterEngine:
    """The Engine, and the Face, whose memory is the cluster. Each namespace is opened when it is first asked for. Made by `open_engine`."""

    def __init__(self, cluster: Cluster, clock: Clock, default: str, tasks: asyncio.TaskGroup, options: Options) -> None:
        self.cluster = cluster
        self._clock = clock
        self._default = default
        self._tasks = tasks
        self._options = options
        self._opened: dict[str, asyncio.Future[Namespace]] = {}
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self._adopting: asyncio.TaskGroup | None = None
        """While every open run is driven: also those of namespaces that are opened later."""

    async def of(self, namespace: str = "") -> Namespace:
        """The part of the engine that is about a namespace. Raises NotANamespace, TooManyNamespaces: who names one may be anybody."""
        name = namespace or self._default
        if name not in self._opened:
            if not names.is_namespace(name):
                raise NotANamespace(namespace=names.shown(name))
            if len(self._opened) >= self._options.namespaces:
                raise TooManyNamespaces(namespace=name, count=len(self._opened))
            self._opened[name] = asyncio.get_running_loop().create_future()
            self._keeping[name] = self._tasks.create_task(self._keep(name, self._opened[name]), name=f"namespace {name}")
        return await asyncio.shield(self._opened[name])

    async def _keep(self, namespace: str, opened: asyncio.Future[Namespace]) -> None:
        """Holds a namespace open; a task of its own, because who first asks for one may be gone long before the last."""
        try:
            async with open_namespace(self.cluster, self._clock, namespace, self._options) as part:
                opened.set_result(part)
                if self._adopting is not None:
                    self._adopting.create_task(part.adoption.run())
                await asyncio.get_running_loop().create_future()
        except Exception as error:
            if opened.done():
                raise
            del self._opened[namespace], self._keeping[namespace]  # the next who asks tries again
            opened.set_exception(innermost(error))
            opened.exception()

    def close(self) -> None:
        for task in self._keeping.values():
            if not task.cancelling():
                task.cancel()

    async def adopt(self) -> None:
        """Drives every open run of the namespaces that are open, whoever began it, until cancelled; then stops at once."""
        async with asyncio.TaskGroup() as tasks:
            self._adopting = tasks
            try:
                for part in self._parts():
                    tasks.create_task(part.adoption.run())
                await asyncio.get_running_loop().create_future()
            finally:
                self._adopting = None

    def _parts(self) -> list[Namespace]:
        """The namespaces that are open: one that can't be opened just now keeps nobody waiting."""
        return [opened.result() for opened in self._opened.values() if opened.done() and opened.exception() is None]

    def out_of_sight(self) -> dict[str, str]:
        """The open namespaces that can't be seen just now, and why."""
        return {part.name: part.unreachable for part in self._parts() if part.unreachable}

    def open_runs(self) -> list[Run]:
        """The runs of all open namespaces that were not released."""
        return [run for part in self._parts() for run in part.open_runs()]

    def load(self) -> dict[str, Load]:
        """How much there is to do, by namespace."""
        return {part.name: part.load() for part in self._parts()}

    # --- for triggers ---

    async def submit(self, request: RunRequest) -> Run:
        return await (await self.of(request.namespace)).submit(request)

    async def outcome(self, run: Run) -> Outcome:
        return await (await self.of(run.namespace)).outcome(run)

    async def runs(self, trigger: str, namespace: str = "") -> list[Run]:
        parts = [await self.of(namespace)] if namespace else self._parts()
        found = [run for part in parts for run in part.runs(trigger)]
        return sorted(found, key=lambda run: (run.created, run.name))

    async def release(self, run: Run, until: datetime | None = None) -> None:
        await (await self.of(run.namespace)).release(run, until)

    async def begin(self, run: Run) -> None:
        await (await self.of(run.namespace)).begin(run)

    async def abandon(self, run: Run) -> None:
        await (await self.of(run.namespace)).abandon(run)

    async def room(self, workflow: Workflow, namespace: str = "") -> int:
        return await (await self.of(namespace)).room(workflow)

    async def try_out(self, request: RunRequest) -> None:
        await (await self.of(request.namespace)).try_out(request)

    async def find(self, run: str, namespace: str = "") -> Run:
        return await (await self.of(namespace)).find(run)

    async def last_lines(self, run: Run, step: StepView, count: int) -> list[str]:
        return await (await self.of(run.namespace)).last_lines(run, step, count)

    # --- for faces ---

    async def page(self, namespace: str = "", after: str = "", size: int = face.PAGE) -> Page:
        return await face.page(self.cluster, self._clock, namespace or self._default, after, size)

    async def view(self, run: str, namespace: str = "") -> RunView:
        return await face.view(self.cluster, self._clock, namespace or self._default, run)

    def driven(self, run: Run) -> RunView | None:
        """The run as it stood at its driver's last look; None before the first, and where it is not driven here."""
        opened = self._opened.get(run.namespace)
        return opened.result().view(run) if opened is not None and opened.done() else None

    @asynccontextmanager
    async def changes(self, run: Run) -> AsyncIterator[Signal]:
        async with (await self.of(run.namespace)).changes(run) as signal:
            yield signal

    async def cancel(self, run: Run) -> None:
        await (await self.of(run.namespace)).cancel(run)

    async def again(self, run: Run, key: str, *, failed_only: bool) -> Run:
        return await self.submit(await face.again(self.cluster, self._clock, run, key, failed_only=failed_only))


@asynccontextmanager
async def open_engine(cluster: Cluster, clock: Clock, namespace: str, options: Options = COMMAND) -> AsyncIterator[ClusterEngine]:
    """An engine whose `namespace` is open from the start, and others when they are asked for. Leaving ends its tasks; the runs' Jobs go on."""
    async with asyncio.TaskGroup() as tasks:
        engine = ClusterEngine(cluster, clock, namespace, tasks, options)
        try:
            await engine.of()
            yield engine
        finally:
            engine.close()
