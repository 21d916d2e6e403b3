"""Pod, Job and event status to reason, sentence, detail, remedy: the answer to "why is it not running?" and "why did it fail?"

Structured fields decide (reasons, exit codes, conditions); a message is quoted as the detail, and read only where Kubernetes says a
thing nowhere else (which resource no node has enough of, which Secret is missing). The table of cases is tests/unit/test_diagnosis.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from jobyard.model import names
from jobyard.model.job import read
from jobyard.model.objects import Event, Job, Pod
from jobyard.model.pod_diagnosis import Diagnosis, failed_pod, maker, no_node, waiting_pod
from jobyard.model.run import Reason, State


def diagnose(job: Job | None, pods: Sequence[Pod] = (), events: Sequence[Event] = ()) -> Diagnosis | None:
    """Why this Job is not running or why it failed; None while there is nothing to explain.

    `pods` are the Job's, `events` those about the Job or its pods, in any order.
    """
    if job is None:
        return None
    ending = read(job)
    if ending.state is State.SUCCEEDED:
        return None
    newest_first = sorted(pods, key=lambda pod: str(pod.metadata.creation_timestamp), reverse=True)
    warnings = sorted((event for event in events if event.type == "Warning"), key=_when, reverse=True)
    if ending.state in (State.FAILED, State.CANCELLED):
        return _ended(job, ending.reason, ending.message, newest_first, warnings)
    if ending.reason == Reason.SUSPENDED and names.STOP in job.metadata.annotations:
        return None  # our own doing: its pods get their time to end
    if ending.reason == Reason.SUSPENDED:
        where = f" -n {job.metadata.namespace}" if job.metadata.namespace else ""
        return Diagnosis(
            reason=Reason.SUSPENDED,
            sentence="The Job is suspended: Kubernetes starts no pods for it.",
            remedy=f'Resume it: kubectl patch job {job.metadata.name}{where} --type=merge -p \'{{"spec":{{"suspend":false}}}}\'',
        )
    for pod in newest_first:
        if found := waiting_pod(pod, [event for event in warnings if event.involved_object.name == pod.metadata.name]):
            return found
    about_job = [event for event in warnings if event.involved_object.name == job.metadata.name]
    if not pods or ending.reason == Reason.WAITING_FOR_POD:
        for event in about_job:
            if event.reason == "FailedCreate":
                return _failed_create(event)
    for pod in newest_first:
        if found := failed_pod(pod):
            return found
    return None


def _when(event: Event) -> str:
    return str(event.last_timestamp or event.event_time or event.metadata.creation_timestamp)


# --- a Job that has ended ---


def _ended(job: Job, reason: str, message: str, pods: Sequence[Pod], warnings: Sequence[Event]) -> Diagnosis:
    cause = next((found for pod in pods if (found := failed_pod(pod))), None)
    stuck = next((found for pod in pods if (found := waiting_pod(pod, warnings))), None)
    match reason:
        case Reason.CANCELLED:
            return Diagnosis(reason=reason, sentence="It was cancelled.")
        case Reason.START_TIMEOUT:
            return Diagnosis(
                reason=reason,
                sentence="None of its pods ran within its startTimeout, so it was stopped.",
                detail=f"Before that: {stuck.sentence}" if stuck else _last_warning(warnings),
                remedy=stuck.remedy if stuck else "See why its pods could not run, or give it a longer startTimeout.",
                pod=stuck.pod if stuck else "",
            )
        case Reason.TIMEOUT:
            # A container that was killed by the stop itself tells nothing; what kept it from starting does.
            first = stuck or (None if _last_warning(warnings) else cause)
            return Diagnosis(
                reason=reason,
                sentence="It was stopped because the workflow's timeout passed.",
                detail=f"Before that: {first.sentence}" if first else _last_warning(warnings),
                remedy="Give it a longer timeout, or find what made it slow in its log.",
                pod=first.pod if first else "",
            )
        case "DeadlineExceeded":
            seconds = job.spec.active_deadline_seconds
            sentence = f"It ran longer than its activeDeadlineSeconds ({seconds}s), so Kubernetes ended it."
            blocked = stuck or _unschedulable(warnings)
            return Diagnosis(
                reason=reason,
                sentence=sentence,
                detail=f"Before that: {blocked.sentence}" if blocked else _last_warning(warnings),
                remedy=blocked.remedy if blocked else "Raise spec.activeDeadlineSeconds, or find what made it slow in its log.",
                pod=blocked.pod if blocked else "",
            )
        case "BackoffLimitExceeded" if cause:
            tries = (
                f" It was tried {job.status.failed} times (backoffLimit {job.spec.backoff_limit})." if (job.status.failed or 0) > 1 else ""
            )
            return Diagnosis(
                reason=cause.reason,
                sentence=cause.sentence + tries,
                detail=cause.detail,
                remedy=cause.remedy,
                pod=cause.pod,
                container=cause.container,
                exit_code=cause.exit_code,
            )
    if cause:
        return Diagnosis(
            reason=reason or cause.reason,
            sentence=cause.sentence,
            detail=message,
            remedy=cause.remedy,
            pod=cause.pod,
            container=cause.container,
            exit_code=cause.exit_code,
        )
    sentence = {
        "BackoffLimitExceeded": "Its pods failed more often than its backoffLimit allows.",
        "PodFailurePolicy": "Its podFailurePolicy says that a pod's failure fails the Job.",
        "FailedIndexes": "Some of its indexes failed.",
        "MaxFailedIndexesExceeded": "More of its indexes failed than maxFailedIndexes allows.",
    }.get(reason, "It failed.")
    return Diagnosis(reason=reason or "Failed", sentence=sentence, detail=message, remedy="Read the log of its pods, where they are left.")


def _last_warning(warnings: Sequence[Event]) -> str:
    """What Kubernetes warned of last: the pods themselves are gone when a Job was stopped."""
    about = [event for event in warnings if event.involved_object.kind == "Pod" or event.reason == "FailedCreate"]
    # Some warnings are only by the way (a node without cluster DNS): what failed comes first.
    telling = [event for event in about if (event.reason or "").startswith(("Failed", "BackOff"))] or about
    # `Error: ImagePullBackOff` repeats the reason of another that says what could not be pulled, and why.
    telling.sort(key=lambda event: re.fullmatch(r"Error: \w+", event.message or "") is not None)
    return f"Before that, Kubernetes warned: {telling[0].message}" if telling else ""


def _unschedulable(warnings: Sequence[Event]) -> Diagnosis | None:
    event = next((event for event in warnings if event.reason == "FailedScheduling"), None)
    return no_node(event.message or "", event.involved_object.name) if event else None


def _failed_create(event: Event) -> Diagnosis:
    message = event.message or ""
    make = maker(pod="", container="", detail=message)
    account = re.search(r'serviceaccount "([^"]+)" not found', message)
    if "exceeded quota" in message:
        return make(
            Reason.QUOTA_EXCEEDED,
            "The namespace's quota has no room for its pod.",
            "Wait until others end, or raise the quota; it then starts by itself.",
        )
    if account:
        return make(
            "ServiceAccountMissing",
            f"ServiceAccount {account[1].split('/')[-1]} does not exist in this namespace.",
            "Create it, or correct serviceAccountName.",
        )
    return make("FailedCreate", "The cluster refuses to create its pod.", "An admission rule or policy says no: the detail names it.")


__all__ = ["Diagnosis", "diagnose"]
