"""What stands beside a Job that is its run: a Secret with a drawn name, and what becomes of a Job that never gets its own. And asking for room."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobyard import external
from jobyard.access import Right, to
from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.cluster.rights import RIGHTS
from jobyard.engine import incomplete, tidying
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.engine.limit_settings import set_limit
from jobyard.engine.namespace import Options
from jobyard.model import names
from jobyard.model.errors import NotFound, Rejected
from jobyard.model.objects import CONFIG_MAPS, JOBS, SECRETS
from jobyard.model.run import RunRequest, State
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow
from tests.conftest import LOCAL, ClusterUnderTest
from tests.manifests import job
from tests.restricted import restricted_kubeconfig
from tests.waiting import BOUND, until

SERVED = Options(service="jobyard")


def message(key: str = "", content: str = "b", steps: int = 1, **spec: Any) -> RunRequest:
    """A run whose pods wait for a Secret that is made after them."""
    key = key or uuid.uuid4().hex
    stem = f"payload-{names.run_id('test', key)}-"
    manifest = job("reads", 'test "$A" = b', container={"envFrom": [{"secretRef": {"name": stem}}]}, **spec)
    flow = Workflow(name="reads", steps=tuple(Step(name=f"s{number}", job=Template(manifest, literal=True)) for number in range(steps)))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": stem}, "immutable": True, "stringData": {"A": content}}
    return RunRequest(trigger="test", key=key, workflow=flow, objects=(secret,))


class Dies:
    """As if the process were killed before a call."""

    def __init__(self, call: str) -> None:
        self.call = call

    def before(self, call: str) -> None:
        if self.call in call:
            raise SystemError("as if killed")

    def after(self, call: str, seconds: float) -> None:
        pass


async def secrets(cluster: HttpCluster, namespace: str) -> list[str]:
    return [each.metadata.name for each in await cluster.list(SECRETS, namespace, labels=names.SELECTOR)]


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_run_has_a_secret_of_its_own_name_which_whoever_asks_again_finds(cluster: HttpCluster, namespace: str, steps: int) -> None:
    asked = message(steps=steps)
    async with open_engine(cluster, SystemClock(), namespace) as engine:
        with external.observe(Dies("create Secret")), pytest.raises(SystemError):
            await engine.submit(asked)
    assert await secrets(cluster, namespace) == []
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        run = await engine.submit(asked)
        assert run.existed
        assert (await engine.submit(asked)).uid == run.uid
        assert (await engine.outcome(run)).state is State.SUCCEEDED
        (name,) = await secrets(cluster, namespace)
        assert name.startswith(f"payload-{run.id}-")
        kind: Any = JOBS if steps == 1 else CONFIG_MAPS
        record = await cluster.get(kind, namespace, run.name)
        assert record.metadata.annotations[names.OBJECTS] == f"Secret/{name}"


async def test_a_secret_of_an_earlier_job_of_the_same_run_is_never_taken_for_its_own(
    cluster: HttpCluster, namespace: str, under_test: ClusterUnderTest, tmp_path: Path
) -> None:
    """By an account that may create Secrets and see none: it can't ask whose a Secret is."""
    rights: tuple[Right, ...] = tuple(each for each in RIGHTS if each.resource != "secrets")
    rights = (*rights, to(SECRETS, "create", why="payloads"))
    config = under_test.kubeconfig
    if under_test.name != LOCAL:  # which knows no rights
        config = await restricted_kubeconfig(cluster, config, namespace, tmp_path / "kubeconfig", rights)
    asked = message()
    async with open_cluster(connect(kubeconfig=str(config))) as restricted, asyncio.timeout(BOUND):
        async with open_engine(restricted, SystemClock(), namespace) as engine:
            first = await engine.submit(asked)
            await engine.outcome(first)
            (old,) = await secrets(cluster, namespace)
            await cluster.patch(SECRETS, namespace, old, {"metadata": {"finalizers": ["example.org/stays"]}})
            await cluster.delete(JOBS, namespace, first.name)
        async with open_engine(restricted, SystemClock(), namespace) as engine:
            second = await engine.submit(asked)
            assert second.uid != first.uid
            assert (await engine.outcome(second)).state is State.SUCCEEDED
        assert len(await secrets(cluster, namespace)) == 2
        await cluster.patch(SECRETS, namespace, old, {"metadata": {"finalizers": None}})


