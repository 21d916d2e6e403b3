"""How a Job stands, by its own status and its pods; and whom it waits for while nothing is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobyard.model import names
from jobyard.model.back_off import OURS, between_tries, is_crash_loop
from jobyard.model.cause import Cause
from jobyard.model.job import read
from jobyard.model.objects import Job, Pod
from jobyard.model.run import Reason, State, StepResult


def stands(job: Job, pods: Sequence[Pod]) -> StepResult:
    """As `read`, and by its pods, which know before their Job does that they run, and alone know that they don't.

    Between two of Kubernetes' tries nothing runs: it is pending (RetryBackOff). While it waits for a pod, `message` says for whom.
    """
    told = read(job)
    if told.state.is_end or told.reason == Reason.SUSPENDED or names.STOP in job.metadata.annotations:
        return told
    if between_tries(job, pods) is not None:
        return replace(told, state=State.PENDING, reason=Reason.RETRY_BACK_OFF)
    alive = [pod for pod in pods if not _has_ended(pod)]
    if any(pod.status.phase == "Running" for pod in alive) or (pods and not alive):
        return replace(told, state=State.RUNNING, reason="")  # ended: its Job is about to say what comes next
    if alive and not job.status.ready and not job.status.succeeded:
        told = replace(told, state=State.PENDING, reason=Reason.WAITING_FOR_POD)
    return replace(told, message=awaited(job, pods)) if told.reason == Reason.WAITING_FOR_POD else told


def has_run(job: Job, pods: Sequence[Pod]) -> bool:
    """Whether a pod of the Job ran, whatever became of it."""
    status = job.status
    return bool(status.ready or status.succeeded or status.failed) or any(pod.status.phase != "Pending" for pod in pods)


START_ERRORS = frozenset(
    (
        Cause.ERR_IMAGE_PULL,
        Cause.IMAGE_PULL_BACK_OFF,
        Cause.ERR_IMAGE_NEVER_PULL,
        Cause.INVALID_IMAGE_NAME,
        Cause.CONTAINER_CONFIG,
        Cause.CRASH_LOOP,
        "CreateContainerError",
    )
)
"""Why a container waits that seldom comes to run without somebody doing something."""


def start_error(pods: Sequence[Pod]) -> str:
    """The one of these for which a pod that has not ended waits; '' where none does."""
    alive = [pod for pod in pods if not _has_ended(pod) and pod.metadata.deletion_timestamp is None]
    statuses = [each for pod in alive for each in (*pod.status.init_container_statuses, *pod.status.container_statuses)]
    reasons = (each.state.waiting.reason or "" for each in statuses if each.state.waiting)
    return next((reason for reason in reasons if reason in START_ERRORS), "")


def _has_ended(pod: Pod) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


def awaited(job: Job, pods: Sequence[Pod]) -> str:
    """Who or what a Job waits for that has no pod running yet, in sentences; '' where that is not known."""
    if (job.spec.managed_by or "") not in OURS:
        return (
            f"It waits for {job.spec.managed_by}, which its managedBy names in place of Kubernetes' own controller. "
            "If nothing of that name runs on this cluster, leave managedBy out."
        )
    if job.metadata.deletion_timestamp is not None:
        held = [each for each in job.metadata.finalizers if each not in ("foregroundDeletion", "orphan")]
        return f"It is being deleted{f', and waits for whoever put the finalizer {held[0]} on it' if held else ''}."
    if job.spec.parallelism == 0:
        return "Its parallelism is 0, so Kubernetes makes no pod. Set it to 1 or more."
    alive = sorted((pod for pod in pods if pod.status.phase == "Pending"), key=lambda pod: str(pod.metadata.creation_timestamp))
    return next((said for pod in alive if (said := _pod_awaits(pod))), "")


def _pod_awaits(pod: Pod) -> str:
    spec, status = pod.spec, pod.status
    if pod.metadata.deletion_timestamp is not None:
        return f"Its pod {pod.metadata.name} is being deleted, and the next comes once it is gone."
    scheduled = next((each for each in status.conditions if each.type == "PodScheduled"), None)
    if scheduled and scheduled.reason == "SchedulingGated":
        gates = [gate.name for gate in spec.scheduling_gates]
        which = (
            f"scheduling gate {gates[0]} is"
            if len(gates) == 1
            else f"scheduling gates {' and '.join(gates)} are"
            if gates
            else "its gate is"
        )
        return f"It waits until {which} removed; no node is chosen before that."
    if not spec.node_name and scheduled is None:
        if spec.scheduler_name not in ("", "default-scheduler"):
            return (
                f"It waits for the scheduler {spec.scheduler_name}, which has not looked at its pod yet. "
                "If no scheduler of that name runs on this cluster, correct schedulerName."
            )
        if claims := [each.resource_claim_name or each.resource_claim_template_name or each.name for each in spec.resource_claims]:
            return f"It waits for its resource claim {' and '.join(claims)}, which does not exist yet. Create it, or correct its name."
        return ""
    if spec.node_name and scheduled is None:
        return (
            f"It waits for node {spec.node_name}, which its nodeName names, to take its pod. If there is no such node, leave nodeName out."
        )
    for each in status.init_container_statuses:
        if not each.ready and each.state.running:
            return f"It waits for its init container {each.name}, which is still running."
        if not each.ready and is_crash_loop(each):
            return ""
    if spec.node_name:
        return f"Node {spec.node_name} is preparing its pod (image, volumes, network)."
    return ""
