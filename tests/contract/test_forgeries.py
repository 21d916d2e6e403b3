"""A pod is its Job's when the Job controls it: labels, and references that are none of a controller's, anybody may write."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.engine.face import look_at_job, view
from jobyard.engine.logs import pods_of
from jobyard.model.job import job_of
from jobyard.model.objects import JOBS, PODS, Pod
from jobyard.model.run import RunRequest, State
from tests.flows import read
from tests.manifests import job, step, workflow
from tests.waiting import BOUND, until, until_ended, until_job

GIVES = """echo '{"rows": %d}' > /dev/termination-log; echo %s"""


async def forge(cluster: HttpCluster, namespace: str, name: str, labels: dict[str, str], **metadata: Any) -> Pod:
    """A pod made by hand, which has ended well and says something else than the Job's own."""
    spec = job("x", GIVES % (666, "forged"))["spec"]["template"]["spec"]
    tree = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels, **metadata}, "spec": spec}
    await cluster.create(PODS, namespace, tree)
    return await until(cluster, PODS, namespace, name, lambda pod: pod.status.phase in ("Succeeded", "Failed"))


@pytest.mark.parametrize("reference", ["none", "no-controller"])
async def test_a_pod_made_by_hand_with_a_job_s_labels_is_not_the_job_s(
    cluster: HttpCluster, namespace: str, tmp_path: Path, reference: str
) -> None:
    flow = read(workflow("w", step("a", GIVES % (3, "mine")), step("b", "test {{ steps.a.outputs.rows }} = 3", "a")), tmp_path)
    async with open_engine(cluster, SystemClock(), namespace) as first:
        run = await first.submit(RunRequest(trigger="cli", key=uuid.uuid4().hex, workflow=flow, waits=False, key_names_workflow=True))
        name = await until_job(cluster, namespace, run)
    ended = await until_ended(cluster, namespace, name)
    (own,) = await pods_of(cluster, namespace, name)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": ended.metadata.uid}
    more = {} if reference == "none" else {"ownerReferences": [owner]}
    await forge(cluster, namespace, "forged", own.metadata.labels, **more)

    assert [pod.metadata.name for pod in await pods_of(cluster, namespace, name)] == [own.metadata.name]
    assert [pod.metadata.name for pod in await cluster.list(PODS, namespace) if job_of(pod)] == [own.metadata.name]
    assert (await view(cluster, SystemClock(), namespace, run.name)).steps[0].outputs == {"rows": 3}
    async with open_engine(cluster, SystemClock(), namespace) as second, asyncio.timeout(BOUND):
        outcome = await second.outcome(run)
    assert (outcome.state, outcome.view.steps[0].outputs) == (State.SUCCEEDED, {"rows": 3})


async def test_a_pod_that_failed_by_hand_explains_nobody_s_job(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("waits", suspend=True))
    await forge(cluster, namespace, "forged", {"batch.kubernetes.io/job-name": "waits", "job-name": "waits"})
    found = await look_at_job(cluster, namespace, "waits")
    assert found is not None
    assert found[1].diagnosis is None or found[1].diagnosis.pod == ""
