"""Tours: everything that a part of Jobyard does with a cluster, once, under the rights that it was given.

A tour returns when all went well, and raises what was refused, or is cut by its bound. What was missed without harm is said in the log.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.cluster.lease import Leadership
from jobyard.contracts import Engine
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.face import look_at_job
from jobyard.engine.limit_settings import set_limit
from jobyard.engine.limits import LIMITS
from jobyard.engine.namespace import Options
from jobyard.engine.sweep import sweep
from jobyard.model import names
from jobyard.model.errors import Forbidden, NotFound
from jobyard.model.objects import CONFIG_MAPS, JOBS, PODS, Manifest
from jobyard.model.retention import Keeping
from jobyard.model.run import Reason, RunRequest, State
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow
from jobyard.service.board import Board, Notes, find_board
from jobyard.service.metrics import Metrics
from jobyard.service.obstacles import Obstacles, by_file
from jobyard.service.options import GitOptions, ServeOptions, TargetOptions
from jobyard.service.served import Source
from jobyard.service.service import open_service
from jobyard.service.settings import GitSettings, Settings, TriggerSettings
from jobyard.service.target import Target
from tests.flows import read
from tests.manifests import Tree, job, step, workflow
from tests.waiting import is_running, until, until_gone, until_pod

CLOCK = SystemClock()
SECRET: Manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "beside"}, "stringData": {"a": "b"}}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tour goes, and as whom."""

    admin: HttpCluster
    """May do everything: other people's deeds."""
    cluster: HttpCluster
    namespace: str
    folder: Path
    missing: Collection[str]
    """Resources that the tour has to do without."""
    gives_up: timedelta
    engines: list[int] = field(default_factory=list)
    """One for each that was opened: what is missed is said once by each."""

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[ClusterEngine]:
        """One that drives every run."""
        self.engines.append(1)
        async with open_engine(self.cluster, CLOCK, self.namespace, Options(gives_up=self.gives_up)) as engine:
            driving = asyncio.create_task(engine.adopt())
            try:
                yield engine
            finally:
                driving.cancel()
                await asyncio.gather(driving, return_exceptions=True)


def plain(manifest: Tree) -> Workflow:
    """A manifest as a run of its own."""
    name = manifest["metadata"]["name"]
    return Workflow(name=name, steps=(Step(name=name, job=Template(manifest, literal=True)),))


def asks(flow: Workflow, key: str, trigger: str = "queue", **more: Any) -> RunRequest:
    return RunRequest(trigger=trigger, key=key, workflow=flow, **more)


async def of_one_job(place: Place) -> None:
    """What a queue does: runs of one Job, to their end, again, cancelled, left behind by another process, cleaned up."""
    cluster, namespace = place.cluster, place.namespace
    failing = asks(plain(job("one", "echo hi; exit 3", ttlSecondsAfterFinished=600)), "one", key_names_workflow=True)
    stubborn = {"terminationGracePeriodSeconds": 600}
    waiting = asks(plain(job("long", "trap '' TERM; while true; do sleep 1; done", pod=stubborn)), "long")
    left = asks(plain(job("left")), uuid.uuid4().hex, "cli")
    place.engines.append(1)
    async with open_engine(cluster, CLOCK, namespace, Options(gives_up=place.gives_up)) as first:
        theirs = await first.submit(left)
    async with place.engine() as engine:
        run, long = await asyncio.gather(engine.submit(failing), engine.submit(waiting))
        outcome = await engine.outcome(run)
        assert outcome.state is State.FAILED
        for _ in range(2):
            assert await engine.last_lines(run, outcome.view.steps[0], 5) == ([] if "pods/log" in place.missing else ["hi"])
        assert run.id in [each.id for each in await engine.runs("queue")]
        await engine.release(run)
        again = await engine.submit(failing)
        assert (again.existed, again.uid) == (True, run.uid)
        assert run.id in [each.id for each in (await engine.page()).runs]
        assert (await engine.view(run.id)).state is State.FAILED
        pod = await until_pod(place.admin, namespace, long.name, is_running)
        await engine.cancel(long)
        await until(place.admin, JOBS, namespace, long.name, lambda seen: names.STOPPED_AT in seen.metadata.annotations)
        long_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        await place.admin.patch(JOBS, namespace, long.name, {"metadata": {"annotations": {names.STOPPED_AT: long_ago}}})
        assert (await engine.outcome(long)).state is State.CANCELLED
        await until_gone(place.admin, PODS, namespace, pod.metadata.name)  # by force: it does not listen
        await engine.release(long)
        await until(place.admin, JOBS, namespace, theirs.name, lambda seen: names.ENDED in seen.metadata.labels)
        if "configmaps" in place.missing:
            await _refused_without_config_maps(place, engine)
    assert {run.uid, long.uid, theirs.uid} <= {each.uid for each in await sweep(cluster, CLOCK, namespace, Keeping(runs=timedelta(0)))}


async def _refused_without_config_maps(place: Place, engine: ClusterEngine) -> None:
    two = read(workflow("w", step("a"), step("b", "true", "a")), place.folder)
    for waits in (True, False):
        with pytest.raises(Forbidden, match=r"needs a ConfigMap.* there is no right to create configmaps, get configmaps") as refused:
            await engine.submit(asks(two, "two", waits=waits))
        assert (refused.value.reason, refused.value.exit_code) == (Reason.NO_RIGHT, 3)
    assert (await engine.outcome(await engine.submit(asks(plain(job("on")), "on")))).state is State.SUCCEEDED


