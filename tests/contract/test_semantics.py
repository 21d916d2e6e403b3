"""What a run may ask for beyond order: start timeouts, limits, retention, running once more. And what people do to it meanwhile."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine import face
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.limit_settings import list_limits, set_limit
from jobyard.engine.logs import pods_of
from jobyard.engine.namespace import COMMAND, Options
from jobyard.engine.sweep import find_expired, sweep
from jobyard.model import names
from jobyard.model.errors import NotEnded, NothingFailed
from jobyard.model.objects import CONFIG_MAPS, JOBS
from jobyard.model.retention import Keeping
from jobyard.model.run import Reason, Run, RunRequest, State
from jobyard.model.workflow import Workflow
from tests.flows import read
from tests.manifests import job, step, workflow
from tests.waiting import BOUND, is_running, until_gone, until_job, until_pod


@pytest.fixture
async def engine(cluster: HttpCluster, namespace: str) -> AsyncIterator[ClusterEngine]:
    async with open_engine(cluster, SystemClock(), namespace) as opened:
        yield opened


@asynccontextmanager
async def open_limited(cluster: HttpCluster, namespace: str, name: str, number: int) -> AsyncIterator[ClusterEngine]:
    """An engine that knows of a limit from the start: it would learn of one that is set later only when its watch tells."""
    await set_limit(cluster, namespace, name, str(number))
    async with open_engine(cluster, SystemClock(), namespace) as opened:
        yield opened


def request(flow: Workflow, key: str = "", **more: Any) -> RunRequest:
    return RunRequest(trigger="test", key=key or uuid.uuid4().hex, workflow=flow, **more)


async def waits(engine: ClusterEngine, run: Run, reason: str) -> str:
    """The message of the first step that waits for this reason."""
    async with asyncio.timeout(BOUND), engine.changes(run) as changed:
        while True:
            await changed.wait()
            view = engine.driven(run)
            for each in view.steps if view else ():
                if each.reason == reason:
                    return each.message


NEEDS_SECRET = {"container": {"envFrom": [{"secretRef": {"name": "none"}}]}}


async def test_a_step_that_does_not_start_in_time_is_stopped_and_says_what_kept_it(engine: ClusterEngine, tmp_path: Path) -> None:
    flow = read(workflow("w", step("a", "true", spec=NEEDS_SECRET, startTimeout="15s")), tmp_path)
    async with asyncio.timeout(BOUND):
        outcome = await engine.outcome(await engine.submit(request(flow)))
    found = outcome.view.steps[0]
    assert (outcome.state, found.reason) == (State.FAILED, Reason.START_TIMEOUT)
    assert found.diagnosis is not None
    assert "startTimeout" in found.diagnosis.sentence
    assert "none" in found.diagnosis.detail


async def test_between_kubernetes_own_tries_a_step_is_pending_and_says_when_the_next_comes(
    cluster: HttpCluster, namespace: str, engine: ClusterEngine, tmp_path: Path
) -> None:
    """Three tries with 10 s and 20 s between them: the start timeout passes between the last two, and ends nothing."""
    flow = read(workflow("w", step("a", "echo no; exit 4", spec={"backoffLimit": 2}, startTimeout="20s")), tmp_path)
    run = await engine.submit(request(flow))
    told: dict[int, datetime] = {}
    async with asyncio.timeout(BOUND), engine.changes(run) as changed:
        while (view := engine.driven(run)) is None or not view.state.is_end:
            await changed.wait()
            for each in view.steps if view else ():
                if each.tries and each.tries.again:
                    assert (each.state, each.reason, each.tries.of, each.tries.by) == (
                        State.PENDING,
                        Reason.RETRY_BACK_OFF,
                        3,
                        "Kubernetes",
                    )
                    assert each.diagnosis is not None
                    assert each.diagnosis.exit_code == 4
                    told[each.tries.failed] = each.tries.again
        outcome = await engine.outcome(run)
    (found,) = outcome.view.steps
    assert (found.state, found.reason) == (State.FAILED, "BackoffLimitExceeded")
    assert found.diagnosis is not None
    assert found.diagnosis.sentence == "Container main exited with code 4. It was tried 3 times."
    pods = await pods_of(cluster, namespace, found.job)
    made = [pod.metadata.creation_timestamp for pod in pods if pod.metadata.creation_timestamp]
    for failures, again in sorted(told.items()):
        late = (made[failures] - again).total_seconds()
        assert -1 <= late < 10, f"try {failures + 1} came {late} s later than told"
    assert sorted(told) == [1, 2]


@pytest.mark.parametrize("scope", ["workflow", "named", "namespace"])
async def test_a_limit_holds_across_processes(cluster: HttpCluster, namespace: str, tmp_path: Path, scope: str) -> None:
    """Six runs in three processes, two places: never more than two at once, and all come to their turn."""
    specs: dict[str, dict[str, Any]] = {"workflow": {"maxRuns": 2}, "named": {"limits": ["gpu"]}, "namespace": {}}
    if scope != "workflow":
        await set_limit(cluster, namespace, {"named": "gpu", "namespace": "namespace"}[scope], "2")
    flow = read(workflow("w", step("a", "sleep 0.3"), step("b", "sleep 0.3", "a"), **specs[scope]), tmp_path)
    active: dict[str, set[str]] = {}
    most = 0

    async def count() -> None:
        """A run is active from its first Job to its record's end."""
        nonlocal most
        async for change in cluster.watch(JOBS, namespace, labels=names.SELECTOR):
            if change.type == "SEEN" and change.object is not None:
                job = change.object
                run = active.setdefault(job.metadata.labels[names.RUN], set())
                if any(each.type == "Complete" for each in job.status.conditions):
                    run.add(job.metadata.annotations[names.STEP])
                most = max(most, sum(len(ended) < 2 for ended in active.values()))

    async with AsyncExitStack() as stack, asyncio.timeout(BOUND):
        engines = [await stack.enter_async_context(open_engine(cluster, SystemClock(), namespace)) for _ in range(3)]
        counting = asyncio.create_task(count())

        async def one(engine: ClusterEngine) -> None:
            outcome = await engine.outcome(await engine.submit(request(flow, waits=False)))
            assert outcome.state is State.SUCCEEDED

        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(one(engines[number % 3]))
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
    assert most == 2
    assert len(active) == 6


