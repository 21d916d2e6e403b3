"""A run is its record's uid, not a name: records deleted and made again, held runs forgotten, and what a run brings with it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine import record as records
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.ledger import Ledger
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.errors import NotFound, Rejected
from jobyard.model.objects import CONFIG_MAPS, JOBS, WHOLE_JOBS, Kind, Other
from jobyard.model.run import RunRequest, State
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow
from tests.flows import read
from tests.manifests import Tree, job, step, workflow
from tests.waiting import BOUND, is_running, until_gone, until_job, until_pod

ACCOUNTS: Kind[Other] = Kind("api/v1", "serviceaccounts", "ServiceAccount", Other)
CRON_JOBS: Kind[Other] = Kind("apis/batch/v1", "cronjobs", "CronJob", Other)


@pytest.fixture
async def engine(cluster: HttpCluster, namespace: str) -> AsyncIterator[ClusterEngine]:
    async with open_engine(cluster, SystemClock(), namespace) as opened:
        yield opened


def request(flow: Workflow, *objects: Tree, held: bool = False, key: str = "") -> RunRequest:
    return RunRequest(
        trigger="test", key=key or uuid.uuid4().hex, workflow=flow, objects=objects, held=held, waits=False, key_names_workflow=True
    )


def two(folder: Path, script: str = "true") -> Workflow:
    return read(workflow("w", step("a", script), step("b", "true", "a")), folder)


async def test_a_record_that_is_deleted_and_made_again_is_another_run(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    """The old run's Jobs are no attempts of the new one, however alike they look."""
    asked = request(two(tmp_path, "sleep 300"), key="k")
    first = await engine.submit(asked)
    name = await until_job(cluster, namespace, first)
    old = await until_pod(cluster, namespace, name, is_running)
    await cluster.delete(CONFIG_MAPS, namespace, first.name)
    async with asyncio.timeout(BOUND):
        assert (await engine.outcome(first)).state is State.LOST
        second = await engine.submit(request(two(tmp_path), key="k"))
        assert (second.id, second.existed) == (first.id, False)
        assert second.uid != first.uid
        assert (await engine.outcome(second)).state is State.SUCCEEDED
    assert (await cluster.get(JOBS, namespace, name)).metadata.uid != old.metadata.owner_references[0].uid


async def test_a_held_run_that_is_abandoned_and_asked_for_again_runs(engine: ClusterEngine, tmp_path: Path) -> None:
    async with asyncio.timeout(BOUND):
        first = await engine.submit(request(two(tmp_path), key="k", held=True))
        await engine.abandon(first)
        second = await engine.submit(request(two(tmp_path), key="k", held=True))
        assert second.uid != first.uid
        await engine.begin(second)
        assert (await engine.outcome(second)).state is State.SUCCEEDED
        await engine.abandon(second)  # it began: it is left alone
        assert [run.uid for run in await engine.runs("test")] == [second.uid]


async def test_what_a_run_brings_goes_with_it_but_for_what_holds_data_or_identity(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    cron: Tree = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": job("x")["spec"]}},
    }
    account: Tree = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "worker"}}
    async with asyncio.timeout(BOUND):
        run = await engine.submit(request(two(tmp_path), cron, account))
        assert (await engine.outcome(run)).state is State.SUCCEEDED
        owner = (await cluster.get(CRON_JOBS, namespace, "nightly")).metadata.owner_references[0]
        assert owner.uid == run.uid
        assert (await cluster.get(ACCOUNTS, namespace, "worker")).metadata.owner_references == ()
        other = await engine.submit(request(two(tmp_path), account))
        assert (await engine.outcome(other)).state is State.SUCCEEDED, "there is one already"
        await cluster.delete(CONFIG_MAPS, namespace, run.name)
        await until_gone(cluster, CRON_JOBS, namespace, "nightly")
        assert (await cluster.get(ACCOUNTS, namespace, "worker")).metadata.deletion_timestamp is None


async def test_an_object_that_is_somebody_else_s_fails_the_run_before_anything_starts(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    settings: Tree = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "theirs"}}
    await cluster.create(CONFIG_MAPS, namespace, settings)
    with pytest.raises(Rejected, match="it is left alone"):
        await engine.submit(request(two(tmp_path), {**settings, "data": {"a": "ours"}}))
    assert await cluster.list(JOBS, namespace) == []
    assert await cluster.list(CONFIG_MAPS, namespace, labels=names.SELECTOR) == []
    assert (await cluster.get(CONFIG_MAPS, namespace, "settings")).data == {"a": "theirs"}
    first = await engine.submit(request(two(tmp_path, "sleep 300"), {**settings, "metadata": {"name": "mine"}}))
    with pytest.raises(Rejected, match="it is left alone"):
        await engine.submit(request(two(tmp_path), {**settings, "metadata": {"name": "mine"}}))
    assert [run.uid for run in await engine.runs("test")] == [first.uid], "a live run keeps what is its"
    role: Tree = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "x"}, "rules": []}
    with pytest.raises(Rejected, match="apply it first"):
        await engine.submit(request(two(tmp_path), role))


