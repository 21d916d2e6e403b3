"""A pod's status to reason, sentence, detail, remedy: why it failed, or why it does not start."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobyard.model.objects import ContainerStatus, Event, Pod, Terminated, condition

LOG_TELLS_MORE = "Its log tells more."
"""A remedy that whoever tells it follows up with the end of the log, or the command that prints it."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why something is not running, or failed."""

    reason: str
    sentence: str
    detail: str = ""
    remedy: str = ""
    pod: str = ""
    container: str = ""
    exit_code: int | None = None

    @property
    def has_log(self) -> bool:
        """Whether a container ran that may have written something."""
        return bool(self.container) and (self.exit_code is not None or self.remedy == LOG_TELLS_MORE)


# --- a pod that failed ---


def failed_pod(pod: Pod) -> Diagnosis | None:
    disrupted = condition(pod.status.conditions, "DisruptionTarget")
    name = pod.metadata.name
    if disrupted and disrupted.reason == "PreemptionByScheduler":
        return Diagnosis(
            reason="Preempted",
            sentence="Its pod had to make room for one of higher priority.",
            detail=disrupted.message or "",
            remedy="Give the Job a higher priorityClassName, or run it when the cluster is calmer.",
            pod=name,
        )
    if pod.status.reason == "NodeLost" or (disrupted and disrupted.reason in ("DeletionByTaintManager", "DeletionByPodGC")):
        return Diagnosis(
            reason="NodeLost",
            sentence=f"The node {pod.spec.node_name or 'of its pod'} was lost, and its pod with it.",
            detail=(disrupted.message if disrupted else pod.status.message) or "",
            remedy="Nothing is wrong with the Job: run it again, or let it retry (backoffLimit).",
            pod=name,
        )
    if pod.status.reason == "Evicted" or (disrupted and disrupted.reason in ("TerminationByKubelet", "EvictionByEvictionAPI")):
        return Diagnosis(
            reason="Evicted",
            sentence="Its pod was evicted from its node.",
            detail=pod.status.message or (disrupted.message if disrupted else "") or "",
            remedy="If the node ran short of memory or disk, set resources.requests to what the Job needs; then run it again.",
            pod=name,
        )
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        ended = status.state.terminated or (status.last_state.terminated if status.state.waiting else None)
        if ended and (ended.exit_code != 0 or ended.reason == "OOMKilled"):
            return _terminated(pod, status, ended)
    if pod.status.phase == "Failed":
        return Diagnosis(
            reason=pod.status.reason or "PodFailed",
            sentence="Its pod failed.",
            detail=pod.status.message or "",
            remedy=f"See kubectl describe pod {name}",
            pod=name,
        )
    return None


def _terminated(pod: Pod, status: ContainerStatus, ended: Terminated) -> Diagnosis:
    name, code = status.name, ended.exit_code
    make = maker(pod=pod.metadata.name, container=name, detail=(ended.message or "").strip(), exit_code=code)
    if ended.reason == "OOMKilled":
        return make(
            "OOMKilled",
            f"Container {name} used more memory than its limit and was killed.",
            "Raise resources.limits.memory, or make it use less.",
        )
    if ended.reason in ("StartError", "ContainerCannotRun") or (
        code in (126, 127) and ended.reason != "Completed" and not ended.started_at
    ):
        return make(ended.reason or "StartError", f"Container {name} could not be started.", "Check its command, args and workingDir.")
    number = ended.signal or (code - 128 if 128 < code < 160 else 0)
    if number:
        return make(
            "Signal",
            f"Container {name} was ended by {_signal(number)} (exit code {code}).",
            _SIGNAL_REMEDY.get(number, LOG_TELLS_MORE),
        )
    if code == 127:
        return make(
            "ExitCode",
            f"Container {name} exited with code 127: a command was not found.",
            "Check command and args, and that the image has the program.",
        )
    if code == 126:
        return make(
            "ExitCode", f"Container {name} exited with code 126: a command could not be run.", "Check that the program may be executed."
        )
    return make("ExitCode", f"Container {name} exited with code {code}.", LOG_TELLS_MORE)


