"""The engine on a real cluster: order, retries, limits, cancel, crash and resume."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.model import names
from jobyard.model.errors import NoSuchRun
from jobyard.model.objects import CONFIG_MAPS, JOBS, PODS
from jobyard.model.run import Outcome, Reason, Role, RunRequest, State
from jobyard.model.workflow import Workflow
from tests.flows import read
from tests.manifests import job, step, workflow
from tests.waiting import BOUND, is_running, until_gone, until_job, until_pod


@pytest.fixture
async def engine(cluster: HttpCluster, namespace: str) -> AsyncIterator[ClusterEngine]:
    async with open_engine(cluster, SystemClock(), namespace) as opened:
        yield opened


def request(flow: Workflow, key: str = "", **inputs: Any) -> RunRequest:
    return RunRequest(trigger="test", key=key or uuid.uuid4().hex, workflow=flow, inputs=inputs)


async def run(engine: ClusterEngine, flow: Workflow, **inputs: Any) -> Outcome:
    async with asyncio.timeout(BOUND):
        return await engine.outcome(await engine.submit(request(flow, **inputs)))


def states(outcome: Outcome) -> dict[str, str]:
    return {step.name if step.role is Role.STEP else f"revert {step.name}": str(step.state) for step in outcome.view.steps}


async def test_a_diamond_runs_in_order_and_hands_on_outputs(
    engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str
) -> None:
    flow = workflow(
        "diamond",
        step("load", "echo {{ steps.left.outputs.n }}+{{ steps.right.outputs.n }} $JOBYARD_PARAM_DAY", "left", "right"),
        step("left", "echo '{\"n\": 1}' > /dev/termination-log", "first"),
        step("right", "echo '{\"n\": {{ params.count }}}' > /dev/termination-log", "first"),
        step("first"),
        parameters=[{"name": "day", "type": "date", "default": "2026-01-01"}, {"name": "count", "type": "integer", "default": 2}],
    )
    outcome = await run(engine, read(flow, tmp_path), count="7")
    assert outcome.state is State.SUCCEEDED
    by_name = {each.name: each for each in outcome.view.steps}
    pods = await cluster.list(PODS, namespace, labels=f"batch.kubernetes.io/job-name={by_name['load'].job}")
    assert [line async for line in cluster.logs(namespace, pods[0].metadata.name)] == ["1+7 2026-01-01"]
    jobs = {each.metadata.annotations[names.STEP]: each for each in await cluster.list(JOBS, namespace)}
    for later, earlier in (("left", "first"), ("right", "first"), ("load", "left"), ("load", "right")):
        ended, began = jobs[earlier].status.completion_time, jobs[later].metadata.creation_timestamp
        assert ended is not None
        assert began is not None
        assert ended <= began


async def test_the_same_key_is_the_same_run(engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str) -> None:
    asked = request(read(workflow("w", step("a")), tmp_path), key="k")
    first = await engine.submit(asked)
    again = await asyncio.gather(*(engine.submit(asked) for _ in range(10)))
    assert not first.existed
    assert all(each.existed and each.id == first.id for each in again)
    async with asyncio.timeout(BOUND):
        await engine.outcome(first)
    assert len(await cluster.list(JOBS, namespace)) == 1


async def test_a_failed_step_is_retried_with_a_job_for_each_attempt(
    engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str
) -> None:
    flow = workflow("w", step("a", "exit 5", retry={"limit": 2, "backoff": "200ms"}), step("b", "true", "a"))
    outcome = await run(engine, read(flow, tmp_path))
    assert (outcome.state, outcome.reason) == (State.FAILED, Reason.STEP_FAILED)
    assert states(outcome) == {"a": "failed", "b": "skipped"}
    made = await cluster.list(JOBS, namespace)
    assert sorted(each.metadata.labels[names.ATTEMPT] for each in made) == ["1", "2", "3"]
    assert {each.spec.backoff_limit for each in made} == {0}, "one owner of retries"
    diagnosis = outcome.view.steps[0].diagnosis
    assert diagnosis is not None
    assert diagnosis.exit_code == 5


async def test_parallelism_counts_only_this_runs_jobs(engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("foreign", "sleep 60"))
    flow = read(workflow("w", *(step(f"s{i}", "sleep 0.3") for i in range(5)), parallelism=2), tmp_path)
    most = 0

    async def count() -> None:
        nonlocal most
        active: set[str] = set()
        async for change in cluster.watch(JOBS, namespace, labels=names.SELECTOR):
            if change.object is not None:
                ended = any(each.type in ("Complete", "Failed") for each in change.object.status.conditions)
                (active.discard if ended else active.add)(change.object.metadata.name)
                most = max(most, len(active))

    counting = asyncio.create_task(count())
    outcome = await run(engine, flow)
    counting.cancel()
    await asyncio.gather(counting, return_exceptions=True)
    assert outcome.state is State.SUCCEEDED
    assert 1 <= most <= 2
    assert (await cluster.get(JOBS, namespace, "foreign")).metadata.deletion_timestamp is None


async def test_revert_undoes_what_was_done(engine: ClusterEngine, tmp_path: Path) -> None:
    undo = {"spec": job("undo")["spec"]}
    flow = workflow("w", step("a", revert=undo), step("b", "true", "a", revert=undo), step("c", "exit 1", "b"), onFailure="revert")
    outcome = await run(engine, read(flow, tmp_path))
    assert outcome.state is State.FAILED
    assert states(outcome) == {"a": "succeeded", "b": "succeeded", "c": "failed", "revert b": "succeeded", "revert a": "succeeded"}
    ended = {each.name: each.finished for each in outcome.view.steps if each.role is Role.REVERT}
    assert ended["a"] is not None
    assert ended["b"] is not None
    assert ended["b"] <= ended["a"]


async def test_a_timeout_stops_a_step_without_deleting_its_job(
    engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str
) -> None:
    outcome = await run(engine, read(workflow("w", step("a", "sleep 60", timeout="1s")), tmp_path))
    assert (outcome.state, outcome.view.steps[0].reason) == (State.FAILED, Reason.TIMEOUT)
    stopped = (await cluster.list(JOBS, namespace))[0]
    assert stopped.spec.suspend is True
    assert stopped.metadata.annotations[names.STOP] == Reason.TIMEOUT


async def test_cancel_stops_what_runs_and_starts_nothing_more(
    engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str
) -> None:
    started = await engine.submit(request(read(workflow("w", step("a", "sleep 60"), step("b", "true", "a")), tmp_path)))
    name = await until_job(cluster, namespace, started, "a")
    await until_pod(cluster, namespace, name, is_running)
    await engine.cancel(started)
    async with asyncio.timeout(BOUND):
        outcome = await engine.outcome(started)
    assert outcome.state is State.CANCELLED
    assert states(outcome) == {"a": "cancelled", "b": "cancelled"}
    assert len(await cluster.list(JOBS, namespace)) == 1
    assert await cluster.list(PODS, namespace) == []


async def test_cleanup_deletes_jobs_with_their_pods_and_keeps_the_record(
    engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str
) -> None:
    outcome = await run(engine, read(workflow("w", step("a"), cleanup="succeeded"), tmp_path))
    await until_gone(cluster, JOBS, namespace, outcome.view.steps[0].job)
    for pod in await cluster.list(PODS, namespace):
        await until_gone(cluster, PODS, namespace, pod.metadata.name)
    again = await engine.outcome(await engine.find(outcome.view.id))
    assert states(again) == {"a": "succeeded"}


async def test_a_ttl_waits_for_the_release(engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str) -> None:
    started = await engine.submit(request(read(workflow("w", step("a", spec={"ttlSecondsAfterFinished": 0})), tmp_path)))
    async with asyncio.timeout(BOUND):
        outcome = await engine.outcome(started)
    name = outcome.view.steps[0].job
    assert (await cluster.get(JOBS, namespace, name)).metadata.annotations[names.TTL] == "0"
    await engine.release(started)
    await until_gone(cluster, JOBS, namespace, name)


async def test_a_job_deleted_by_hand_is_lost(engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str) -> None:
    started = await engine.submit(request(read(workflow("w", step("a", "sleep 60")), tmp_path)))
    await cluster.delete(JOBS, namespace, await until_job(cluster, namespace, started, "a"))
    async with asyncio.timeout(BOUND):
        outcome = await engine.outcome(started)
    assert states(outcome) == {"a": "lost"}
    assert await cluster.list(JOBS, namespace) == []


async def test_a_foreign_job_of_the_same_name_is_left_alone(
    engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str
) -> None:
    asked = request(read(workflow("w", step("a"), step("b", "true", "a")), tmp_path), key="k")
    name = names.job_name(asked.run_id, Role.STEP, "a", 1)
    await cluster.create(JOBS, namespace, job(name, "sleep 60"))
    async with asyncio.timeout(BOUND):
        outcome = await engine.outcome(await engine.submit(asked))
    assert outcome.view.steps[0].reason == Reason.NAME_TAKEN
    assert (await cluster.get(JOBS, namespace, name)).metadata.deletion_timestamp is None


async def test_a_job_that_the_cluster_refuses_fails_its_step_with_the_reason(engine: ClusterEngine, tmp_path: Path) -> None:
    flow = workflow("w", step("a", spec={"parallelism": "{{ params.n }}"}), parameters=[{"name": "n", "type": "integer", "default": 1}])
    outcome = await run(engine, read(flow, tmp_path), n="-3")
    assert outcome.view.steps[0].reason == Reason.REFUSED
    assert "spec.parallelism" in outcome.view.steps[0].message


async def test_an_output_that_was_not_given_fails_the_step_that_asks(engine: ClusterEngine, tmp_path: Path) -> None:
    outcome = await run(engine, read(workflow("w", step("a"), step("b", "echo {{ steps.a.outputs.x }}", "a")), tmp_path))
    assert outcome.view.steps[1].reason == Reason.OUTPUT_MISSING
    assert "step a gave no output x" in outcome.view.steps[1].message


async def test_a_run_whose_record_is_deleted_is_lost_and_its_jobs_go(
    engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str
) -> None:
    started = await engine.submit(request(read(workflow("w", step("a", "sleep 60"), step("b", "true", "a")), tmp_path)))
    name = await until_job(cluster, namespace, started, "a")
    await until_pod(cluster, namespace, name, is_running)
    await cluster.delete(CONFIG_MAPS, namespace, started.name)
    async with asyncio.timeout(BOUND):
        assert (await engine.outcome(started)).state is State.LOST
    await until_gone(cluster, JOBS, namespace, name)


async def test_another_process_goes_on_where_one_stopped(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    flow = read(workflow("w", step("a", "sleep 1"), step("b", "true", "a"), step("c", "true", "b")), tmp_path)

    @asynccontextmanager
    async def other() -> AsyncIterator[ClusterEngine]:
        async with open_engine(cluster, SystemClock(), namespace) as opened:
            yield opened

    async with other() as first:
        started = await first.submit(request(flow))
        await until_pod(cluster, namespace, await until_job(cluster, namespace, started, "a"), is_running)
    async with other() as second, other() as third:
        assert [each.id for each in await second.runs("test")] == [started.id]
        found = await second.find(started.id)
        async with asyncio.timeout(BOUND):
            outcomes = await asyncio.gather(second.outcome(found), third.outcome(found))
        assert [states(each) for each in outcomes] == [{"a": "succeeded", "b": "succeeded", "c": "succeeded"}] * 2
        assert [each.id for each in await second.runs("test")] == [started.id], "until it is released"
        await second.release(found)
        async with asyncio.timeout(BOUND), third.changes(found) as changed:
            while await third.runs("test"):
                await changed.wait()
    assert len(await cluster.list(JOBS, namespace)) == 3, "two at once make each Job once"


async def test_there_are_runs_that_are_not(engine: ClusterEngine, cluster: HttpCluster, namespace: str) -> None:
    with pytest.raises(NoSuchRun):
        await engine.find("nothing")
    await cluster.create(CONFIG_MAPS, namespace, {"metadata": {"name": "other"}})
    with pytest.raises(NoSuchRun):
        await engine.find("other")


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_record_s_name_that_something_else_has_is_left_to_it(
    engine: ClusterEngine, tmp_path: Path, cluster: HttpCluster, namespace: str, steps: int
) -> None:
    asked = request(read(workflow("w", *(step(name) for name in "ab"[:steps])), tmp_path), key="k")
    name = names.record(asked.prefix, asked.run_id)
    if steps == 1:
        await cluster.create(JOBS, namespace, job(name, "sleep 60"))
    else:
        await cluster.create(CONFIG_MAPS, namespace, {"metadata": {"name": name}})
    started = await engine.submit(asked)
    assert (started.name, started.existed) == (f"{name}-2", False)
    again = await engine.submit(asked)
    assert (again.uid, again.existed) == (started.uid, True)
    async with asyncio.timeout(BOUND):
        assert (await engine.outcome(started)).state is State.SUCCEEDED
    foreign = await (cluster.get(JOBS, namespace, name) if steps == 1 else cluster.get(CONFIG_MAPS, namespace, name))
    assert foreign.metadata.deletion_timestamp is None
    assert (await engine.find(started.name)).uid == started.uid