async def test_only_what_a_released_run_of_the_source_brought_makes_way(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    """Labels are copied by people, and names of records stand in commits: neither makes an object ours to replace."""
    settings: Tree = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "first"}}
    async with asyncio.timeout(BOUND):
        first = await engine.submit(request(two(tmp_path), settings))
        await engine.outcome(first)
        await engine.release(first)
        theirs = await cluster.get(CONFIG_MAPS, namespace, "settings")
        for name, labels in (("copied", theirs.metadata.labels), ("half", {**theirs.metadata.labels, names.RUN: ""})):
            await cluster.create(CONFIG_MAPS, namespace, {"metadata": {"name": name, "labels": labels}, "data": {"a": "a person's"}})
        for name in ("copied", "half", first.name):
            with pytest.raises(Rejected, match="it is left alone"):
                await engine.submit(request(two(tmp_path), {**settings, "metadata": {"name": name}}))
        assert (await cluster.get(CONFIG_MAPS, namespace, first.name)).metadata.uid == first.uid
        assert (await cluster.get(CONFIG_MAPS, namespace, "copied")).data == {"a": "a person's"}
        await engine.submit(request(two(tmp_path, "sleep 300"), {**settings, "data": {"a": "second"}}))
        assert (await cluster.get(CONFIG_MAPS, namespace, "settings")).data == {"a": "second"}


@pytest.mark.parametrize("steps", [1, 2])
async def test_releasing_an_old_run_leaves_a_new_one_of_its_name_alone(
    cluster: HttpCluster, namespace: str, tmp_path: Path, steps: int
) -> None:
    """A process whose watch is behind lets go of a run whose record somebody deleted, and which another has submitted again."""

    def flow(script: str) -> Workflow:
        return read(workflow("w", *(step(name, script) for name in "ab"[:steps])), tmp_path)

    async with open_engine(cluster, SystemClock(), namespace) as behind, asyncio.timeout(BOUND):
        old = await behind.submit(request(flow("true"), key="k"))
        await behind.outcome(old)
        seen = (await behind.of()).sight.of(old.uid)
        assert seen is not None
        kind: Kind[Any] = JOBS if steps == 1 else CONFIG_MAPS
        await cluster.delete(kind, namespace, old.name)
        await until_gone(cluster, kind, namespace, old.name)
        async with open_engine(cluster, SystemClock(), namespace) as other:
            new = await other.submit(request(flow("sleep 300"), key="k"))
            assert new.uid != old.uid
            with pytest.raises(NotFound):
                await (await behind.of()).ledger.change(seen.record, {"metadata": {"labels": {names.STATE: "succeeded"}}})
            await behind.release(old)
            assert [run.uid for run in await other.runs("test")] == [new.uid]
            assert (await cluster.get(kind, namespace, new.name)).metadata.labels.get(names.STATE) != "succeeded"
            await other.cancel(new)
            assert (await other.outcome(new)).state is State.CANCELLED


async def test_what_a_run_uses_that_was_not_seen_yet_is_not_taken_from_it(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    """Two that bring an object of the same name: the second, whose watch is behind, asks before it takes the first for over."""
    settings: Tree = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "first"}}
    async with open_engine(cluster, SystemClock(), namespace) as engine:
        first = await engine.submit(request(two(tmp_path, "sleep 300"), settings))
        blind = Ledger(cluster, SystemClock(), namespace, Sight())
        with pytest.raises(Rejected, match="it is left alone"):
            await blind.create_record(request(two(tmp_path), {**settings, "data": {"a": "second"}}))
        assert (await cluster.get(CONFIG_MAPS, namespace, "settings")).data == {"a": "first"}
        assert [record.metadata.uid for record in await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR)] == [first.uid]


async def test_a_record_that_was_left_incomplete_and_can_t_be_completed_goes(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    await cluster.create(CONFIG_MAPS, namespace, {"metadata": {"name": "settings"}, "data": {"a": "theirs"}})
    settings: Tree = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "ours"}}
    asked = request(two(tmp_path), settings, key="k")
    manifest = records.write(asked, asked.run_id, records.pack(asked))  # what a process leaves that dies right after it
    await cluster.create(CONFIG_MAPS, namespace, manifest)
    async with open_engine(cluster, SystemClock(), namespace) as engine:
        with pytest.raises(Rejected, match="it is left alone"):
            await engine.submit(asked)
    assert await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR) == []


async def test_a_ttl_is_handed_back_from_each_job_s_own_end(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    short = {"ttlSecondsAfterFinished": 600}
    flow = read(workflow("w", step("a", spec=short), step("b", "sleep 5", "a", spec=short)), tmp_path)
    async with asyncio.timeout(BOUND):
        run = await engine.submit(request(flow))
        await engine.outcome(run)
        await engine.release(run)
    ttls = {
        job.metadata.annotations[names.STEP]: (await cluster.get(WHOLE_JOBS, namespace, job.metadata.name)).spec["ttlSecondsAfterFinished"]
        for job in await cluster.list(JOBS, namespace)
    }
    assert ttls["a"] >= ttls["b"] + 5
    assert await cluster.list(JOBS, namespace, labels=names.WATCHED) == [], "they leave the watch in the same write"


async def test_a_job_whose_secret_is_refused_is_taken_back(cluster: HttpCluster, namespace: str) -> None:
    """The source is told no: nothing of it may be left, open and holding a place."""
    asked = RunRequest(trigger="test", key="k", workflow=Workflow(name="w", steps=()), key_names_workflow=True)
    name = f"payload-{asked.run_id}"
    manifest = job("w", container={"envFrom": [{"secretRef": {"name": name}}]})
    flow = Workflow(name="w", steps=(Step(name="w", job=Template(manifest, literal=True)),))
    wrong: Tree = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"A": "no base64!"}}
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        with pytest.raises(Rejected):
            await engine.submit(replace(asked, workflow=flow, objects=(wrong,)))
        await until_gone(cluster, JOBS, namespace, names.record("w", asked.run_id))
        assert await engine.runs("test") == []
