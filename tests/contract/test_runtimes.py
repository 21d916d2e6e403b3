"""What runs containers on the local cluster: podman and docker, with real images. (Processes have all the other tests.)"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.local import daemon
from jobyard.local.container_runtime import LABEL, label_of
from jobyard.local.runtime import Name
from jobyard.model.diagnosis import diagnose
from jobyard.model.job import outputs, read
from jobyard.model.objects import EVENTS, JOBS, PODS, Job, Pod
from jobyard.model.run import State
from tests import containers
from tests.manifests import job
from tests.waiting import is_running, until_ended, until_gone, until_pod

pytestmark = pytest.mark.timeout(180, func_only=True)


@pytest.fixture(scope="module", params=["podman", "docker"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Name]:
    if why := containers.missing(request.param):
        pytest.skip(f"{request.param}: {why}")
    with containers.environment(request.param):
        yield request.param


@pytest.fixture(scope="module")
def local(runtime: Name, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local cluster whose containers are the runtime's."""
    folder = tmp_path_factory.mktemp(runtime)
    daemon.start(folder, runtime)
    yield folder
    daemon.stop(folder)


@pytest.fixture
async def cluster(local: Path) -> AsyncIterator[HttpCluster]:
    async with open_cluster(connect(kubeconfig=str(local / "kubeconfig"))) as client:
        yield client


async def ended(cluster: HttpCluster, namespace: str, manifest: dict[str, Any]) -> tuple[Job, Pod, str]:
    """Runs a Job to its end: the Job, its pod, its log. What two streams say comes in either order: only the runtime's turn decides."""
    name = manifest["metadata"]["name"]
    await cluster.create(JOBS, namespace, manifest)
    over = await until_ended(cluster, namespace, name)
    pods = await cluster.list(PODS, namespace, labels=f"batch.kubernetes.io/job-name={name}")
    log = [line async for line in cluster.logs(namespace, pods[0].metadata.name)]
    return over, pods[0], "\n".join(log)


async def test_runs_the_image_with_its_own_files_and_environment(cluster: HttpCluster, namespace: str) -> None:
    script = 'echo "$PATH|$MULTI|$ONE|$HOSTNAME"; ls /; echo oops >&2; echo \'{"rows": 3}\' > /dev/termination-log'
    env = [{"name": "MULTI", "value": "a\nb"}, {"name": "ONE", "value": 'quo"te $HOME # not a comment'}]
    over, pod, log = await ended(cluster, namespace, job("image", script, container={"env": env}))
    assert read(over).state is State.SUCCEEDED
    lines = log.splitlines()
    lines.remove("oops")  # on the other stream
    path, rest = "\n".join(lines).split("|", 1)
    assert path.startswith("/usr/local/sbin:")
    assert f'a\nb|quo"te $HOME # not a comment|{pod.metadata.name}' in rest
    assert "home" not in rest.split()  # the image has none; this machine does
    assert outputs([pod]) == {"rows": 3}


async def test_uses_the_entry_point_of_the_image(cluster: HttpCluster, namespace: str) -> None:
    manifest = job("arguments", container={"args": ["sh", "-c", "echo from args"]})
    del manifest["spec"]["template"]["spec"]["containers"][0]["command"]
    _, _, log = await ended(cluster, namespace, manifest)
    assert log == "from args"


@pytest.mark.parametrize("code", [3, 125, 127])
async def test_tells_exit_codes_as_they_are(cluster: HttpCluster, namespace: str, code: int) -> None:
    _, pod, _ = await ended(cluster, namespace, job("exits", f"exit {code}"))
    end = pod.status.container_statuses[0].state.terminated
    assert end is not None
    assert (end.exit_code, end.reason) == (code, "Error")


async def test_says_why_a_program_can_not_be_started(cluster: HttpCluster, namespace: str) -> None:
    over, pod, _ = await ended(cluster, namespace, job("nothere", container={"command": ["nothere"]}))
    end = pod.status.container_statuses[0].state.terminated
    assert end is not None
    assert (end.exit_code, end.reason) == (128, "StartError")
    assert 'exec: "nothere": executable file not found in $PATH' in (end.message or "")
    found = diagnose(over, [pod], [])
    assert found is not None
    assert found.reason == "StartError"


