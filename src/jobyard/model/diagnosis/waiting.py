"""Why a pod does not start."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from jobyard.model.cause import LOG_TELLS_MORE, Cause, Diagnosis, Make, maker
from jobyard.model.diagnosis import image
from jobyard.model.diagnosis.failed import terminated
from jobyard.model.diagnosis.node import no_node
from jobyard.model.diagnosis.start import not_started
from jobyard.model.objects import ContainerStatus, Event, Metadata, Pod, condition
from jobyard.model.words import sentence


def waiting_pod(pod: Pod, warnings: Sequence[Event]) -> Diagnosis | None:
    """What keeps this pod from running; None while it comes up as it should. `warnings` are those about it, the newest first."""
    unscheduled = next((each for each in pod.status.conditions if each.type == "PodScheduled" and each.status == "False"), None)
    if unscheduled and pod.status.phase == "Pending":
        return no_node(unscheduled.message or "", pod.metadata.name, pod) if unscheduled.reason != "SchedulingGated" else None
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting and (found := _held_back(waiting.reason or "", pod, status, waiting.message or "", warnings)):
            return found
    if pod.status.phase != "Pending" or condition(pod.status.conditions, "PodReadyToStartContainers"):
        return None  # what events told of its volumes and its network is over
    for event in warnings:
        rule = _EVENTS.get(event.reason or "")
        if rule:
            return rule(pod, event.message or "")
    return None


def _held_back(reason: str, pod: Pod, status: ContainerStatus, message: str, warnings: Sequence[Event]) -> Diagnosis | None:
    """By why a container waits, in Kubernetes' word."""
    match reason:
        case Cause.ERR_IMAGE_NEVER_PULL:
            return image.never_pulled(pod, status, message)
        case Cause.INVALID_IMAGE_NAME:
            return image.misnamed(pod, status, message)
        case _ if reason in image.REASONS:
            return image.not_pulled(reason, pod, status, message, warnings)
        case Cause.CONTAINER_CONFIG:
            return _config(pod, status, message)
        case "CreateContainerError" | "RunContainerError":
            return not_started(pod, status, message)
        case Cause.CRASH_LOOP:
            return _crash_loop(pod, status, message, warnings)
    return None


def _config(pod: Pod, status: ContainerStatus, message: str) -> Diagnosis:
    make = maker(pod=pod.metadata.name, container=status.name, detail=message)
    if missing_key := re.search(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)", message):
        key, kind, name = missing_key.groups()
        cause = Cause.SECRET_KEY_MISSING if kind == "Secret" else Cause.CONFIG_MAP_KEY_MISSING
        return make(
            cause,
            f"{kind} {name.split('/')[-1]} has no key {key}, which container {status.name} needs.",
            f"Add the key to the {kind}, or correct its name; the pod then starts by itself.",
        )
    if found := _missing(make, message):
        return found
    if "runAsNonRoot" in message:
        named = re.search(r"non-numeric user \((\S+?)\)", message)
        known = (
            f"the image's user is {named[1]}, which may be root"
            if named
            else f"container {status.name} has runAsNonRoot, and its image's user is root"
        )
        return make(
            Cause.RUNS_AS_ROOT,
            sentence(Cause.RUNS_AS_ROOT, known),
            "Set securityContext.runAsUser to a number above 0, or use an image that has a user of its own.",
        )
    if unset := re.search(r"missing value for (\w+)", message):
        return make(
            Cause.CONTAINER_CONFIG,
            sentence(Cause.CONTAINER_CONFIG, f"container {status.name} has no variable {unset[1]}, which a subPathExpr names"),
            "Set the variable in env, or correct the subPathExpr.",
        )
    return make(
        Cause.CONTAINER_CONFIG,
        sentence(Cause.CONTAINER_CONFIG, f"container {status.name} is configured in a way that its node can't carry out"),
        "Check its env, envFrom, volumeMounts and securityContext.",
    )


def _missing(make: Make, message: str) -> Diagnosis | None:
    """A Secret or ConfigMap that is not there."""
    found = re.search(r'(secret|configmap) "([^"]+)" not found', message)
    if not found:
        return None
    kind, cause = ("Secret", Cause.SECRET_MISSING) if found[1] == "secret" else ("ConfigMap", Cause.CONFIG_MAP_MISSING)
    return make(
        cause,
        f"{kind} {found[2]} does not exist in this namespace.",
        f"Create the {kind}, or correct its name; the pod then starts by itself.",
    )


