"""What a crash of the API server does to a watch and to a run: nothing that a user would notice for long."""

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
from tests.conftest import ClusterUnderTest
from tests.manifests import step, workflow


def crash(under_test: ClusterUnderTest) -> None:
    if under_test.crash is None:
        pytest.skip("this cluster is not ours to crash")
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
    async with asyncio.timeout(60):
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
        async with asyncio.timeout(90):
            assert (await engine.outcome(run)).state is State.SUCCEEDED
    assert len(await cluster.list(JOBS, namespace)) == 2
