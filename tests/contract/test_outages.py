"""What a crash of the API server does to a watch and to a run: nothing that a user would notice for long. And what else nobody may share a cluster with."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import msgspec
import pytest

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.contracts import Change
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.model.errors import WatchExpired
from jobyard.model.objects import CONFIG_MAPS, JOBS, ConfigMap
from jobyard.model.run import RunRequest, State
from jobyard.service.reading import read_file
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.contract.test_diagnoses import call, diagnosis
from tests.manifests import job, step, workflow
from tests.waiting import BOUND

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def under_test(own_cluster: ClusterUnderTest) -> ClusterUnderTest:
    return own_cluster


def crash(under_test: ClusterUnderTest) -> None:
    assert under_test.crash is not None
    under_test.crash()


async def test_a_watch_tells_what_happened_over_a_crash(under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str) -> None:
    for name in ("a", "b"):
        await cluster.create(CONFIG_MAPS, namespace, {"metadata": {"name": name, "labels": {"app": "x"}}})
    told: list[Change[ConfigMap]] = []
    synced, found = asyncio.Event(), asyncio.Event()

    async def watch() -> None:
        async for change in cluster.watch(CONFIG_MAPS, namespace, labels="app=x"):
            told.append(change)
            (synced if change.type == "SYNCED" else found).set()

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(BOUND):
        await synced.wait()
        await asyncio.to_thread(crash, under_test)
        async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as other:
            await other.delete(CONFIG_MAPS, namespace, "a")
            await other.create(CONFIG_MAPS, namespace, {"metadata": {"name": "c", "labels": {"app": "x"}}})
        while not {("GONE", "a"), ("SEEN", "c")} <= {(each.type, each.object.metadata.name) for each in told if each.object}:
            found.clear()
            await found.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    seen = [(each.type, each.object.metadata.name) for each in told if each.object]
    assert sorted(seen) == [("GONE", "a"), ("SEEN", "a"), ("SEEN", "b"), ("SEEN", "c")], "each once: b did not change"


async def test_a_version_that_is_compacted_is_expired(under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str) -> None:
    old = (await cluster.create(CONFIG_MAPS, namespace, {"metadata": {"name": "a"}})).metadata.resource_version
    await cluster.patch(CONFIG_MAPS, namespace, "a", {"data": {"k": "v"}})
    await asyncio.to_thread(crash, under_test)
    async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as other:
        line = ""
        try:
            async with other.stream_changes(CONFIG_MAPS, namespace, "", "", old, 5) as lines:
                async for line in lines:  # noqa: B007 - the first line is what matters
                    break
        except WatchExpired:
            return
        assert '"code":410' in line


async def test_a_run_goes_on_over_a_crash(under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    if under_test.name == "local":
        pytest.skip("the local cluster's pods end with it")
    file = tmp_path / "w.json"
    file.write_bytes(msgspec.json.encode(workflow("w", step("a", "sleep 3"), step("b", "true", "a"))))
    async with open_engine(cluster, SystemClock(), namespace) as engine:
        run = await engine.submit(RunRequest(trigger="test", key=uuid.uuid4().hex, workflow=read_file(file).require()))
        await asyncio.to_thread(crash, under_test)
        async with asyncio.timeout(BOUND):
            assert (await engine.outcome(run)).state is State.SUCCEEDED
    assert len(await cluster.list(JOBS, namespace)) == 2


async def test_a_node_that_takes_no_pods_is_told(under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str) -> None:
    if under_test.name != KUBERNETES:
        pytest.skip("only a real node can be tainted")
    name = (await call(cluster, "GET", "/api/v1/nodes"))["items"][0]["metadata"]["name"]
    await call(cluster, "PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": [{"key": "busy", "value": "yes", "effect": "NoSchedule"}]}})
    try:
        await cluster.create(JOBS, namespace, job("a"))
        found = await diagnosis(cluster, namespace, lambda each: each.reason == "Unschedulable")
        assert "taints that it does not tolerate" in found.sentence
    finally:
        await call(cluster, "PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": None}})
