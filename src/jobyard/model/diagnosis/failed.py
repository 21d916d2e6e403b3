"""Why a pod failed."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from datetime import timedelta

from jobyard.model import duration
from jobyard.model.cause import LOG_TELLS_MORE, Cause, Diagnosis, maker
from jobyard.model.diagnosis.start import not_started
from jobyard.model.objects import Condition, ContainerStatus, Event, Pod, Terminated, condition
from jobyard.model.words import sentence


def failed_pod(pod: Pod, warnings: Sequence[Event] = ()) -> Diagnosis | None:
    """Why this pod failed, or a container of it; None when it did not. `warnings` are those about it, the newest first."""
    disrupted = condition(pod.status.conditions, "DisruptionTarget")
    if whole := _as_a_whole(pod, disrupted):
        return whole
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        ended = status.state.terminated or (status.last_state.terminated if status.state.waiting else None)
        if ended and (ended.exit_code != 0 or ended.reason == "OOMKilled"):
            return terminated(pod, status, ended, warnings)
    if pod.status.phase == "Failed":
        return _rejected(pod)
    return None


def _as_a_whole(pod: Pod, disrupted: Condition | None) -> Diagnosis | None:
    """What happened to the pod, whatever its containers say of it."""
    why = disrupted.reason if disrupted else ""
    told = (disrupted.message if disrupted else "") or ""
    make = maker(pod=pod.metadata.name, detail=pod.status.message or told)
    if why == "PreemptionByScheduler":
        return make(
            Cause.PREEMPTED,
            sentence(Cause.PREEMPTED, "its pod was removed for one of higher priority"),
            "Give the Job a higher priorityClassName, or run it when the cluster is calmer.",
        )
    if pod.status.reason == "NodeLost" or why in ("DeletionByTaintManager", "DeletionByPodGC"):
        return make(
            Cause.NODE_LOST,
            sentence(Cause.NODE_LOST, f"node {pod.spec.node_name} went away, and its pod with it" if pod.spec.node_name else ""),
            "Nothing is wrong with the Job: run it again, or let it retry (backoffLimit).",
        )
    if pod.status.reason == "Evicted" or why in ("TerminationByKubelet", "EvictionByEvictionAPI"):
        known, remedy = _evicted(pod.status.message or "")
        return make(Cause.EVICTED, sentence(Cause.EVICTED, known), remedy)
    if pod.status.reason == "DeadlineExceeded":
        return make(
            Cause.DEADLINE_EXCEEDED,
            took_too_long(pod.spec.active_deadline_seconds),
            "Raise activeDeadlineSeconds of its pod template, or find in its log what made it slow.",
        )
    return None


def took_too_long(seconds: int | None) -> str:
    """The sentence about a deadline of Kubernetes'."""
    if seconds is None:
        return sentence(Cause.DEADLINE_EXCEEDED)
    return f"Took longer than the {duration.show(timedelta(seconds=seconds))} it may take (activeDeadlineSeconds)."


def _evicted(message: str) -> tuple[str, str]:
    if volume := re.search(r'EmptyDir volume "([^"]+)" exceeds the limit "([^"]+)"', message):
        return f"volume {volume[1]} held more than the {volume[2]} it may", "Raise the volume's sizeLimit, or write less to it."
    if limit := re.search(r"ephemeral local storage usage exceeds the total limit of containers ([^\s.]+)", message):
        return f"it wrote more than the {limit[1]} of disk it may", "Raise limits of ephemeral-storage, or write less."
    if limit := re.search(r"Container (\S+) exceeded its local ephemeral storage limit \"([^\"]+)\"", message):
        return f"container {limit[1]} wrote more than the {limit[2]} of disk it may", "Raise its limit of ephemeral-storage, or write less."
    if low := re.search(r"low on resource: ([\w-]+)", message):
        return f"the node ran short of {low[1]}", "Set resources.requests to what the Job needs, then run it again."
    return (
        "",
        "Run it again, or let it retry (backoffLimit). If its node ran short of something, set resources.requests to what the Job needs.",
    )


_SIGNAL_REMEDY: dict[int, str] = {
    signal.SIGKILL: "It was killed outright: its node ran out of memory, or it did not stop within its grace period.",
    signal.SIGTERM: "Something asked it to stop: a deletion, an eviction, or a node that was drained.",
    signal.SIGSEGV: "The program crashed: a bug in it, or a library that does not fit the machine.",
}