_SIGNAL_REMEDY: dict[int, str] = {
    signal.SIGKILL: "Nobody gave it time to end: often memory ran out on the node, or it did not stop in its grace period.",
    signal.SIGTERM: "Something asked it to stop: a deletion, an eviction, or a node that was drained.",
    signal.SIGSEGV: "The program crashed: a bug in it, or a library that does not fit the machine.",
}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# --- a pod that does not start ---


def waiting_pod(pod: Pod, warnings: Sequence[Event]) -> Diagnosis | None:
    unscheduled = next((c for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "False"), None)
    if unscheduled and pod.status.phase == "Pending":
        return no_node(unscheduled.message or "", pod.metadata.name)
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        rule = _WAITING.get(waiting.reason or "") if waiting else None
        if waiting and rule:
            return rule(pod, status, waiting.message or "")
    if pod.status.phase != "Pending":
        return None
    for event in warnings:
        rule_for_event = _EVENTS.get(event.reason or "")
        if rule_for_event:
            return rule_for_event(pod, event.message or "")
    return None


_Rule = Callable[[Pod, ContainerStatus, str], Diagnosis]
_Make = Callable[[str, str, str], Diagnosis]


def maker(*, pod: str, container: str, detail: str, exit_code: int | None = None) -> _Make:
    """A short way to say a Diagnosis: reason, sentence, remedy."""

    def make(reason: str, sentence: str, remedy: str) -> Diagnosis:
        return Diagnosis(reason=reason, sentence=sentence, remedy=remedy, detail=detail, pod=pod, container=container, exit_code=exit_code)

    return make


def _image(reason: str) -> _Rule:
    def rule(pod: Pod, status: ContainerStatus, message: str) -> Diagnosis:
        make = maker(pod=pod.metadata.name, container=status.name, detail=message)
        quoted = re.search(r'image "([^"]+)"', message)
        image = f"The image {quoted[1]}" if quoted else f"The image of container {status.name}"
        if reason == "ErrImageNeverPull":
            return make(
                reason,
                f"{image} is not on the node, and imagePullPolicy is Never.",
                "Put the image on the node, or set imagePullPolicy to IfNotPresent.",
            )
        if reason == "InvalidImageName":
            return make(reason, f"{image} has a name that is none.", "Correct the container's image.")
        return make(
            reason,
            f"{image} cannot be pulled.",
            "Check its name and tag, that the registry can be reached, and imagePullSecrets if it wants a login.",
        )

    return rule


def _config(pod: Pod, status: ContainerStatus, message: str) -> Diagnosis:
    make = maker(pod=pod.metadata.name, container=status.name, detail=message)
    missing_key = re.search(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)", message)
    if missing_key:
        key, kind, name = missing_key.groups()
        return make(
            f"{kind}KeyMissing",
            f"{kind} {name.split('/')[-1]} has no key {key}, which container {status.name} wants.",
            f"Add the key to the {kind}.",
        )
    missing = re.search(r'(secret|configmap) "([^"]+)" not found', message)
    if missing:
        kind = "Secret" if missing[1] == "secret" else "ConfigMap"
        return _missing(make, kind, missing[2])
    return make(
        "CreateContainerConfigError",
        f"Container {status.name} has a configuration that can't be used.",
        "Check its env, envFrom and securityContext.",
    )


def _missing(make: _Make, kind: str, name: str) -> Diagnosis:
    return make(
        f"{kind}Missing",
        f"{kind} {name} does not exist in this namespace.",
        f"Create the {kind}, or correct its name; the pod then starts by itself.",
    )


def _start_error(pod: Pod, status: ContainerStatus, message: str) -> Diagnosis:
    make = maker(pod=pod.metadata.name, container=status.name, detail=message)
    return make("StartError", f"Container {status.name} cannot be started.", "Check its command, args, workingDir and volumes.")


