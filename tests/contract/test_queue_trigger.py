"""The trigger of queues, on a real Postgres and every cluster: one run at a time, each wait, scaling, restarts, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.limit_settings import set_limit
from jobyard.engine.namespace import Options
from jobyard.model import names
from jobyard.model.generation import generation
from jobyard.model.objects import JOBS, Job
from jobyard.model.run import Run, State
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow
from jobyard.supervise import Report, Stage, Supervised
from jobyard.triggers.postgres.rule import Why
from jobyard.triggers.postgres.settings import QueueSettings, Scale, Waits
from jobyard.triggers.postgres.trigger import QueueTrigger
from tests.conftest import LOCAL, ClusterUnderTest
from tests.manifests import job
from tests.postgres.looking import make_job_table, reading
from tests.postgres.server import Database, Server
from tests.waiting import BOUND

S = timedelta(seconds=1)
QUICK = Waits(check=0.3 * S, success=0.1 * S, failure=0.1 * S, error=0.1 * S, start_timeout=0.1 * S)


def flow(script: str = "true", *, start_timeout: float = 60, **more: Any) -> Workflow:
    step = Step(name="work", job=Template(job("work", script, **more)), start_timeout=start_timeout * S, stops_on_start_error=True)
    return Workflow(name="work", steps=(step,))


def queue(workflow: Workflow, name: str = "work", **more: Any) -> QueueSettings:
    return QueueSettings(**{"queue": name, "workflow": workflow, "waits": QUICK, **more})


@dataclass
class Served:
    """A trigger at work, with an engine of its own."""

    cluster: HttpCluster
    namespace: str
    engine: ClusterEngine
    trigger: QueueTrigger
    report: Report
    told: list[str] = field(default_factory=list)

    async def runs(self) -> list[Run]:
        return sorted(await self.engine.runs("q"), key=generation)

    async def until(self, holds: Callable[[list[Run]], bool]) -> list[Run]:
        """The runs, as soon as they are as wanted."""
        found: list[Run] = []

        async def are_so() -> bool:
            found[:] = await self.runs()
            return holds(found)

        await eventually(are_so)
        return found

    async def until_waits(self, why: Why, name: str = "work") -> None:
        async def is_so() -> bool:
            slot = self.trigger.slots.get(name)
            return slot is not None and slot.step is not None and slot.step.why is why

        await eventually(is_so)

    async def until_asked(self) -> None:
        async def is_so() -> bool:
            return bool(self.trigger.slots and self.trigger.slots["work"].asked)

        await eventually(is_so)

    async def jobs(self) -> list[Job]:
        return await self.cluster.list(JOBS, self.namespace)


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns once it holds. Nothing tells of it, so it is asked."""
    async with asyncio.timeout(BOUND):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(cluster: HttpCluster, namespace: str, database: Database, *queues: QueueSettings, **more: Any) -> AsyncIterator[Served]:
    clock = SystemClock()
    async with open_engine(cluster, clock, namespace, Options(triggers=("q",), alone=True)) as engine:
        told: list[str] = []
        trigger = QueueTrigger("q", replace(reading(database, **more), queues=queues), clock, told.append)
        report = Report("q", clock)
        working = asyncio.create_task(Supervised(trigger, report, clock).run(engine))
        try:
            yield Served(cluster, namespace, engine, trigger, report, told)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


@pytest.fixture
async def database(postgres_server: Server) -> Database:
    """With a queue of pg-boss' columns."""
    made = await postgres_server.create_database()
    await make_job_table(made)
    return made


async def put(database: Database, count: int = 1, name: str = "work", later: float = 0) -> None:
    rows = "SELECT $1, now() + $2 * interval '1 s' FROM generate_series(1, $3)"
    await database.value(f"INSERT INTO pgboss.job (name, start_after) {rows} RETURNING 1", name, later, count)


def ended(run: Run) -> datetime:
    assert run.finished is not None
    return run.finished


def all_ended(count: int) -> Callable[[list[Run]], bool]:
    return lambda runs: len(runs) >= count and all(run.state.is_end for run in runs[:count])


# --- one at a time ---