def _crash_loop(pod: Pod, status: ContainerStatus, message: str, warnings: Sequence[Event]) -> Diagnosis:
    ended = status.last_state.terminated
    if ended:
        return terminated(pod, status, ended, warnings)
    make = maker(pod=pod.metadata.name, container=status.name, detail=message)
    return make(
        Cause.CRASH_LOOP, sentence(Cause.CRASH_LOOP, f"container {status.name} keeps failing; each restart waits longer"), LOG_TELLS_MORE
    )


def _mount(pod: Pod, message: str) -> Diagnosis:
    message = " ".join(message.split())
    make = maker(pod=pod.metadata.name, detail=message)
    if found := _missing(make, message):
        return found
    named = re.search(r'volume "([^"]+)"', message)
    volume = f"volume {named[1]}" if named else "a volume of its pod"
    if lacking := re.search(r"(secret|configmap) references non-existent (?:secret|config) key: (\S+)", message):
        kind, cause = ("Secret", Cause.SECRET_KEY_MISSING) if lacking[1] == "secret" else ("ConfigMap", Cause.CONFIG_MAP_KEY_MISSING)
        remedy = f"Add the key to the {kind}, or correct the volume's items; the pod then starts by itself."
        return make(cause, f"The {kind} of {volume} has no key {lacking[2]}, which the volume needs.", remedy)
    known, remedy = _volume(volume, message)
    return make(Cause.FAILED_MOUNT, sentence(Cause.FAILED_MOUNT, known), remedy)


def _volume(volume: str, message: str) -> tuple[str, str]:
    if path := re.search(r"hostPath type check failed: (\S+) is not (.+)", message):
        return (
            f"{path[1]} on its node, which {volume} needs, is not {path[2].strip()}",
            "Correct hostPath (path, type), or have it made on the node.",
        )
    if driver := re.search(r"driver name (\S+) not found in the list of registered CSI drivers", message):
        return (
            f"the storage driver {driver[1]} of {volume} is not on its node",
            "Correct the driver's name, or ask whoever runs the cluster to install it.",
        )
    if "Multi-Attach" in message or "already used by pod" in message or "already exclusively attached" in message:
        return (
            f"{volume} is in use on another node",
            "Wait until the other pod has ended, or use a volume that several nodes may mount; it then starts by itself.",
        )
    if "mount failed" in message or "Mounting command" in message:
        return (
            f"its node can't mount {volume}",
            "Check server and path of the volume, and that its node has the programs for that file system.",
        )
    if "timed out waiting" in message:
        return f"{volume} is not ready", "Check what the volume names, and that it exists."
    return f"{volume} can't be mounted", "Check the volumes of the pod, and that what they name exists."


def _sandbox(pod: Pod, message: str) -> Diagnosis:
    make = maker(pod=pod.metadata.name, detail=message)
    if "RuntimeHandler" in message or "no runtime for" in message:
        return make(
            Cause.SANDBOX,
            sentence(Cause.SANDBOX, "it does not have the runtime that runtimeClassName asks for"),
            "Correct runtimeClassName, or ask whoever runs the cluster.",
        )
    return make(
        Cause.SANDBOX,
        sentence(Cause.SANDBOX, "no network or sandbox for its pod"),
        "This is a problem of the node or its network, not of the Job: ask whoever runs the cluster.",
    )


def told_by_events(warnings: Sequence[Event]) -> Diagnosis | None:
    """What kept a pod from running that is gone, as far as the warnings about it tell."""
    for event in warnings:
        reason, message = event.reason or "", event.message or ""
        pod = Pod(metadata=Metadata(name=event.involved_object.name))
        if reason == "FailedScheduling":
            return no_node(message, pod.metadata.name)
        if rule := _EVENTS.get(reason):
            return rule(pod, message)
        if reason == "Failed" and message.startswith("Failed to pull image"):
            return image.not_pulled(Cause.ERR_IMAGE_PULL, pod, ContainerStatus(), message, warnings)
        if reason == "Failed" and (found := _missing(maker(pod=pod.metadata.name, detail=message), message)):
            return found
    return None


_EVENTS: dict[str, Callable[[Pod, str], Diagnosis]] = {
    "FailedMount": _mount,
    "FailedAttachVolume": _mount,
    "FailedCreatePodSandBox": _sandbox,
}