async def test_a_job_that_is_being_deleted_before_it_ended_is_waited_for_and_made_anew(cluster: HttpCluster, namespace: str) -> None:
    asked = message(suspend=True, activeDeadlineSeconds=3600)
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        first = await engine.submit(asked)
        await cluster.patch(JOBS, namespace, first.name, {"metadata": {"finalizers": ["example.org/stays"]}})
        await cluster.delete(JOBS, namespace, first.name)
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        await until(cluster, JOBS, namespace, first.name, lambda seen: seen.metadata.deletion_timestamp is not None)
        asking = asyncio.create_task(engine.submit(asked))
        await asyncio.wait([asking], timeout=2)
        assert not asking.done()
        await cluster.patch(JOBS, namespace, first.name, {"metadata": {"finalizers": None}})
        assert (await asking).uid != first.uid


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_run_whose_secret_was_never_made_is_taken_away_after_a_minute_and_not_before(
    cluster: HttpCluster, namespace: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_engine(cluster, SystemClock(), namespace, SERVED) as engine:
        with external.observe(Dies("create Secret")), pytest.raises(SystemError):
            await engine.submit(message(steps=steps))
    async with open_engine(cluster, SystemClock(), namespace, SERVED) as engine, asyncio.timeout(BOUND):
        whole = await engine.submit(message("whole", steps=steps, suspend=True))
        (late,) = [run for run in await engine.runs("test") if run.uid != whole.uid]
        adopting = asyncio.create_task(engine.adopt())
        await asyncio.wait([adopting], timeout=1)
        assert not any(run.state.is_end for run in await engine.runs("test"))
        adopting.cancel()
    monkeypatch.setattr(incomplete, "LATE", timedelta(seconds=1))
    monkeypatch.setattr(tidying, "EVERY", timedelta(seconds=0.2))
    async with open_engine(cluster, SystemClock(), namespace, SERVED) as engine, asyncio.timeout(BOUND):
        run = await engine.find(late.id)
        adopting = asyncio.create_task(engine.adopt())
        assert (await engine.outcome(run)).state is State.LOST
        adopting.cancel()
        assert [each.uid for each in await engine.runs("test")] == [whole.uid]
    kind: Any = JOBS if steps == 1 else CONFIG_MAPS
    with pytest.raises(NotFound):
        await cluster.get(kind, namespace, late.name)
    assert (await cluster.get(kind, namespace, whole.name)).metadata.uid == whole.uid


async def test_room_is_waited_for_and_told(cluster: HttpCluster, namespace: str) -> None:
    flow = message().workflow
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        assert await engine.room(flow) > 1000
        assert await engine.room(replace(flow, max_runs=3)) == 3
        await set_limit(cluster, namespace, "namespace", "1")
        while await engine.room(flow) != 1:
            await cluster.list(JOBS, namespace)
        run = await engine.submit(message())
        asking = asyncio.create_task(engine.room(flow))
        await asyncio.wait([asking], timeout=0.1)
        await engine.outcome(run)
        assert await asking == 1


async def test_a_trial_makes_nothing_and_is_answered_as_a_run_would_be(cluster: HttpCluster, namespace: str) -> None:
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        for steps in (1, 2):
            await engine.try_out(message(steps=steps))
        with pytest.raises(Rejected):
            await engine.try_out(message(backoffLimit=-1))
        assert await engine.runs("test") == []
    assert await cluster.list(JOBS, namespace) == []
    assert await secrets(cluster, namespace) == []