async def of_several_steps(place: Place) -> None:
    """What a run with a record of its own takes: limits, objects beside it, being held, abandoned, cancelled by others, cleaned up."""
    cluster, namespace = place.cluster, place.namespace
    flow = read(workflow("w", step("a"), step("b", "true", "a"), limits=["gpu"], cleanup="always"), place.folder)
    lonely = plain(job("lonely", pod={"serviceAccountName": "nosuch"}))
    await set_limit(cluster, namespace, "gpu", "1")
    async with place.engine() as engine:
        run = await engine.submit(asks(flow, "1"))
        assert (await engine.outcome(run)).state is State.SUCCEEDED
        await engine.release(run)
        held = await engine.submit(asks(flow, "2", held=True))
        await engine.abandon(held)
        with pytest.raises(NotFound):
            await place.admin.get(CONFIG_MAPS, namespace, held.name)
        again = await engine.submit(asks(flow, "1"))
        assert (again.existed, again.uid) == (True, run.uid)
        alone = await engine.submit(asks(lonely, "lonely", accepted=True))
        if "events" not in place.missing:
            async with engine.changes(alone) as changed:
                while (view := engine.driven(alone)) is None or "nosuch" not in str(view.steps[0].diagnosis):
                    await changed.wait()
        assert await look_at_job(cluster, namespace, alone.name) is not None
        await engine.cancel(alone)
        assert (await engine.outcome(alone)).state is State.CANCELLED
        sleeping = await engine.submit(asks(read(workflow("s", step("a", "sleep 600"), cleanup="always"), place.folder), "3"))
        cancel = {"metadata": {"annotations": {names.CANCEL: datetime.now(UTC).isoformat()}}}
        await place.admin.patch(CONFIG_MAPS, namespace, sleeping.name, cancel)
        assert (await engine.outcome(sleeping)).state is State.CANCELLED
        await engine.release(sleeping)
        async with open_engine(place.admin, CLOCK, namespace) as other:
            theirs = await other.submit(asks(flow, "4", "cli"))
        await until(place.admin, CONFIG_MAPS, namespace, theirs.name, lambda seen: names.ENDED in seen.metadata.labels)
    assert {run.uid, sleeping.uid, theirs.uid} <= {each.uid for each in await sweep(cluster, CLOCK, namespace, Keeping(runs=timedelta(0)))}


async def with_objects(place: Place, objects: tuple[Manifest, ...]) -> None:
    """Two runs of a source that bring objects of the same names: the second's take the place of the first's."""
    flow = read(workflow("o", step("a"), step("b", "true", "a")), place.folder)
    async with place.engine() as engine:
        for key in ("o1", "o2"):
            run = await engine.submit(asks(flow, key, objects=objects))
            assert (await engine.outcome(run)).state is State.SUCCEEDED
            await engine.release(run)


async def with_a_payload(place: Place) -> None:
    """A run of one Job whose Secret bears our digest: it is made anew when nobody knows whether it was."""
    asked = asks(plain(job("p")), "payload")
    name = f"payload-{asked.run_id}"
    needs = {"envFrom": [{"secretRef": {"name": name}}]}
    asked = asks(plain(job("p", container=needs)), "payload", objects=({**SECRET, "metadata": {"name": name}},))
    async with place.engine() as engine:
        run = await engine.submit(asked)
        assert (await engine.submit(asked)).uid == run.uid
        assert (await engine.outcome(run)).state is State.SUCCEEDED


async def leading(place: Place) -> None:
    """Leads, goes on leading, and resigns."""
    leadership = Leadership(place.cluster, CLOCK, place.namespace, "tour", "me")
    for _ in range(3):
        if not await leadership.run_once() and "leases" not in place.missing:
            raise AssertionError(leadership.trouble or "does not lead")
    await leadership.resign()


async def serving(place: Place) -> None:
    """What two replicas of a service take beside the runs: who leads, what the board says and hears, limits of the settings."""
    source = GitSettings(git=GitOptions(repository="nowhere"), serve=ServeOptions(), poll=timedelta(minutes=1))
    settings = Settings(triggers=(TriggerSettings(name="toy", source=source),), limits={"gpu": 2})
    target = Target(cluster=place.cluster, namespace=place.namespace, options=TargetOptions())
    heard: asyncio.Queue[str] = asyncio.Queue()
    board = Board(place.admin, place.namespace, settings.name)

    async def until_board(what: Callable[[Notes], object]) -> None:
        async for notes in board.watch():
            if what(notes):
                return

    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(
                open_service(
                    place.cluster,
                    CLOCK,
                    place.namespace,
                    settings,
                    me,
                    lambda *_: Source(trigger=_Toy(), wake=heard.put_nowait, branch=lambda: "main"),
                    Metrics(),
                    Obstacles(by_file, lambda _: None, target),
                )
            )
            for me in ("one", "two")
        ]
        place.engines.extend((1, 1))
        await until_board(lambda notes: notes.standings.get("toy") and notes.standings["toy"].state == "running")
        await until(place.admin, CONFIG_MAPS, place.namespace, LIMITS, lambda limits: limits.data.get("gpu") == "2")
        standby = next(each for each in replicas if not each.leads)
        await standby.hear("toy", "c0ffee")
        assert await heard.get() == "c0ffee"
        theirs = Board(place.cluster, place.namespace, settings.name)
        await theirs.pause("toy", "me", CLOCK.now())
        await until_board(lambda notes: notes.standings["toy"].state == "paused")
        assert (await find_board(place.cluster, place.namespace, None))[1].triggers == ["toy"]
        await theirs.resume("toy")
        await until_board(lambda notes: notes.standings["toy"].state == "running")


class _Toy:
    """A trigger that starts nothing."""

    name = "toy"

    async def run(self, engine: Engine) -> None:
        await asyncio.Event().wait()