async def test_runs_follow_one_another_while_there_is_work_and_each_waits_for_the_one_before(
    cluster: HttpCluster, namespace: str, database: Database
) -> None:
    waits = replace(QUICK, success=2 * S)
    async with serving(cluster, namespace, database, queue(flow(), waits=waits)) as served:
        await served.until_waits(Why.EMPTY)
        assert not await served.jobs()
        await put(database, 3)
        runs = await served.until(all_ended(2))
        await database.execute("DELETE FROM pgboss.job")
        await served.until_waits(Why.EMPTY)
        runs = await served.runs()
    assert [run.key for run in runs] == [f"work/{number}" for number in range(1, len(runs) + 1)]
    for before, after in pairwise(runs):
        assert after.created >= ended(before) + 2 * S - S  # Kubernetes' times are whole seconds
    assert runs[0].origin["waiting"] == "3"


async def test_a_restart_goes_on_with_the_rest_of_a_wait_and_adopts_what_runs(
    cluster: HttpCluster, namespace: str, database: Database
) -> None:
    await put(database)
    once = [queue(flow("sleep 2; exit 1"), waits=replace(QUICK, failure=4 * S))]
    async with serving(cluster, namespace, database, *once) as served:
        await served.until(lambda runs: bool(runs))
    async with serving(cluster, namespace, database, *once) as served:
        await served.until_waits(Why.RUNNING)
        await served.until(all_ended(1))
        await served.until_waits(Why.AFTER_FAILURE)
    async with serving(cluster, namespace, database, *once) as served:
        await served.until_waits(Why.AFTER_FAILURE)
        first, second = (await served.until(lambda runs: len(runs) == 2))[:2]
    assert second.created >= ended(first) + 3 * S
    assert [run.key for run in (first, second)] == ["work/1", "work/2"]


async def test_two_that_serve_the_same_queue_make_no_run_twice(cluster: HttpCluster, namespace: str, database: Database) -> None:
    await put(database)
    same = queue(flow("sleep 0.3"))
    async with serving(cluster, namespace, database, same) as one, serving(cluster, namespace, database, same) as two:
        await one.until(all_ended(3))
        await two.until(all_ended(3))
        await database.execute("DELETE FROM pgboss.job")
        await one.until_waits(Why.EMPTY)
        await two.until_waits(Why.EMPTY)
        runs = await one.runs()
        jobs = await one.jobs()
    assert [generation(run) for run in runs] == list(range(1, len(jobs) + 1))
    for before, after in pairwise(runs):
        assert after.created >= ended(before) - S


async def test_a_job_that_is_deleted_by_hand_counts_as_failed_and_another_follows(
    cluster: HttpCluster, namespace: str, database: Database
) -> None:
    await put(database)
    async with serving(cluster, namespace, database, queue(flow("sleep 60"), waits=replace(QUICK, failure=1 * S))) as served:
        (first,) = await served.until(lambda runs: bool(runs))
        await cluster.delete(JOBS, namespace, first.name)
        await served.until(lambda runs: bool(runs) and runs[-1].uid != first.uid)
        assert len(await served.jobs()) == 1
    assert any("was deleted before it ended" in each for each in served.told)


async def test_what_becomes_due_later_is_looked_at_then_and_not_before(cluster: HttpCluster, namespace: str, database: Database) -> None:
    await put(database, later=3)
    begun = SystemClock().now()
    async with serving(cluster, namespace, database, queue(flow(), waits=replace(QUICK, check=timedelta(hours=1)))) as served:
        (run,) = await served.until(lambda runs: bool(runs))
    assert begun + 2 * S <= run.created


async def test_a_notification_is_heeded_long_before_the_check_is_over(cluster: HttpCluster, namespace: str, database: Database) -> None:
    slow = replace(QUICK, check=timedelta(hours=1))
    async with serving(cluster, namespace, database, queue(flow(), waits=slow), channel="mine") as served:
        await served.until_waits(Why.EMPTY)
        await put(database)
        await database.execute("NOTIFY mine, 'work'")
        await served.until(lambda runs: bool(runs))


# --- what goes wrong with a Job ---


async def test_a_pod_that_cannot_start_ends_its_run_and_the_next_waits_as_after_an_error(
    cluster: HttpCluster, namespace: str, database: Database, under_test: ClusterUnderTest
) -> None:
    if under_test.name == LOCAL:
        pytest.skip("processes have no image that could be wrong")
    await put(database)
    broken = flow(container={"image": "Not A Name"})
    async with serving(cluster, namespace, database, queue(broken, waits=replace(QUICK, error=timedelta(hours=1)))) as served:
        (run,) = await served.until(all_ended(1))
        await served.until_waits(Why.AFTER_ERROR)
        (made,) = await served.jobs()
    assert (run.state, run.reason) == (State.FAILED, "InvalidImageName")
    assert (made.spec.suspend, made.status.active or 0) == (True, 0)


