"""The table of cases: what Kubernetes shows, and what we say of it."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from jobyard.model.diagnosis import Diagnosis, diagnose
from jobyard.model.objects import Container, Event, Job, Pod

Tree = dict[str, Any]


def job(*conditions: tuple[str, str, str], **status: Any) -> Job:
    listed = [{"type": kind, "status": "True", "reason": reason, "message": message} for kind, reason, message in conditions]
    annotations = status.pop("annotations", {})
    spec = {"backoffLimit": 2, "activeDeadlineSeconds": 30, "suspend": status.pop("suspend", False)}
    return msgspec.convert(
        {"metadata": {"name": "j", "annotations": annotations}, "spec": spec, "status": {"conditions": listed, **status}}, Job
    )


def pod(
    phase: str = "Pending",
    *,
    state: Tree | None = None,
    last: Tree | None = None,
    conditions: list[Tree] | None = None,
    init: bool = False,
    **status: Any,
) -> Pod:
    containers = [{"name": "main", "state": state or {}, "lastState": last or {}}]
    key = "initContainerStatuses" if init else "containerStatuses"
    return msgspec.convert(
        {
            "metadata": {"name": "p"},
            "spec": {"nodeName": "n1"},
            "status": {"phase": phase, key: containers, "conditions": conditions or [], **status},
        },
        Pod,
    )


def event(reason: str, message: str, name: str = "p", kind: str = "Pod") -> Event:
    return msgspec.convert(
        {
            "metadata": {"name": "e"},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "involvedObject": {"kind": kind, "name": name},
        },
        Event,
    )


def waiting(reason: str, message: str = "") -> Tree:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error", **more: Any) -> Tree:
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": "2026-01-01T00:00:00Z", **more}}


def unscheduled(message: str) -> list[Tree]:
    return [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]


def disrupted(reason: str) -> list[Tree]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m"}]


Case = tuple[str, Job, Pod | None, list[Event], str, str, str]


def pulled(case: str, message: str, sentence: str, image: str = "none:1") -> Case:
    """An image that can't be pulled."""
    waits = pod(state=waiting("ErrImagePull", message))
    spec = msgspec.structs.replace(waits.spec, containers=(Container(name="main", image=image),))
    return (case, ALIVE, msgspec.structs.replace(waits, spec=spec), [], "ErrImagePull", f"Could not fetch the program: {sentence}", ".")


FAILED = job(("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"), failed=1)
ALIVE = job()

