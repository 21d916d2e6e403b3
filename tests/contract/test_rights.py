"""The Role that we print is enough, and each verb of it is needed by something that Jobyard does. Needs a cluster with RBAC: a real one."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.cluster.lease import Leadership
from jobyard.cluster.rights import RIGHTS, Right
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.engine.face import look_at_job
from jobyard.engine.sweep import sweep
from jobyard.model import names
from jobyard.model.errors import JobyardError
from jobyard.model.objects import JOBS, PODS
from jobyard.model.run import RunRequest, State
from jobyard.model.workflow import Workflow
from jobyard.service.reading import read_file
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.manifests import step, workflow
from tests.restricted import restricted_kubeconfig
from tests.waiting import BOUND, until_job

LESS = [(right, verb) for right in RIGHTS for verb in right.verbs]


@pytest.fixture(autouse=True)
def _real(under_test: ClusterUnderTest) -> None:
    if under_test.name != KUBERNETES:
        pytest.skip("the local cluster has no RBAC: its token may do everything")


def flow(folder: Path, *steps: dict[str, object], **spec: object) -> Workflow:
    file = folder / f"{uuid.uuid4().hex}.json"
    file.write_bytes(msgspec.json.encode(workflow("w", *steps, **spec)))
    return read_file(file).require()


async def tour(kubeconfig: Path, namespace: str, folder: Path, bound: float = BOUND) -> str:
    """Everything that Jobyard does with a cluster, once. An empty string when all went well, else what was refused, or not done in `bound` seconds."""
    request = RunRequest(
        trigger="test",
        key=uuid.uuid4().hex,
        workflow=flow(folder, step("a", "echo hi", spec={"ttlSecondsAfterFinished": 600}), cleanup="never"),
    )
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "beside"}, "stringData": {"a": "b"}}
    request = replace(request, objects=(secret,))
    cleaned = RunRequest(trigger="test", key=uuid.uuid4().hex, workflow=flow(folder, step("b", "true"), cleanup="always"))
    cleaned = replace(cleaned, objects=(secret,))  # the same name, of the same source: the older makes way
    try:
        async with (
            open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster,
            asyncio.timeout(bound),
            open_engine(cluster, SystemClock(), namespace) as engine,
        ):
            run = await engine.submit(request)
            again = await engine.submit(request)
            assert again.existed
            other = await engine.submit(cleaned)
            for outcome in (await engine.outcome(run), await engine.outcome(other)):
                if outcome.state is not State.SUCCEEDED:
                    return f"{outcome.reason}: {outcome.view.steps[0].message}"
            found = await look_at_job(cluster, namespace, await until_job(cluster, namespace, run, "a"))
            assert found is not None
            pods = await cluster.list(PODS, namespace, labels=f"batch.kubernetes.io/job-name={found[0].metadata.name}")
            assert [line async for line in cluster.logs(namespace, pods[0].metadata.name)] == ["hi"]
            await engine.release(run)
            await engine.cancel(run)
            assert await Leadership(cluster, SystemClock(), namespace, "tour", "me").run_once(), "does not lead"
            second = Leadership(cluster, SystemClock(), namespace, "tour", "me")
            assert await second.run_once(), "does not go on leading"
            await second.resign()
            for pod in pods:
                await cluster.delete(PODS, namespace, pod.metadata.name, grace=0)
            assert [each.uid for each in await sweep(cluster, SystemClock(), namespace, timedelta(0))] == [run.uid]
    except (JobyardError, ExceptionGroup, TimeoutError, AssertionError) as error:
        return str(error) or type(error).__name__
    return ""


async def test_the_role_is_enough(under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    kubeconfig = await restricted_kubeconfig(cluster, under_test.kubeconfig, namespace, tmp_path / "kubeconfig")
    assert await tour(kubeconfig, namespace, tmp_path) == ""
    assert len(await cluster.list(JOBS, namespace, labels=names.SELECTOR)) <= 2


@pytest.mark.parametrize(("right", "verb"), LESS, ids=[f"{right.resource.replace('/', '-')}-{verb}" for right, verb in LESS])
async def test_each_right_is_needed(
    under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str, tmp_path: Path, right: Right, verb: str
) -> None:
    less = tuple(replace(each, verbs=tuple(v for v in each.verbs if v != verb)) if each is right else each for each in RIGHTS)
    rights = tuple(each for each in less if each.verbs)
    kubeconfig = await restricted_kubeconfig(cluster, under_test.kubeconfig, namespace, tmp_path / "kubeconfig", rights)
    assert await tour(kubeconfig, namespace, tmp_path, 40) != "", f"nothing needs {verb} {right.resource}"