async def test_a_pod_that_no_node_takes_ends_its_run_after_the_start_timeout(
    cluster: HttpCluster, namespace: str, database: Database
) -> None:
    await put(database)
    nowhere = flow(pod={"schedulingGates": [{"name": "example.org/never"}]}, start_timeout=1)
    waits = replace(QUICK, start_timeout=timedelta(hours=1))
    async with serving(cluster, namespace, database, queue(nowhere, waits=waits)) as served:
        (run,) = await served.until(all_ended(1))
        await served.until_waits(Why.AFTER_START_TIMEOUT)
    assert (run.state, run.reason) == (State.FAILED, "StartTimeout")


async def test_a_job_that_is_refused_is_told_and_tried_again_and_holds_up_no_other_queue(
    cluster: HttpCluster, namespace: str, database: Database
) -> None:
    await put(database)
    await put(database, name="other")
    refused = queue(flow(container={"image": ""}), waits=replace(QUICK, error=timedelta(hours=1)))
    async with serving(cluster, namespace, database, refused, queue(flow(), "other")) as served:
        await served.until(lambda runs: any(run.key == "other/2" for run in runs))
        await served.until_waits(Why.AFTER_ERROR)
    assert any(each.startswith("queue work: no Job could be made: ") and "image" in each for each in served.told)


# --- scaling and room ---


async def test_as_many_jobs_run_at_once_as_the_queue_needs_and_may_have(cluster: HttpCluster, namespace: str, database: Database) -> None:
    await put(database, 35)
    scaled = queue(flow("sleep 60"), scale=Scale(most=5, per_pod=10))
    async with serving(cluster, namespace, database, scaled) as served:
        await served.until(lambda runs: len(runs) == 4)
        await served.until_waits(Why.ENOUGH)
        await put(database, 1000)
        await served.until(lambda runs: len(runs) == 5)
        await served.until_waits(Why.FULL)
        assert len(await served.jobs()) == 5
    async with serving(cluster, namespace, database, scaled) as served:
        await served.until_waits(Why.FULL)
        assert len(await served.jobs()) == 5


async def test_what_waits_for_room_is_given_up_when_somebody_else_has_emptied_the_queue(
    cluster: HttpCluster, namespace: str, database: Database
) -> None:
    await set_limit(cluster, namespace, "namespace", "0")
    await put(database)
    async with serving(cluster, namespace, database, queue(flow())) as served:
        await served.until_asked()
        await database.execute("DELETE FROM pgboss.job")
        await served.until_waits(Why.EMPTY)
        await set_limit(cluster, namespace, "namespace", "9")
        await put(database, name="none")
        assert not served.trigger.slots["work"].asked
        assert not await served.jobs()


# --- generations ---


async def test_who_comes_back_after_its_runs_were_released_goes_on_far_from_their_numbers(
    cluster: HttpCluster, namespace: str, database: Database
) -> None:
    await put(database)
    async with serving(cluster, namespace, database, queue(flow())) as served:
        await served.until(all_ended(3))
        await database.execute("DELETE FROM pgboss.job")
        await served.until_waits(Why.EMPTY)
    async with open_engine(cluster, SystemClock(), namespace) as engine:
        for run in await engine.runs("q"):
            await engine.release(run)
    await put(database)
    async with serving(cluster, namespace, database, queue(flow("sleep 60"))) as served:
        (run,) = await served.until(lambda runs: bool(runs))
        assert generation(run) > 3
        jobs = await served.jobs()
    assert sum(names.ENDED not in each.metadata.labels for each in jobs) == 1


# --- a database that is not well ---


async def test_a_database_that_goes_away_is_told_and_served_again_when_it_is_back(
    cluster: HttpCluster, namespace: str, database: Database, postgres_server: Server
) -> None:
    async with serving(cluster, namespace, database, queue(flow(), waits=replace(QUICK, check=timedelta(hours=1)))) as served:
        await served.until_waits(Why.EMPTY)
        postgres_server.stop()
        try:
            async with asyncio.timeout(BOUND):
                while served.report.health.stage is not Stage.BACKING_OFF:
                    await served.report.changed.wait()
            assert served.report.health.error.startswith(f"Postgres at 127.0.0.1:{database.port}")
        finally:
            postgres_server.start()
        await put(database)
        await served.until(lambda runs: bool(runs))