@pytest.mark.parametrize(
    ("image", "policy", "reason"),
    [
        ("busybox:none", "Never", "ErrImageNeverPull"),
        ("127.0.0.1:1/none:1", "IfNotPresent", "ImagePullBackOff"),
        ("Not An Image", "IfNotPresent", "InvalidImageName"),
    ],
)
async def test_says_why_an_image_can_not_be_had(cluster: HttpCluster, namespace: str, image: str, policy: str, reason: str) -> None:
    await cluster.create(JOBS, namespace, job("imageless", container={"image": image, "imagePullPolicy": policy}))

    def waits(pod: Pod) -> bool:
        return any(each.state.waiting and each.state.waiting.reason == reason for each in pod.status.container_statuses)

    pod = await until_pod(cluster, namespace, "imageless", waits)
    over = await cluster.get(JOBS, namespace, "imageless")
    found = diagnose(over, [pod], await cluster.list(EVENTS, namespace, fields="type=Warning"))
    assert found is not None
    assert found.reason in (reason, "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
    await cluster.delete(JOBS, namespace, "imageless")
    await until_gone(cluster, PODS, namespace, pod.metadata.name)


async def test_mounts_volumes_where_they_belong(cluster: HttpCluster, namespace: str) -> None:
    body = b'{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"word":"hunter2"}}'
    await cluster.call("POST", f"/api/v1/namespaces/{namespace}/secrets", "create Secret s", body=body)
    shared, secret = {"name": "shared", "mountPath": "/shared"}, {"name": "secret", "mountPath": "/secret"}
    base = {"image": "busybox", "imagePullPolicy": "IfNotPresent"}
    first = {"name": "first", **base, "command": ["sh", "-c", "echo made > /shared/file"], "volumeMounts": [shared]}
    pod = {"initContainers": [first], "volumes": [{"name": "shared", "emptyDir": {}}, {"name": "secret", "secret": {"secretName": "s"}}]}
    script = "cat /shared/file /secret/word; touch /secret/x 2> /dev/null || echo ' read-only'"
    manifest = job("volumes", script, container={"volumeMounts": [shared, secret]})
    manifest["spec"]["template"]["spec"] |= pod
    _, _, log = await ended(cluster, namespace, manifest)
    assert log == "made\nhunter2 read-only"


async def test_keeps_to_the_security_context(cluster: HttpCluster, namespace: str) -> None:
    security = {
        "runAsUser": 1234,
        "runAsGroup": 99,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "allowPrivilegeEscalation": False,
    }
    script = "id -u; id -g; touch /x 2> /dev/null || echo read-only; grep -E 'CapEff|NoNewPrivs' /proc/self/status; echo said > /dev/termination-log"
    _, pod, log = await ended(cluster, namespace, job("secure", script, container={"securityContext": security}))
    assert log.split("\n")[:2] == ["1234", "99"]
    assert "read-only" in log
    assert "CapEff:\t0000000000000000" in log
    assert "NoNewPrivs:\t1" in log
    end = pod.status.container_statuses[0].state.terminated
    assert end is not None
    assert end.message == "said\n"


async def test_a_deleted_pod_may_say_goodbye(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    script = 'trap "echo bye > /shared/end; exit 0" TERM; echo up; while :; do sleep 0.1; done'
    manifest = job("polite", script, container={"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]})
    volumes = [{"name": "shared", "hostPath": {"path": str(tmp_path)}}]
    manifest["spec"]["template"]["spec"] |= {"terminationGracePeriodSeconds": 30, "volumes": volumes}
    await cluster.create(JOBS, namespace, manifest)
    pod = await until_pod(cluster, namespace, "polite", is_running)
    async for line in cluster.logs(namespace, pod.metadata.name, follow=True):
        if line == "up":
            break
    await cluster.delete(JOBS, namespace, "polite")
    await until_gone(cluster, PODS, namespace, pod.metadata.name)
    assert (tmp_path / "end").read_text() == "bye\n"


async def test_a_container_that_does_not_listen_is_killed(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("deaf", 'trap "" TERM; while :; do sleep 1; done'))
    pod = await until_pod(cluster, namespace, "deaf", is_running)
    await cluster.delete(JOBS, namespace, "deaf")
    await until_gone(cluster, PODS, namespace, pod.metadata.name)


async def test_nothing_of_a_killed_cluster_goes_on(runtime: Name, tmp_path: Path) -> None:
    """kill -9 of the cluster: its containers end, also docker's, which are no children of ours."""
    daemon.start(tmp_path, runtime)
    async with open_cluster(connect(kubeconfig=str(tmp_path / "kubeconfig"))) as client:
        await client.create(JOBS, "default", job("endless", "sleep 1000"))
        await until_pod(client, "default", "endless", is_running)
    assert len(_containers(runtime, tmp_path)) == 1
    pid = daemon.running_pid(tmp_path)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while _containers(runtime, tmp_path):
        pass  # the warden is at it; the test's time limit bounds this


def _containers(runtime: Name, folder: Path) -> list[str]:
    words = [runtime, "ps", "--all", "--quiet", "--filter", f"label={LABEL}={label_of(folder)}"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