def _crash_loop(pod: Pod, status: ContainerStatus, message: str) -> Diagnosis:
    ended = status.last_state.terminated
    if ended:
        return _terminated(pod, status, ended)
    make = maker(pod=pod.metadata.name, container=status.name, detail=message)
    return make("CrashLoopBackOff", f"Container {status.name} ends again and again; Kubernetes waits longer each time.", LOG_TELLS_MORE)


_WAITING: dict[str, _Rule] = {
    **{
        reason: _image(reason)
        for reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
    },
    "CreateContainerConfigError": _config,
    "CreateContainerError": _start_error,
    "RunContainerError": _start_error,
    "CrashLoopBackOff": _crash_loop,
}


def _mount(pod: Pod, message: str) -> Diagnosis:
    make = maker(pod=pod.metadata.name, container="", detail=message)
    missing = re.search(r'(secret|configmap) "([^"]+)" not found', message)
    if missing:
        return _missing(make, "Secret" if missing[1] == "secret" else "ConfigMap", missing[2])
    return make("FailedMount", "A volume of its pod cannot be mounted.", "Check the volumes of the pod, and that what they name exists.")


def _sandbox(pod: Pod, message: str) -> Diagnosis:
    make = maker(pod=pod.metadata.name, container="", detail=message)
    return make(
        "FailedCreatePodSandBox",
        "The node could not set up the pod.",
        "This is the node's or its network's trouble, not the Job's: ask who runs the cluster.",
    )


_EVENTS: dict[str, Callable[[Pod, str], Diagnosis]] = {
    "FailedMount": _mount,
    "FailedAttachVolume": _mount,
    "FailedCreatePodSandBox": _sandbox,
}

_RESOURCE = re.compile(r"Insufficient ([\w./-]*\w)")


def no_node(message: str, pod: str) -> Diagnosis:
    """The scheduler says only in words what no node had; these words are its own, stable since 1.0."""
    make = maker(pod=pod, container="", detail=message)
    claim = re.search(r'persistentvolumeclaim "([^"]+)" not found', message)
    if claim:
        return make(
            "PersistentVolumeClaimMissing",
            f"PersistentVolumeClaim {claim[1]} does not exist in this namespace.",
            "Create the claim, or correct its name.",
        )
    if "unbound immediate PersistentVolumeClaims" in message:
        return make(
            "PersistentVolumeClaimUnbound",
            "A PersistentVolumeClaim of its pod has no volume yet.",
            "Check the claim's storage class and size.",
        )
    causes: list[str] = []
    remedies: list[str] = []
    if resources := sorted(set(_RESOURCE.findall(message))):
        causes.append(f"no node has enough {' and '.join(resources)} left")
        remedies.append("ask for less in resources.requests, or add nodes")
    if "Too many pods" in message:
        causes.append("every node runs as many pods as it may")
        remedies.append("wait until others end")
    if taints := sorted(set(re.findall(r"untolerated taint\(?s?\)? \{([^}]+)\}", message))):
        causes.append(f"nodes have taints that it does not tolerate ({'; '.join(taint.strip() for taint in taints)})")
        remedies.append("add a toleration")
    elif "untolerated taint" in message:
        causes.append("nodes have taints that it does not tolerate")
        remedies.append("add a toleration")
    if "node affinity/selector" in message or "node selector" in message:
        causes.append("no node has the labels that its nodeSelector or affinity wants")
        remedies.append("correct the nodeSelector, or label a node")
    if "unschedulable" in message:
        causes.append("nodes are cordoned")
        remedies.append("uncordon one")
    sentence = "No node fits: " + "; ".join(causes) + "." if causes else "No node fits its pod."
    remedy = "; ".join(remedies)
    return make("Unschedulable", sentence, f"{remedy[:1].upper()}{remedy[1:]}." if remedy else "See the detail.")
