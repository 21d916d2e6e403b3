"""What becomes of a Job: conditions, counts and pods, the same on every cluster."""

from __future__ import annotations

import asyncio

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.model.diagnosis import Diagnosis, diagnose
from jobyard.model.job import outputs
from jobyard.model.objects import EVENTS, JOBS, PODS, Job
from tests.manifests import job
from tests.waiting import BOUND, is_running, until, until_ended, until_gone, until_pod


def conditions(ended: Job) -> list[tuple[str, str, str | None]]:
    return [(each.type, each.status, each.reason) for each in ended.status.conditions]


async def explain(cluster: HttpCluster, namespace: str, ended: Job) -> Diagnosis:
    name = ended.metadata.name
    pods = await cluster.list(PODS, namespace, labels=f"batch.kubernetes.io/job-name={name}")
    found = diagnose(ended, pods, await cluster.list(EVENTS, namespace, fields="type=Warning"))
    assert found is not None
    return found


async def test_a_good_job_is_complete(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "echo '{\"rows\": 3}' > /dev/termination-log"))
    ended = await until_ended(cluster, namespace, "a")
    assert conditions(ended) == [("SuccessCriteriaMet", "True", "CompletionsReached"), ("Complete", "True", "CompletionsReached")]
    assert (ended.status.succeeded, ended.status.active, ended.status.failed, ended.status.ready) == (1, None, None, 0)
    assert ended.status.completion_time is not None
    assert outputs(await cluster.list(PODS, namespace, labels="batch.kubernetes.io/job-name=a")) == {"rows": 3}


async def test_a_bad_job_is_failed(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "echo oops; exit 3"))
    ended = await until_ended(cluster, namespace, "a")
    assert conditions(ended) == [("FailureTarget", "True", "BackoffLimitExceeded"), ("Failed", "True", "BackoffLimitExceeded")]
    assert (ended.status.succeeded, ended.status.failed) == (None, 1)
    found = await explain(cluster, namespace, ended)
    assert (found.reason, found.exit_code, found.sentence) == ("ExitCode", 3, "Container main exited with code 3.")


async def test_a_signal_is_told_as_one(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "sh -c 'kill -9 $$$$'; exit $?"))
    found = await explain(cluster, namespace, await until_ended(cluster, namespace, "a"))
    assert (found.reason, found.exit_code) == ("Signal", 137)


async def test_a_command_that_is_not_there(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", container={"command": ["no-such-program"]}))
    found = await explain(cluster, namespace, await until_ended(cluster, namespace, "a"))
    assert found.reason in ("StartError", "ContainerCannotRun")
    assert "no-such-program" in found.detail


async def test_a_pod_is_made_again_after_a_failure(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "exit 1", backoffLimit=1))
    ended = await until_ended(cluster, namespace, "a")
    assert ended.status.failed == 2
    assert "It was tried 2 times" in (await explain(cluster, namespace, ended)).sentence


async def test_a_deadline_ends_a_job(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "sleep 60", activeDeadlineSeconds=1))
    ended = await until_ended(cluster, namespace, "a")
    assert conditions(ended) == [("FailureTarget", "True", "DeadlineExceeded"), ("Failed", "True", "DeadlineExceeded")]
    assert (await explain(cluster, namespace, ended)).reason == "DeadlineExceeded"


async def test_a_job_can_be_suspended_and_resumed(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "sleep 1", suspend=True))
    suspended = await until(cluster, JOBS, namespace, "a", lambda each: bool(each.status.conditions))
    assert conditions(suspended) == [("Suspended", "True", "JobSuspended")]
    assert suspended.status.start_time is None
    await cluster.patch(JOBS, namespace, "a", {"spec": {"suspend": False}})
    ended = await until_ended(cluster, namespace, "a")
    assert conditions(ended)[0] == ("Suspended", "False", "JobResumed")


async def test_suspending_stops_what_runs(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "sleep 60"))
    pod = await until_pod(cluster, namespace, "a", is_running)
    await cluster.patch(JOBS, namespace, "a", {"spec": {"suspend": True}})
    await until_gone(cluster, PODS, namespace, pod.metadata.name)
    stopped = await until(cluster, JOBS, namespace, "a", lambda each: not each.status.active and not each.status.terminating)
    assert (stopped.status.failed, stopped.status.succeeded) == (None, None)


async def test_completions_and_parallelism(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "sleep 0.5", completions=3, parallelism=2))
    most = 0
    async with asyncio.timeout(BOUND):
        async for change in cluster.watch(JOBS, namespace):
            if change.object:
                most = max(most, change.object.status.active or 0)
                if any(each.type == "Complete" for each in change.object.status.conditions):
                    break
    assert most == 2
    assert (await cluster.get(JOBS, namespace, "a")).status.succeeded == 3