async def test_a_limit_that_is_set_where_somebody_made_its_config_map_by_hand_counts(cluster: HttpCluster, namespace: str) -> None:
    by_hand = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "jobyard-limits"}, "data": {"gpu": "3"}}
    await cluster.create(CONFIG_MAPS, namespace, by_hand)
    await set_limit(cluster, namespace, "database", "1")
    assert await list_limits(cluster, SystemClock(), namespace) == [("database", 1, []), ("gpu", 3, [])]


@pytest.mark.parametrize("first", ["the leader", "a person"])
async def test_a_leader_that_takes_no_places_and_a_person_keep_to_one_limit(
    cluster: HttpCluster, namespace: str, tmp_path: Path, first: str
) -> None:
    flow = read(workflow("w", step("a", "sleep 2"), step("b", "true", "a"), limits=["gpu"]), tmp_path)
    await set_limit(cluster, namespace, "gpu", "1")
    ways = {"the leader": Options(alone=True), "a person": COMMAND}
    (other,) = ways.keys() - {first}
    async with asyncio.timeout(BOUND), open_engine(cluster, SystemClock(), namespace, ways[first]) as one:
        early = await one.submit(request(flow, waits=False))
        await until_pod(cluster, namespace, await until_job(cluster, namespace, early), is_running)
        async with open_engine(cluster, SystemClock(), namespace, ways[other]) as two:
            late = await two.submit(request(flow, waits=False))
            assert f"is taken by {early.name}." in await waits(two, late, Reason.WAITING_FOR_LIMIT)
            ended, after = await one.outcome(early), await two.outcome(late)
    assert {ended.state, after.state} == {State.SUCCEEDED}
    assert (ended.view.finished or late.created) <= (after.view.steps[0].started or late.created)