CASES: list[Case] = [
    (
        "image pull",
        ALIVE,
        pod(state=waiting("ImagePullBackOff", 'Back-off pulling image "nope:1"')),
        [],
        "ImagePullBackOff",
        "Could not fetch the program: nope:1 can't be pulled.",
        "imagePullSecrets",
    ),
    (
        "image pull, first try",
        ALIVE,
        pod(state=waiting("ErrImagePull", "rpc error")),
        [],
        "ErrImagePull",
        "the image of container main can't be pulled.",
        "registry",
    ),
    (
        "image never pulled",
        ALIVE,
        pod(state=waiting("ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never')),
        [],
        "ErrImageNeverPull",
        "x is not on its node",
        "IfNotPresent",
    ),
    (
        "image name",
        ALIVE,
        pod(state=waiting("InvalidImageName", 'Failed to apply default image tag "A:B:C"')),
        [],
        "InvalidImageName",
        "the image of container main is not the name of an image",
        "image",
    ),
    (
        "secret",
        ALIVE,
        pod(state=waiting("CreateContainerConfigError", 'secret "pw" not found')),
        [],
        "SecretMissing",
        "Secret pw does not exist in this namespace.",
        "Create the Secret",
    ),
    (
        "config map",
        ALIVE,
        pod(state=waiting("CreateContainerConfigError", 'configmap "c" not found')),
        [],
        "ConfigMapMissing",
        "ConfigMap c does not exist",
        "Create the ConfigMap",
    ),
    (
        "key",
        ALIVE,
        pod(state=waiting("CreateContainerConfigError", "couldn't find key k in Secret ns/pw")),
        [],
        "SecretKeyMissing",
        "Secret pw has no key k",
        "Add the key",
    ),
    (
        "other config",
        ALIVE,
        pod(state=waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")),
        [],
        "RunsAsRoot",
        "Would run as root, which its runAsNonRoot forbids: container main has runAsNonRoot",
        "securityContext.runAsUser",
    ),
    (
        "secret volume",
        ALIVE,
        pod(),
        [event("FailedMount", 'MountVolume.SetUp failed for volume "v" : secret "pw" not found')],
        "SecretMissing",
        "Secret pw does not exist",
        "Create",
    ),
    (
        "volume",
        ALIVE,
        pod(),
        [event("FailedMount", "timed out waiting for the condition")],
        "FailedMount",
        "a volume of its pod is not ready.",
        "exists",
    ),
    (
        "claim",
        ALIVE,
        pod(conditions=unscheduled('0/1 nodes are available: persistentvolumeclaim "data" not found.')),
        [],
        "PersistentVolumeClaimMissing",
        "PersistentVolumeClaim data does not exist",
        "Create the claim",
    ),
    (
        "unbound claim",
        ALIVE,
        pod(conditions=unscheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")),
        [],
        "PersistentVolumeClaimUnbound",
        "has no volume yet",
        "storage class",
    ),
    (
        "no cpu, no memory",
        ALIVE,
        pod(conditions=unscheduled("0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.")),
        [],
        "Unschedulable",
        "no node has enough cpu and memory left",
        "resources.requests",
    ),
    (
        "taint",
        ALIVE,
        pod(conditions=unscheduled("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.")),
        [],
        "Unschedulable",
        "taints that it does not tolerate (gpu: yes)",
        "toleration",
    ),
    (
        "selector",
        ALIVE,
        pod(conditions=unscheduled("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")),
        [],
        "Unschedulable",
        "nodeSelector or affinity",
        "label a node",
    ),
    (
        "cordoned",
        ALIVE,
        pod(conditions=unscheduled("0/1 nodes are available: 1 node(s) were unschedulable.")),
        [],
        "Unschedulable",
        "cordoned",
        "Uncordon",
    ),
    (
        "full",
        ALIVE,
        pod(conditions=unscheduled("0/1 nodes are available: 1 Too many pods.")),
        [],
        "Unschedulable",
        "as many pods as it may",
        "Wait",
    ),
    (
        "quota",
        ALIVE,
        None,
        [event("FailedCreate", 'Error creating: pods "j-x" is forbidden: exceeded quota: q, requested: pods=1', "j", "Job")],
        "QuotaExceeded",
        "Waiting for room in the namespace's quota.",
        "raise the quota",
    ),
    (
        "admission",
        ALIVE,
        None,
        [event("FailedCreate", 'admission webhook "w" denied the request: no', "j", "Job")],
        "FailedCreate",
        "Refused by the cluster: admission webhook w says no: no.",
        "Change the Job",
    ),
    (
        "service account",
        ALIVE,
        None,
        [event("FailedCreate", 'error looking up service account ns/sa: serviceaccount "sa" not found', "j", "Job")],
        "ServiceAccountMissing",
        "ServiceAccount sa does not exist",
        "serviceAccountName",
    ),
    (
        "sandbox",
        ALIVE,
        pod(),
        [event("FailedCreatePodSandBox", "Failed to create pod sandbox: plugin type=ptp failed")],
        "FailedCreatePodSandBox",
        "Its node could not set it up",
        "problem of the node",
    ),
    (
        "start error",
        ALIVE,
        pod(state=waiting("RunContainerError", "exec: not found")),
        [],
        "StartError",
        "Could not start the program: container main can't be started.",
        "command",
    ),
    (
        "crash loop",
        ALIVE,
        pod("Running", state=waiting("CrashLoopBackOff", "back-off"), last=ended(2)),
        [],
        "ExitCode",
        "exited with code 2",
        "log",
    ),
    (
        "oom",
        FAILED,
        pod("Failed", state=ended(137, "OOMKilled")),
        [],
        "OOMKilled",
        "Ran out of memory: container main needed more than it may use.",
        "limits.memory",
    ),
    ("exit code", FAILED, pod("Failed", state=ended(3)), [], "ExitCode", "Container main exited with code 3.", "log"),
    ("not found", FAILED, pod("Failed", state=ended(127)), [], "ExitCode", "a command was not found", "image"),
    ("signal", FAILED, pod("Failed", state=ended(143)), [], "Signal", "ended by SIGTERM (exit code 143)", "asked it to stop"),
    ("segfault", FAILED, pod("Failed", state=ended(139)), [], "Signal", "SIGSEGV", "crashed"),
    (
        "start error at the end",
        FAILED,
        pod("Failed", state=ended(128, "StartError", message="exec: x: not found")),
        [],
        "StartError",
        "Could not start the program",
        "command",
    ),
    ("init container", FAILED, pod("Failed", state=ended(4), init=True), [], "ExitCode", "exited with code 4", "log"),
    (
        "evicted",
        FAILED,
        pod("Failed", reason="Evicted", message="The node was low on resource: memory."),
        [],
        "Evicted",
        "Was evicted from its node: the node ran short of memory.",
        "resources.requests",
    ),
    (
        "evicted by api",
        FAILED,
        pod("Failed", state=ended(143), conditions=disrupted("EvictionByEvictionAPI")),
        [],
        "Evicted",
        "Was evicted from its node.",
        "requests",
    ),
    (
        "preempted",
        FAILED,
        pod("Failed", state=ended(143), conditions=disrupted("PreemptionByScheduler")),
        [],
        "Preempted",
        "higher priority",
        "priorityClassName",
    ),
    (
        "node lost",
        FAILED,
        pod("Failed", conditions=disrupted("DeletionByTaintManager")),
        [],
        "NodeLost",
        "Lost its node: node n1 went away",
        "run it again",
    ),
    (
        "deadline",
        job(("Failed", "DeadlineExceeded", "m")),
        None,
        [],
        "DeadlineExceeded",
        "Took longer than the 30s it may take (activeDeadlineSeconds).",
        "activeDeadlineSeconds",
    ),
    (
        "deadline while stuck",
        job(("Failed", "DeadlineExceeded", "m")),
        None,
        [event("FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu.")],
        "DeadlineExceeded",
        "longer than",
        "Ask for less",
    ),
    (
        "backoff without pods",
        job(("Failed", "BackoffLimitExceeded", "m")),
        None,
        [],
        "BackoffLimitExceeded",
        "Failed more often than it is allowed to: its pods are deleted",
        "Run it again",
    ),
    (
        "pod failure policy",
        job(("Failed", "PodFailurePolicy", "Container main for pod ns/p failed with exit code 42")),
        None,
        [],
        "PodFailurePolicy",
        "Failed in a way that is not tried again",
        "",
    ),
    ("suspended", job(suspend=True), None, [], "Suspended", "Suspended: Kubernetes starts no pods for it.", "kubectl patch job j"),
    (
        "timeout",
        job(("Suspended", "JobSuspended", "m"), suspend=True, annotations={"jobyard.dev/stop": "Timeout"}),
        None,
        [event("Failed", 'Failed to pull image "x"')],
        "Timeout",
        "Took longer than its timeout allows, so Jobyard stopped it. Before that: Could not fetch the program: x can't be pulled.",
        "imagePullSecrets if it requires a login, then run it again.",
    ),
    # --- words that the node of our tests does not say: of other runtimes, registries, clusters ---
    pulled(
        "Docker Hub, in newer words",
        'failed to pull and unpack image "docker.io/library/none:1": failed to resolve reference "docker.io/library/none:1": pull access denied, '
        "repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
        "Docker Hub requires a login for none:1, or there is no such image.",
    ),
    pulled(
        "too many pulls, in newer words",
        "failed to copy: httpReadSeeker: failed open: unexpected status from GET request to https://registry-1.docker.io/v2/library/none/manifests/1: "
        "429 Too Many Requests: toomanyrequests: You have reached your unauthenticated pull rate limit.",
        "Docker Hub refuses for now: too many pulls (rate limit).",
    ),
    pulled("CRI-O", "reading manifest 1 in docker.io/library/none: manifest unknown", "version 1 of none does not exist."),
    pulled(
        "a certificate that the node does not know",
        'failed to do request: Head "https://r.example.com/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority',
        "its node does not trust r.example.com.",
        image="r.example.com/a/none:1",
    ),
    pulled(
        "by digest",
        "rpc error: code = NotFound desc = failed to pull and unpack image: not found",
        "version sha256:0123456789ab of r.example.com/none does not exist.",
        image="r.example.com/none@sha256:0123456789abcdef",
    ),
    (
        "no command",
        ALIVE,
        pod(state=waiting("CreateContainerError", "failed to generate container spec: no command specified")),
        [],
        "StartError",
        "has no command, and neither has its container.",
        "Say what to run",
    ),
    (
        "another kind of machine",
        FAILED,
        pod("Failed", state=ended(128, "StartError", message='exec: "/app": exec format error')),
        [],
        "StartError",
        "/app in the image of container main is not made for its node's kind of machine.",
        "Build the image",
    ),
    (
        "a user by name",
        ALIVE,
        pod(
            state=waiting(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
            )
        ),
        [],
        "RunsAsRoot",
        "the image's user is app, which may be root.",
        "runAsUser",
    ),
    (
        "a volume of another node",
        ALIVE,
        pod(),
        [event("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other')],
        "FailedMount",
        "volume pvc-1 is in use on another node.",
        "until the other pod has ended",
    ),
    (
        "a hook that does not answer",
        ALIVE,
        None,
        [event("FailedCreate", 'Internal error occurred: failed calling webhook "w.example.com": context deadline exceeded', "j", "Job")],
        "FailedCreate",
        "admission webhook w.example.com does not answer.",
        "Kubernetes keeps trying",
    ),
    (
        "a node without AppArmor",
        FAILED,
        pod("Failed", reason="AppArmor", message="Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"),
        [],
        "AppArmor",
        "Its node refused its pod (AppArmor): cannot enforce AppArmor: AppArmor is not enabled on the host.",
        "appArmorProfile",
    ),
    (
        "a node that is full after all",
        FAILED,
        pod(
            "Failed",
            reason="OutOfcpu",
            message="Pod was rejected: Node didn't have enough resource: cpu, requested: 2000, used: 1, capacity: 2000",
        ),
        [],
        "OutOfcpu",
        "Its node refused its pod (OutOfcpu): node didn't have enough resource: cpu",
        "Run it again",
    ),
    (
        "a readiness probe ends nothing",
        FAILED,
        pod("Failed", state=ended(137)),
        [event("Unhealthy", "Readiness probe failed: ")],
        "Signal",
        "Container main was ended by SIGKILL (exit code 137).",
        "its node ran out of memory",
    ),
    (
        "cancelled",
        job(("Suspended", "JobSuspended", "m"), suspend=True, annotations={"jobyard.dev/stop": "Cancelled"}),
        None,
        [],
        "Cancelled",
        "Cancelled.",
        "",
    ),
]


def diagnosed(case: Case) -> Diagnosis:
    _, of, its_pod, events, *_ = case
    found = diagnose(of, [its_pod] if its_pod else [], events)
    assert found is not None
    return found


@pytest.mark.parametrize("case", CASES, ids=[case[0].replace(" ", "-") for case in CASES])
def test_case(case: Case) -> None:
    found, (*_, reason, sentence, remedy) = diagnosed(case), case
    assert found.reason == reason
    assert sentence in found.sentence
    assert remedy in found.remedy


def test_a_job_that_is_well_needs_no_diagnosis() -> None:
    assert diagnose(job(("Complete", "CompletionsReached", "m")), [pod("Succeeded", state=ended(0, "Completed"))]) is None
    assert diagnose(job(ready=1), [pod("Running", state={"running": {}})]) is None
    assert diagnose(None) is None


def test_what_came_before_a_timeout_is_told_though_the_pods_are_gone() -> None:
    stopped = job(("Suspended", "JobSuspended", "m"), suspend=True, annotations={"jobyard.dev/stop": "Timeout"})
    found = diagnose(stopped, [], [event("Failed", 'Failed to pull image "x"')])
    assert found is not None
    assert found.sentence.endswith(" Before that: Could not fetch the program: x can't be pulled.")
    assert found.detail == 'Failed to pull image "x"'


@pytest.mark.parametrize(
    "case", [case for case in CASES if case[1] in (ALIVE,) and case[2] is not None], ids=lambda case: case[0].replace(" ", "-")
)
def test_after_a_start_timeout_the_cause_comes_first_and_nothing_goes_on_by_itself(case: Case) -> None:
    _, _, its_pod, events, *_ = case
    stopped = job(("Suspended", "JobSuspended", "m"), suspend=True, annotations={"jobyard.dev/stop": "StartTimeout"})
    waits = diagnose(ALIVE, [its_pod] if its_pod else [], events)
    found = diagnose(stopped, [its_pod] if its_pod else [], events)
    assert found is not None
    if waits is not None and waits.exit_code is None:
        assert found.sentence == f"Did not start within its startTimeout, so Jobyard stopped it. Before that: {waits.sentence}"
        assert "run it again" in found.remedy
        assert found.detail == waits.detail
    assert not re.search("by itself|keeps trying", found.remedy)


def test_what_a_program_said_is_not_told_of_a_timeout() -> None:
    its_pod = pod("Running", state={"waiting": {"reason": "CrashLoopBackOff"}}, last={"terminated": {"exitCode": 1, "message": "secret"}})
    stopped = job(("Suspended", "JobSuspended", "m"), suspend=True, annotations={"jobyard.dev/stop": "StartTimeout"})
    found = diagnose(stopped, [its_pod], [])
    assert found is not None
    assert "exited with code 1" in found.sentence
    assert "secret" not in f"{found.sentence}{found.detail}{found.remedy}"


def test_the_api_s_own_volume_is_late_at_nearly_every_start() -> None:
    late = (
        'MountVolume.SetUp failed for volume "kube-api-access-7zx2c" : failed to sync configmap cache: timed out waiting for the condition'
    )
    assert diagnose(ALIVE, [pod()], [event("FailedMount", late)]) is None
    assert diagnose(ALIVE, [pod()], [event("FailedMount", late.replace("kube-api-access-7zx2c", "data"))]) is not None


@pytest.mark.parametrize(
    ("told", "before"),
    [
        (
            event("FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu."),
            "Waiting for cpu on the cluster: no node has enough cpu left.",
        ),
        (
            event("FailedMount", 'MountVolume.SetUp failed for volume "v" : secret "pw" not found'),
            "Secret pw does not exist in this namespace.",
        ),
        (event("Failed", 'Error: configmap "c" not found'), "ConfigMap c does not exist in this namespace."),
    ],
)
def test_what_warnings_tell_of_a_pod_that_is_gone_is_said_in_the_same_words(told: Event, before: str) -> None:
    found = diagnose(job(("Failed", "DeadlineExceeded", "m")), [], [told])
    assert found is not None
    assert found.sentence.endswith(f" Before that: {before}")
    assert found.detail == told.message


def test_other_warnings_are_quoted() -> None:
    found = diagnose(job(("Failed", "DeadlineExceeded", "m")), [], [event("Failed", "Error: no idea"), event("MissingClusterDNS", "m")])
    assert found is not None
    assert found.detail == "Before that, Kubernetes warned: Error: no idea"


def test_success_target_conditions_are_not_the_end() -> None:
    assert diagnose(job(("FailureTarget", "BackoffLimitExceeded", "m")), [pod("Running", state={"running": {}})]) is None


@pytest.mark.parametrize(
    ("image", "host", "remedy"),
    [
        ("none:1", "Docker Hub", "Ask whoever runs the cluster why its nodes can't find it."),
        (
            "r.example/none:1",
            "r.example",
            "Correct the host in the image's name, or ask whoever runs the cluster why its nodes can't find it.",
        ),
    ],
)
def test_a_registry_that_the_node_can_t_find(image: str, host: str, remedy: str) -> None:
    said = f'failed to pull "{image}": dial tcp: lookup registry-1.docker.io: no such host'
    both = [("ErrImagePull", said), ("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {said}')]
    pods = [pod(state=waiting(reason, message)) for reason, message in both]
    pods = [
        msgspec.structs.replace(each, spec=msgspec.structs.replace(each.spec, containers=(Container(name="main", image=image),)))
        for each in pods
    ]
    first, second = (diagnose(ALIVE, [each]) for each in pods)
    assert first is not None
    assert second is not None
    assert (first.sentence, first.remedy) == (f"Could not fetch the program: the node can't find {host} (DNS).", remedy)
    assert (second.sentence, second.remedy, second.detail) == (first.sentence, first.remedy, first.detail), "said once"


def test_a_container_without_a_command_on_the_local_cluster_is_not_told_that_its_image_lacks_a_program() -> None:
    no_command = "unable to start container process: no command specified: the local cluster's processes have no image, so the container must name one"
    found = diagnose(FAILED, [pod("Failed", state=ended(128, "StartError", message=no_command))])
    assert found is not None
    assert "container main names no command, and the local cluster's processes have no image that would." in found.sentence
    assert "does not exist" not in found.sentence
    assert found.remedy.startswith("Say what to run in command")


def test_a_container_that_ended_with_its_cluster_is_told_so() -> None:
    its_pod = pod("Failed", state=ended(137, "ContainerStatusUnknown", message="The local cluster was stopped while it ran."))
    found = diagnose(FAILED, [its_pod])
    assert found is not None
    assert "Container main was cut short: the local cluster was stopped while it ran." in found.sentence
    assert "run it again" in found.remedy
    assert "memory" not in found.remedy
