"""Diagnoses from a real node's own words, not from made-up ones. What only a kubelet or a scheduler can show runs there alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine.face import look_at_job
from jobyard.model.diagnosis import Diagnosis
from jobyard.model.objects import EVENTS, JOBS, PODS, Kind
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.manifests import job
from tests.waiting import BOUND, is_running, until_pod

Tree = dict[str, Any]


async def diagnosis(cluster: HttpCluster, namespace: str, wanted: Callable[[Diagnosis], bool], name: str = "a") -> Diagnosis:
    """The Job's diagnosis, as soon as it is as wanted: each change of a pod, a Job or an event is a look."""
    changed = asyncio.Event()
    synced = asyncio.Barrier(4)

    async def watch(kind: Kind[Any]) -> None:
        async for change in cluster.watch(kind, namespace):
            changed.set()
            if change.type == "SYNCED":
                await synced.wait()

    watches = [asyncio.create_task(watch(kind)) for kind in (JOBS, PODS, EVENTS)]
    await synced.wait()
    last: object = None
    try:
        async with asyncio.timeout(BOUND):
            while True:
                await changed.wait()
                changed.clear()
                found = await look_at_job(cluster, namespace, name)
                last = found[1] if found else None
                if found and found[1] and wanted(found[1]):
                    return found[1]
    except TimeoutError:
        raise AssertionError(f"not as wanted: {last}") from None
    finally:
        for each in watches:
            each.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


def container(**more: Any) -> Tree:
    return {"container": more}


def volume(**source: Any) -> Tree:
    return {"pod": {"volumes": [{"name": "v", **source}]}, "container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}}


REAL: list[tuple[str, Tree, str, str]] = [
    (
        "image that is not there",
        container(image="registry.invalid/none:1"),
        "Image|ErrImagePull",
        "The image registry.invalid/none:1 cannot be pulled.",
    ),
    ("image name", container(image="A:B:C"), "InvalidImageName", "has a name that is none"),
    (
        "image never pulled",
        container(image="none:1", imagePullPolicy="Never"),
        "ErrImageNeverPull",
        "is not on the node, and imagePullPolicy is Never",
    ),
    ("run as root", container(securityContext={"runAsNonRoot": True}), "CreateContainerConfigError", "a configuration that can't be used"),
    (
        "claim",
        volume(persistentVolumeClaim={"claimName": "none"}),
        "PersistentVolumeClaimMissing",
        "PersistentVolumeClaim none does not exist",
    ),
    ("cpu", container(resources={"requests": {"cpu": "1000"}}), "Unschedulable", "no node has enough cpu left"),
    ("memory", container(resources={"requests": {"memory": "10Ti"}}), "Unschedulable", "no node has enough memory left"),
    ("selector", {"pod": {"nodeSelector": {"disk": "none"}}}, "Unschedulable", "nodeSelector or affinity"),
    (
        "oom",
        {"script": "x=$(head -c 64m /dev/zero | tr '\\0' x); echo ${#x}", "container": {"resources": {"limits": {"memory": "20Mi"}}}},
        "OOMKilled",
        "used more memory than its limit",
    ),
]

BOTH: list[tuple[str, Tree, str, str]] = [
    (
        "secret",
        container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]),
        "SecretMissing",
        "Secret none does not exist in this namespace.",
    ),
    (
        "config map",
        container(envFrom=[{"configMapRef": {"name": "none"}}]),
        "ConfigMapMissing",
        "ConfigMap none does not exist in this namespace.",
    ),
    (
        "key",
        container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "no"}}}]),
        "ConfigMapKeyMissing",
        "ConfigMap kube-root-ca.crt has no key no",
    ),
    ("secret volume", volume(secret={"secretName": "none"}), "SecretMissing", "Secret none does not exist in this namespace."),
    ("config map volume", volume(configMap={"name": "none"}), "ConfigMapMissing", "ConfigMap none does not exist in this namespace."),
    ("service account", {"pod": {"serviceAccountName": "none"}}, "ServiceAccountMissing", "ServiceAccount none does not exist"),
    ("exit code", {"script": "exit 9"}, "ExitCode", "Container main exited with code 9."),
    ("command not found by the shell", {"script": "no-such-program"}, "ExitCode", "a command was not found"),
    ("program that is not there", container(command=["/no/such"]), "StartError", "could not be started"),
    ("signal", {"script": "sh -c 'kill -15 $$$$'; exit $?"}, "Signal", "was ended by SIGTERM (exit code 143)"),
    (
        "deadline",
        {"script": "sleep 60", "spec": {"activeDeadlineSeconds": 1}},
        "DeadlineExceeded",
        "longer than its activeDeadlineSeconds (1s)",
    ),
    ("suspended", {"spec": {"suspend": True}}, "Suspended", "is suspended"),
]


def manifest(case: Tree) -> Tree:
    return job("a", case.get("script", "true"), pod=case.get("pod"), container=case.get("container"), **case.get("spec", {}))


@pytest.mark.parametrize(("case", "given", "reason", "sentence"), BOTH, ids=[case[0].replace(" ", "-") for case in BOTH])
async def test_what_every_cluster_shows(cluster: HttpCluster, namespace: str, case: str, given: Tree, reason: str, sentence: str) -> None:
    await cluster.create(JOBS, namespace, manifest(given))
    found = await diagnosis(cluster, namespace, lambda each: each.reason in reason.split("|") and sentence in each.sentence)
    assert found.remedy


@pytest.fixture
def _real(under_test: ClusterUnderTest) -> None:
    if under_test.name != KUBERNETES:
        pytest.skip("only a real node has images, a scheduler and limits")


@pytest.mark.usefixtures("_real")
@pytest.mark.parametrize(("case", "given", "reason", "sentence"), REAL, ids=[case[0].replace(" ", "-") for case in REAL])
async def test_what_only_a_real_node_shows(
    cluster: HttpCluster, namespace: str, case: str, given: Tree, reason: str, sentence: str
) -> None:
    await cluster.create(JOBS, namespace, manifest(given))
    found = await diagnosis(
        cluster, namespace, lambda each: (each.reason in reason or reason.split("|")[0] in each.reason) and sentence in each.sentence
    )
    assert found.remedy


async def call(cluster: HttpCluster, method: str, path: str, body: Tree | None = None) -> Tree:
    """A call that Jobyard itself never makes."""
    media = "application/merge-patch+json" if method == "PATCH" else "application/json"
    answer = await cluster.call(method, path, f"{method} {path}", body=msgspec.json.encode(body) if body else None, media=media)
    result: Tree = msgspec.json.decode(answer)
    return result


@pytest.mark.usefixtures("_real")
async def test_quota(cluster: HttpCluster, namespace: str) -> None:
    await call(
        cluster, "POST", f"/api/v1/namespaces/{namespace}/resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}
    )
    await cluster.create(JOBS, namespace, job("a"))
    found = await diagnosis(cluster, namespace, lambda each: each.reason == "QuotaExceeded")
    assert "quota has no room" in found.sentence


@pytest.mark.usefixtures("_real")
async def test_evicted(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "sleep 60"))
    pod = await until_pod(cluster, namespace, "a", is_running)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.metadata.name}}
    await call(cluster, "POST", f"/api/v1/namespaces/{namespace}/pods/{pod.metadata.name}/eviction", eviction)
    found = await diagnosis(cluster, namespace, lambda each: each.reason == "Evicted")
    assert "evicted" in found.sentence