async def test_a_step_s_limit_counts_jobs(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    flow = read(workflow("w", step("a", "sleep 2", limits=["licence"]), step("b", limits=["licence"]), step("free")), tmp_path)
    async with open_limited(cluster, namespace, "licence", 1) as engine:
        run = await engine.submit(request(flow))
        assert "The only place of limit licence is taken by a-" in await waits(engine, run, Reason.WAITING_FOR_LIMIT)
        name, number, held = (await list_limits(cluster, SystemClock(), namespace))[0]
        assert (name, number, held) == ("licence", 1, [await until_job(cluster, namespace, run, "a")])
        async with asyncio.timeout(BOUND):
            outcome = await engine.outcome(run)
        assert outcome.state is State.SUCCEEDED
        ends = {each.name: each for each in outcome.view.steps}
        assert (ends["a"].finished or run.created) <= (ends["b"].started or run.created)


async def test_submit_waits_for_room_and_raising_the_limit_makes_some(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    flow = read(workflow("w", step("a", "sleep 60"), limits=["gpu"]), tmp_path)
    async with open_limited(cluster, namespace, "gpu", 1) as engine:
        first = await engine.submit(request(flow))
        again = await engine.submit(request(flow, key="second", waits=False))
        await waits(engine, again, Reason.WAITING_FOR_LIMIT)
        third = asyncio.create_task(engine.submit(request(flow, key="third")))
        await until_pod(cluster, namespace, await until_job(cluster, namespace, first, "a"), is_running)
        assert not third.done()
        await set_limit(cluster, namespace, "gpu", None)
        async with asyncio.timeout(BOUND):
            run = await third
            await until_pod(cluster, namespace, await until_job(cluster, namespace, run, "a"), is_running)
            await until_pod(cluster, namespace, await until_job(cluster, namespace, again, "a"), is_running)
            for each in (first, again, run):
                await engine.cancel(each)
            for each in (first, again, run):
                assert (await engine.outcome(each)).state is State.CANCELLED


async def test_ten_processes_that_submit_the_same_key_make_one_run(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    asked = request(read(workflow("w", step("a"), step("b", "true", "a")), tmp_path))
    async with AsyncExitStack() as stack, asyncio.timeout(BOUND):
        engines = [await stack.enter_async_context(open_engine(cluster, SystemClock(), namespace)) for _ in range(10)]
        runs = await asyncio.gather(*(engine.submit(asked) for engine in engines))
        assert sorted(run.existed for run in runs) == [False, *[True] * 9]
        outcomes = await asyncio.gather(*(engine.outcome(run) for engine, run in zip(engines, runs, strict=True)))
    assert {(outcome.state, outcome.view.finished) for outcome in outcomes} == {(State.SUCCEEDED, outcomes[0].view.finished)}
    assert len(await cluster.list(JOBS, namespace)) == 2


async def test_a_finished_run_runs_once_more_from_where_it_failed(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    flow = workflow(
        "w",
        step("load", "echo '{\"rows\": 7}' > /dev/termination-log"),
        step("check", '[ "{{ params.good }}" = yes ]', "load"),
        step("report", 'echo "{{ steps.load.outputs.rows }}"', "check"),
        parameters=[{"name": "good", "type": "string", "default": "no"}],
    )
    run = await engine.submit(request(read(flow, tmp_path)))
    async with asyncio.timeout(BOUND):
        failed = (await engine.outcome(run)).view
    assert [str(each.state) for each in failed.steps] == ["succeeded", "failed", "skipped"]
    async with asyncio.timeout(BOUND):
        second = await engine.again(run, "again", failed_only=True)
        view = (await engine.outcome(second)).view
    assert second.id != run.id
    assert (view.steps[0].state, view.steps[0].reason) == (State.SUCCEEDED, Reason.REUSED)
    assert view.steps[0].outputs == {"rows": 7}
    made = {each.metadata.annotations[names.STEP] for each in await cluster.list(JOBS, namespace, labels=f"{names.RUN}={second.id}")}
    assert made == {"check"}, "what succeeded does not run again"
    whole = await face.again(cluster, SystemClock(), run, "whole", failed_only=False)
    assert whole.carried == {}
    assert whole.inputs == {"good": "no"}


async def test_nothing_to_run_again_is_said(engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    run = await engine.submit(request(read(workflow("w", step("a", "sleep 2")), tmp_path)))
    with pytest.raises(NotEnded, match="has not ended"):
        await engine.again(run, "k", failed_only=False)
    async with asyncio.timeout(BOUND):
        await engine.outcome(run)
    with pytest.raises(NothingFailed, match="leave --failed out"):
        await engine.again(run, "k", failed_only=True)


async def test_retention_deletes_runs_with_all_that_is_theirs(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    await cluster.create(JOBS, namespace, job("foreign", "sleep 60"))
    flow, short = read(workflow("w", step("a")), tmp_path), read(workflow("w", step("a"), retention="0s"), tmp_path)
    runs = [await engine.submit(request(each)) for each in (flow, short)]
    going = await engine.submit(request(read(workflow("w", step("a", "sleep 60"), retention="0s"), tmp_path)))
    async with asyncio.timeout(BOUND):
        for run in runs:
            await engine.outcome(run)
    assert await sweep(cluster, SystemClock(), namespace) == [], "their sources have not let go"
    for run in runs:
        await engine.release(run)
    assert list(await find_expired(cluster, SystemClock(), namespace, Keeping(runs=timedelta(0)), 1)) != []
    jobs = [await until_job(cluster, namespace, run) for run in runs]
    assert [run.uid for run in await sweep(cluster, SystemClock(), namespace)] == [runs[1].uid]
    await until_gone(cluster, JOBS, namespace, jobs[1])
    assert [run.uid for run in await sweep(cluster, SystemClock(), namespace, Keeping(runs=timedelta(0)))] == [runs[0].uid]
    await until_gone(cluster, JOBS, namespace, jobs[0])
    assert [run.uid for run in (await engine.page()).runs] == [going.uid]
    assert (await cluster.get(JOBS, namespace, "foreign")).metadata.deletion_timestamp is None


async def test_a_job_that_somebody_deletes_at_once_is_lost_and_not_made_again(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    """Before the record knows of it: who has seen it go remembers."""
    made: set[str] = set()

    async def vandal() -> None:
        async for change in cluster.watch(JOBS, namespace, labels=names.SELECTOR):
            if change.type == "SEEN" and change.object is not None:
                made.add(change.object.metadata.uid)
                await cluster.delete(JOBS, namespace, change.object.metadata.name)

    destroying = asyncio.create_task(vandal())
    run = await engine.submit(request(read(workflow("w", step("a", "sleep 60")), tmp_path)))
    async with asyncio.timeout(BOUND):
        outcome = await engine.outcome(run)
    destroying.cancel()
    await asyncio.gather(destroying, return_exceptions=True)
    assert outcome.view.steps[0].state is State.LOST
    assert len(made) == 1


async def test_a_namespace_that_is_going_says_so(engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    """The second step comes too late: either its Job is refused with these words, or the whole record went first."""
    blocker = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "blocker", "finalizers": ["test.jobyard.dev/hold"]}}
    await cluster.create(CONFIG_MAPS, namespace, blocker)
    run = await engine.submit(request(read(workflow("w", step("a", "sleep 2"), step("b", "true", "a")), tmp_path)))
    await until_pod(cluster, namespace, await until_job(cluster, namespace, run, "a"), is_running)
    await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}", "delete the namespace")
    async with asyncio.timeout(BOUND):
        outcome = await engine.outcome(run)
    assert outcome.state in (State.LOST, State.FAILED)
    await cluster.patch(CONFIG_MAPS, namespace, "blocker", {"metadata": {"finalizers": None}})