def terminated(pod: Pod, status: ContainerStatus, ended: Terminated, warnings: Sequence[Event] = ()) -> Diagnosis:
    """Why a container ended badly."""
    name, code = status.name, ended.exit_code
    said = (ended.message or "").strip()
    if ended.reason in ("StartError", "ContainerCannotRun") or (
        code in (126, 127) and ended.reason != "Completed" and not ended.started_at
    ):
        return not_started(pod, status, said, exit_code=code)
    if ended.reason == "ContainerStatusUnknown" and said:
        make = maker(pod=pod.metadata.name, container=name, exit_code=code)
        known = f"Container {name} was cut short: {said[:1].lower()}{said[1:].rstrip('.')}."
        return make(ended.reason, known, "Nothing need be wrong with the Job: run it again, or let it retry (backoffLimit).")
    make = maker(pod=pod.metadata.name, container=name, detail=said, exit_code=code)
    if ended.reason == "OOMKilled":
        containers = (*pod.spec.init_containers, *pod.spec.containers)
        limit = next(((each.resources.limits or {}).get("memory") for each in containers if each.name == name), None)
        known = f"container {name} needed more than {f'the {limit} ' if limit else ''}it may use"
        return make(Cause.OUT_OF_MEMORY, sentence(Cause.OUT_OF_MEMORY, known), "Raise resources.limits.memory, or make it use less.")
    number = ended.signal or (code - 128 if 128 < code < 160 else 0)
    if number in (signal.SIGKILL, signal.SIGTERM) and (killed := _killed(pod, status, code, warnings)):
        return killed
    if number:
        return make(
            Cause.SIGNAL,
            f"Container {name} was ended by {_signal(number)} (exit code {code}).",
            _SIGNAL_REMEDY.get(number, LOG_TELLS_MORE),
        )
    if code == 127:
        return make(
            Cause.EXIT_CODE,
            f"Container {name} exited with code 127: a command was not found.",
            "Check command and args, and that the image has the program.",
        )
    if code == 126:
        return make(
            Cause.EXIT_CODE,
            f"Container {name} exited with code 126: a command could not be run.",
            "Check that the program may be executed.",
        )
    return make(Cause.EXIT_CODE, f"Container {name} exited with code {code}.", LOG_TELLS_MORE)


def _killed(pod: Pod, status: ContainerStatus, code: int, warnings: Sequence[Event]) -> Diagnosis | None:
    """The node ended the container, and an event says why; None when none does."""
    for event in warnings:
        said = event.message or ""
        make = maker(pod=pod.metadata.name, container=status.name, detail=said, exit_code=code)
        probe = re.match(r"(Liveness|Startup) probe (?:failed|errored)", said)
        if event.reason == "Unhealthy" and probe:
            known = f"its {probe[1].lower()}Probe failed, so its node ended container {status.name}"
            remedy = f"Correct the {probe[1].lower()}Probe, or give it more time (failureThreshold, periodSeconds, timeoutSeconds)."
            return make(Cause.UNHEALTHY, sentence(Cause.UNHEALTHY, known), remedy)
        if event.reason == "FailedPostStartHook":
            known = f"the postStart hook of container {status.name} failed, so its node ended the container"
            return make(Cause.POST_START_HOOK, sentence(Cause.POST_START_HOOK, known), "Correct lifecycle.postStart.")
    return None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_REJECTED_REMEDY: dict[str, str] = {
    "SysctlForbidden": "Leave the sysctl out, or ask whoever runs the cluster to allow it on its nodes.",
    "AppArmor": "Leave appArmorProfile out, or have the Job run on a node that has AppArmor.",
    "NodeAffinity": "Correct nodeName, nodeSelector or affinity: they don't fit each other.",
    "PodOSNotSupported": "Correct os.name, or choose a node of that system.",
}


def _rejected(pod: Pod) -> Diagnosis:
    """No container of it ever ran: its node said no."""
    reason, said = pod.status.reason or "", pod.status.message or ""
    make = maker(pod=pod.metadata.name, detail=said)
    if not reason:
        return make(
            Cause.POD_FAILED, sentence(Cause.POD_FAILED), f"See what Kubernetes knows of it: kubectl describe pod {pod.metadata.name}"
        )
    why = said.removeprefix("Pod was rejected: ").removeprefix("Pod ").strip().rstrip(".")
    remedy = _REJECTED_REMEDY.get(reason, "Run it again; if that persists, ask whoever runs the cluster.")
    return make(reason, f"Its node refused its pod ({reason})" + (f": {why[:1].lower()}{why[1:]}." if why else "."), remedy)
