"""Runs whose record is larger than an object can be, and many runs at once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from jobyard import external
from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.model import names
from jobyard.model.objects import CONFIG_MAPS, JOBS
from jobyard.model.run import Reason, RunRequest, State
from jobyard.model.workflow import Workflow
from tests.conftest import ClusterUnderTest
from tests.flows import read
from tests.manifests import Tree, step, workflow
from tests.waiting import until_gone, until_job


def large(folder: Path) -> Workflow:
    """Two Jobs that run, and 300 that would if something failed: each with so much noise that the record takes parts and pages."""
    noise = random.Random(1)

    def idle(number: int) -> Tree:
        script = f"true {noise.randbytes(3000).hex()}"
        return step(f"idle-{number:03}", script, "first", when="failed")

    last = step("last", "test -n '{{ steps.first.outputs.n }}' && test {{ params.good }} = yes", "first")
    first = step("first", 'echo \'{"n": "1"}\' > /dev/termination-log')
    good = {"name": "good", "default": "no"}
    return read(workflow("large", first, *(idle(number) for number in range(300)), last, parameters=[good], onFailure="finish"), folder)


@pytest.mark.timeout(180)
async def test_a_record_in_parts_and_pages_survives_a_restart_and_a_rerun(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    flow = large(tmp_path)
    asked = RunRequest(trigger="test", key="k", workflow=flow)
    async with asyncio.timeout(150):
        async with open_engine(cluster, SystemClock(), namespace) as engine:
            run = await engine.submit(asked)
        async with open_engine(cluster, SystemClock(), namespace) as engine:
            assert [each.id for each in await engine.runs("test")] == [run.id]
            again = await engine.submit(asked)
            assert (again.existed, again.workflow) == (True, run.workflow)
            outcome = await engine.outcome(again)
            roles = [each.metadata.labels[names.ROLE] for each in await cluster.list(CONFIG_MAPS, namespace, labels=names.SELECTOR)]
            assert roles.count("part") >= 1
            assert roles.count("page") == 3
            assert outcome.state is State.FAILED
            assert [each.state for each in outcome.view.steps].count(State.SKIPPED) == 300
            seen = await engine.view(run.name)
            assert [(each.name, each.state) for each in seen.steps] == [(each.name, each.state) for each in outcome.view.steps]
            once_more = await engine.again(again, "second", failed_only=True)
            second = await engine.outcome(once_more)
            first = next(each for each in second.view.steps if each.name == "first")
            assert (first.state, first.reason) == (State.SUCCEEDED, Reason.REUSED)
            job = await until_job(cluster, namespace, run, "first")
            await cluster.delete(CONFIG_MAPS, namespace, run.name, uid=run.uid)
            for name in [names.part(run.id, 1), *(names.page(run.id, number) for number in range(3))]:
                await until_gone(cluster, CONFIG_MAPS, namespace, name)
            await until_gone(cluster, JOBS, namespace, job)
    assert len(await cluster.list(JOBS, namespace)) == 1, "the second run's last Job; the first run's went with its record"


class Lists:
    """Counts the calls by their verb and kind."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def before(self, call: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1

    def after(self, call: str, seconds: float) -> None:
        pass


@pytest.mark.timeout(300)
async def test_many_runs_at_once_need_no_list_after_the_first(
    cluster: HttpCluster, namespace: str, tmp_path: Path, under_test: ClusterUnderTest
) -> None:
    count = 200 if under_test.name == "local" else 20
    flow = read(workflow("w", step("a"), step("b", "true", "a")), tmp_path)
    seen = Lists()
    with external.observe(seen):
        async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(280):
            opened = dict(seen.calls)
            runs = await asyncio.gather(
                *(engine.submit(RunRequest(trigger="test", key=str(number), workflow=flow)) for number in range(count))
            )
            outcomes = await asyncio.gather(*(engine.outcome(run) for run in runs))
    assert {outcome.state for outcome in outcomes} == {State.SUCCEEDED}
    lists = {call: number - opened.get(call, 0) for call, number in seen.calls.items() if " list " in f" {call}"}
    assert sum(lists.values()) <= 2, "whether the trigger has runs elsewhere is asked once"
    assert len(await cluster.list(JOBS, namespace)) == count * 2
