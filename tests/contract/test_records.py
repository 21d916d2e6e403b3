"""A run is its record's uid, not a name: records deleted and made again, held runs forgotten, and what a run brings with it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.model import names
from jobyard.model.errors import Rejected
from jobyard.model.objects import CONFIG_MAPS, JOBS, Kind, Other
from jobyard.model.run import RunRequest, State
from jobyard.model.workflow import Workflow
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
