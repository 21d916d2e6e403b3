"""A service whose triggers are toys: for what a service does, whatever it serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from jobyard.cluster.client import HttpCluster
from jobyard.contracts import Engine
from jobyard.engine.clock import SystemClock
from jobyard.service.metrics import Metrics
from jobyard.service.obstacles import Obstacles
from jobyard.service.options import GitOptions, ServeOptions, TargetOptions
from jobyard.service.served import Measures, Source
from jobyard.service.service import Service, open_service
from jobyard.service.settings import GitSettings, Settings, TriggerSettings
from jobyard.service.target import Target
from jobyard.supervise import Budget
from tests.waiting import BOUND

CLOCK = SystemClock()


@dataclass(eq=False)
class Toy:
    """A trigger that notes what becomes of it."""

    name: str
    work: Callable[[Engine], Any] | None = None
    starts: int = 0
    heard: list[str] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    """How many of it there were at once at most."""
    lingers: asyncio.Event | None = None
    """What its end waits for."""

    async def run(self, engine: Engine) -> None:
        self.starts += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.work is not None:
                await self.work(engine)
            await asyncio.Event().wait()
        finally:
            if self.lingers is not None:
                await self.lingers.wait()
            self.under_way -= 1


def trigger(name: str, poll: float = 60, budget: Budget | None = None) -> TriggerSettings:
    git = GitSettings(git=GitOptions(repository="nowhere"), serve=ServeOptions(), poll=timedelta(seconds=poll))
    return TriggerSettings(name=name, source=git, budget=budget)


def asked(*triggers: TriggerSettings, **more: Any) -> Settings:
    return Settings(triggers=triggers, **{"replicas": 1, **more})


class Toys:
    """Makes triggers that are toys, by name: one for each, however often its settings change."""

    def __init__(self) -> None:
        self.made: dict[str, Toy] = {}

    def __getitem__(self, name: str) -> Toy:
        return self.made.setdefault(name, Toy(name))

    def build(self, settings: TriggerSettings, namespace: str) -> Source:
        toy = self[settings.name]
        return Source(trigger=toy, wake=toy.heard.append, branch=lambda: "main")


@asynccontextmanager
async def service(
    cluster: HttpCluster, namespace: str, settings: Settings, toys: Toys, me: str = "me", measures: Measures | None = None
) -> AsyncIterator[Service]:
    target = Target(cluster=cluster, namespace=namespace, options=TargetOptions())
    obstacles = Obstacles(lambda run: run.name, lambda _: None, target)
    async with open_service(cluster, CLOCK, namespace, settings, me, toys.build, measures or Metrics(), obstacles) as found:
        yield found


async def holds(what: Callable[[], object]) -> None:
    """Returns once it holds. Looked at at each turn of the loop: the parts of a service that change it are in this process."""
    async with asyncio.timeout(BOUND):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
