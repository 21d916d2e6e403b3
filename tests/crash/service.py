"""Two replicas of a service for the crash harness: a repository is served, and what a person began is driven to its end."""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from jobyard.cluster.client import HttpCluster
from jobyard.cluster.lease import Terms, open_leadership
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.model.run import RunRequest
from jobyard.service import election
from jobyard.service.git import GitSource
from jobyard.service.metrics import Metrics
from jobyard.service.obstacles import Obstacles
from jobyard.service.options import GitOptions, ServeOptions, TargetOptions
from jobyard.service.served import Source
from jobyard.service.service import open_service
from jobyard.service.settings import GitSettings, Settings, TriggerSettings
from jobyard.service.target import Target
from tests.crash import git
from tests.crash.place import Place
from tests.flows import read
from tests.manifests import step, workflow

BEGUN = "begun.json"
"""The key of the run that a person began."""
QUICK = Terms(duration=3.0, look_every=0.4, give_up=2.0, follow_every=0.4)
"""So that a takeover is not most of what a kill costs. On a busy machine leaders change more often: that has to cost nothing either."""
LOOK_EVERY = 0.1


@asynccontextmanager
async def opened(cluster: HttpCluster, namespace: str, folder: Path, process: int) -> AsyncIterator[ClusterEngine]:
    """One replica, and its engine."""
    os.environ["XDG_CACHE_HOME"] = str(folder / f"cache-{os.getppid()}-{process}")
    vars(election)["open_leadership"] = functools.partial(open_leadership, terms=QUICK)
    asked = GitSettings(
        git=GitOptions(repository=str(folder / "remote.git"), branch="main"), serve=ServeOptions(), poll=timedelta(seconds=60)
    )
    settings = Settings(triggers=(TriggerSettings(name="ops", source=asked),))

    def build(trigger: TriggerSettings, where: str) -> Source:
        source = GitSource(trigger, where, (), lambda _: None, lambda _: None)
        return Source(trigger=source, wake=source.wake, branch=lambda: source.branch)

    target = Target(cluster=cluster, namespace=namespace, options=TargetOptions())
    obstacles = Obstacles(lambda run: run.name, lambda _: None, target)
    me = f"{process}-{os.getpid()}"
    async with open_service(cluster, SystemClock(), namespace, settings, me, build, Metrics(), obstacles) as service:
        while service.engine is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        yield service.engine


async def serve(place: Place) -> None:
    """Serves until nothing is queued or running in the repository, and what the person began is over."""
    tip, seen = place.folder / "remote.git" / "refs" / "heads" / "main", ""
    while True:
        if (now := tip.read_text()) != seen:
            seen = now
            left, _ = git.look(place.folder)
            if not left:
                break
        await asyncio.sleep(LOOK_EVERY)
    while True:
        runs = (await place.engine.page(place.namespace)).runs
        begun = [run for run in runs if run.trigger == "cli"]
        if begun and all(run.released for run in runs):
            break
        await asyncio.sleep(5 * LOOK_EVERY)
    (place.folder / "done").mkdir(exist_ok=True)
    (place.folder / "done" / BEGUN).write_text(str(begun[0].state))


async def person(cluster: HttpCluster, namespace: str) -> None:
    """Begins a run as `jobyard run` does, and leaves at once."""
    with tempfile.TemporaryDirectory(prefix="jobyard-crash-") as folder:
        flow = read(workflow("begun", step("a"), step("b", "true", "a")), Path(folder))
    async with open_engine(cluster, SystemClock(), namespace) as engine:
        await engine.submit(RunRequest(trigger="cli", key=BEGUN, workflow=flow, waits=False, key_names_workflow=True))


def look(folder: Path) -> tuple[list[str], dict[str, str]]:
    """What is left in the repository, and how everything ended."""
    left, done = git.look(folder)
    return left, {**done, **{file.name: file.read_text() for file in (folder / "done").glob("*.json")}}