async def test_an_indexed_job_tells_each_pod_its_index(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(
        JOBS, namespace, job("a", "echo index $JOB_COMPLETION_INDEX", completions=3, parallelism=3, completionMode="Indexed")
    )
    await until_ended(cluster, namespace, "a")
    pods = await cluster.list(PODS, namespace, labels="batch.kubernetes.io/job-name=a")
    lines = sorted([line for pod in pods async for line in cluster.logs(namespace, pod.metadata.name)])
    assert lines == ["index 0", "index 1", "index 2"]
    assert sorted(pod.metadata.name.rsplit("-", 1)[0] for pod in pods) == ["a-0", "a-1", "a-2"]


async def test_a_finished_job_goes_after_its_ttl(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", ttlSecondsAfterFinished=1))
    await until_ended(cluster, namespace, "a")
    await until_gone(cluster, JOBS, namespace, "a")
    pods = await cluster.list(PODS, namespace, labels="batch.kubernetes.io/job-name=a")
    for pod in pods:
        await until_gone(cluster, PODS, namespace, pod.metadata.name)


@pytest.mark.bubblewrap
async def test_on_failure_restarts_in_the_same_pod(cluster: HttpCluster, namespace: str) -> None:
    script = "test -e /scratch/again && exit 0; touch /scratch/again; exit 1"
    volume = {"volumes": [{"name": "scratch", "emptyDir": {}}], "restartPolicy": "OnFailure"}
    await cluster.create(
        JOBS,
        namespace,
        job("a", script, pod=volume, container={"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}, backoffLimit=3),
    )
    ended = await until_ended(cluster, namespace, "a")
    assert (ended.status.succeeded, ended.status.failed) == (1, None)
    pods = await cluster.list(PODS, namespace, labels="batch.kubernetes.io/job-name=a")
    assert [pod.status.container_statuses[0].restart_count for pod in pods] == [1]


async def test_init_containers_run_first_and_their_failure_fails_the_pod(cluster: HttpCluster, namespace: str) -> None:
    init = {"name": "first", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "exit 4"]}
    await cluster.create(JOBS, namespace, job("a", pod={"initContainers": [init]}))
    ended = await until_ended(cluster, namespace, "a")
    found = await explain(cluster, namespace, ended)
    assert (found.container, found.exit_code) == ("first", 4)


async def test_a_pod_with_one_container_needs_no_name_for_its_log_and_has_its_own_as_hostname(cluster: HttpCluster, namespace: str) -> None:
    init = {"name": "first", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "echo not this"]}
    await cluster.create(JOBS, namespace, job("a", "echo $HOSTNAME", pod={"initContainers": [init]}))
    await until_ended(cluster, namespace, "a")
    pod = (await cluster.list(PODS, namespace, labels="batch.kubernetes.io/job-name=a"))[0]
    assert [line async for line in cluster.logs(namespace, pod.metadata.name)] == [pod.metadata.name]


async def test_a_missing_secret_is_named_and_the_pod_starts_once_it_is_there(cluster: HttpCluster, namespace: str) -> None:
    env = [{"name": "P", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "p"}}}]
    await cluster.create(JOBS, namespace, job("a", "echo $P", container={"env": env}))
    await until_pod(
        cluster,
        namespace,
        "a",
        lambda pod: any(
            each.state.waiting and each.state.waiting.reason == "CreateContainerConfigError" for each in pod.status.container_statuses
        ),
    )
    found = await explain(cluster, namespace, await cluster.get(JOBS, namespace, "a"))
    assert (found.reason, found.sentence) == ("ConfigMapMissing", "ConfigMap settings does not exist in this namespace.")
    from jobyard.model.objects import CONFIG_MAPS

    await cluster.create(CONFIG_MAPS, namespace, {"metadata": {"name": "settings"}, "data": {"p": "hello"}})
    await until_ended(cluster, namespace, "a")
    pods = await cluster.list(PODS, namespace, labels="batch.kubernetes.io/job-name=a")
    assert [line async for line in cluster.logs(namespace, pods[0].metadata.name)] == ["hello"]


async def test_a_service_account_that_is_not_there(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", pod={"serviceAccountName": "nobody"}))
    async with asyncio.timeout(BOUND):
        async for change in cluster.watch(EVENTS, namespace, fields="reason=FailedCreate"):
            if change.object is not None:
                break
    found = await explain(cluster, namespace, await cluster.get(JOBS, namespace, "a"))
    assert (found.reason, found.sentence) == ("ServiceAccountMissing", "ServiceAccount nobody does not exist in this namespace.")


async def test_a_pod_deleted_by_hand_counts_as_a_failure(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "sleep 60", backoffLimit=6))
    pod = await until_pod(cluster, namespace, "a", is_running)
    await cluster.delete(PODS, namespace, pod.metadata.name)
    await until(cluster, JOBS, namespace, "a", lambda each: (each.status.failed or 0) == 1)
