"""Who drives: an engine that is told to drives every open run, whoever began it, and stops at once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.namespace import Options
from jobyard.model import names
from jobyard.model.objects import CONFIG_MAPS, JOBS
from jobyard.model.run import RunRequest, State
from jobyard.model.workflow import Workflow
from tests.flows import read
from tests.manifests import job, step, workflow
from tests.waiting import BOUND, is_running, until, until_job, until_pod


@asynccontextmanager
async def adopting(cluster: HttpCluster, namespace: str) -> AsyncIterator[tuple[ClusterEngine, asyncio.Task[None]]]:
    async with open_engine(cluster, SystemClock(), namespace, Options(retention=timedelta(days=1))) as engine:
        driving = asyncio.create_task(engine.adopt())
        try:
            yield engine, driving
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)


def request(flow: Workflow, trigger: str = "cli") -> RunRequest:
    return RunRequest(trigger=trigger, key=uuid.uuid4().hex, workflow=flow, waits=False, key_names_workflow=True)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_run_that_its_process_left_is_driven_to_its_end_and_released(
    cluster: HttpCluster, namespace: str, tmp_path: Path, when: str
) -> None:
    flow = read(workflow("w", step("a"), step("b", "true", "a")), tmp_path)

    async def leave() -> str:
        async with open_engine(cluster, SystemClock(), namespace) as first:
            return (await first.submit(request(flow))).name

    name = await leave() if when == "before" else ""
    async with adopting(cluster, namespace):
        name = name or await leave()
        record = await until(cluster, CONFIG_MAPS, namespace, name, lambda seen: names.ENDED in seen.metadata.labels)
    assert record.metadata.labels[names.STATE] == State.SUCCEEDED
    assert len(await cluster.list(JOBS, namespace)) == 2


async def test_a_source_s_run_is_driven_and_left_for_its_trigger_to_release(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    flow = read(workflow("w", step("a"), step("b", "true", "a")), tmp_path)
    async with open_engine(cluster, SystemClock(), namespace) as first:
        run = await first.submit(request(flow, "orders"))
    async with adopting(cluster, namespace) as (engine, _), asyncio.timeout(BOUND):
        assert (await engine.outcome(run)).state is State.SUCCEEDED
        assert [each.state for each in await engine.runs("orders")] == [State.SUCCEEDED], "until its trigger says so"
        await engine.release(run)
        assert await engine.runs("orders") == []


async def test_a_held_run_is_left_alone_until_its_trigger_lets_it_begin(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    flow = read(workflow("w", step("a"), step("b", "true", "a")), tmp_path)
    async with adopting(cluster, namespace), open_engine(cluster, SystemClock(), namespace) as source, asyncio.timeout(BOUND):
        asked = request(flow, "git")
        run = await source.submit(RunRequest(trigger="git", key=asked.key, workflow=flow, held=True, key_names_workflow=True))
        other = await source.submit(request(flow))
        await source.outcome(other)
        assert [job.metadata.labels[names.RUN] for job in await cluster.list(JOBS, namespace)] == [other.id] * 2
        await source.begin(run)
        await until(cluster, CONFIG_MAPS, namespace, run.name, lambda seen: seen.metadata.labels[names.STATE] == State.SUCCEEDED)


async def test_who_leads_no_more_stops_at_once(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    flow = read(workflow("w", step("a", "sleep 2"), step("b", "true", "a")), tmp_path)
    async with adopting(cluster, namespace) as (engine, driving), asyncio.timeout(BOUND):
        run = await engine.submit(request(flow, "orders"))
        name = await until_job(cluster, namespace, run)
        await until_pod(cluster, namespace, name, is_running)
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        await until(cluster, JOBS, namespace, name, lambda job: bool(job.status.succeeded))
        async with open_engine(cluster, SystemClock(), namespace) as other:
            assert len(await cluster.list(JOBS, namespace)) == 1, "nobody started the next step"
            assert (await other.outcome(run)).state is State.SUCCEEDED


async def test_a_namespace_that_is_opened_later_is_adopted_and_left_with_the_others(
    cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    flow = read(workflow("w", step("a", "sleep 2"), step("b", "true", "a")), tmp_path)
    other = f"{namespace}-b"
    await cluster.create_namespace(other)
    try:
        async with adopting(cluster, namespace) as (engine, driving), asyncio.timeout(BOUND):
            run = await engine.submit(RunRequest(trigger="orders", key="k", workflow=flow, namespace=other, key_names_workflow=True))
            assert [each.uid for each in await engine.runs("orders", other)] == [run.uid]
            name = await until_job(cluster, other, run)
            await until_pod(cluster, other, name, is_running)
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
            await until(cluster, JOBS, other, name, lambda job: bool(job.status.succeeded))
            async with open_engine(cluster, SystemClock(), other) as second:
                assert len(await cluster.list(JOBS, other)) == 1, "nobody started the next step"
                assert (await second.outcome(run)).state is State.SUCCEEDED
    finally:
        await cluster.call("DELETE", f"/api/v1/namespaces/{other}", f"delete Namespace {other}")


async def test_one_namespace_that_can_t_be_opened_keeps_no_trigger_waiting(cluster: HttpCluster, namespace: str) -> None:
    class Shut:
        """A cluster that tells nothing of one namespace."""

        def __getattr__(self, name: str) -> Any:
            return getattr(cluster, name)

        def watch(self, kind: Any, where: str, **more: Any) -> Any:
            return cluster.watch(kind, where, **more) if where == namespace else _nothing()

    shut: Any = Shut()
    async with open_engine(shut, SystemClock(), namespace, Options()) as engine, asyncio.timeout(BOUND):
        opening = asyncio.create_task(engine.of("shut"))
        assert await engine.runs("orders") == []
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)


async def _nothing() -> AsyncIterator[Any]:
    await asyncio.get_running_loop().create_future()
    yield


async def test_an_engine_begins_with_what_is_open_alone_and_still_reads_what_ended_before_it_looked(
    cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    tells = job("tells", "echo '{\"rows\": 7}' > /dev/termination-log")
    flow = read(workflow("w", step("a"), step("b", "true", "a")), tmp_path)
    async with open_engine(cluster, SystemClock(), namespace) as first, asyncio.timeout(BOUND):
        over = [await first.submit(request(each, "orders")) for each in (flow, flow, read(job("plain"), tmp_path))]
        for run in over:
            await first.outcome(run)
            await first.release(run)
        told = await first.submit(request(read(tells, tmp_path), "orders"))
        await first.outcome(told)
        open_ = await first.submit(request(read(workflow("w", step("a"), step("b", "sleep 60", "a")), tmp_path), "orders"))
        await until_pod(cluster, namespace, await until_job(cluster, namespace, open_, "b"), is_running)
    listed: dict[str, set[str]] = {}
    list_at = cluster.list_at

    async def listing(kind: Any, where: str, **more: Any) -> Any:
        found = await list_at(kind, where, **more)
        listed.setdefault(kind.plural, set()).update(each.metadata.labels.get(names.RUN, "") for each in found.items)
        return found

    cluster.list_at = listing  # type: ignore[method-assign, assignment]
    async with open_engine(cluster, SystemClock(), namespace) as second, asyncio.timeout(BOUND):
        assert {kind: listed[kind] for kind in ("configmaps", "jobs", "pods")} == {
            "configmaps": {open_.id},
            "jobs": {told.id, open_.id},
            "pods": {open_.id},
        }
        outcome = await second.outcome(told)
        assert outcome.view.steps[0].outputs == {"rows": 7}
        async with second.changes(open_) as changed:
            while (view := second.driven(open_)) is None:
                await changed.wait()
        assert [each.state for each in view.steps] == [State.SUCCEEDED, State.RUNNING]
        await second.cancel(open_)
        assert (await second.outcome(open_)).state is State.CANCELLED
