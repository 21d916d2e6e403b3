"""Why a Job is not running, or failed: its own conditions first, then its pods, then what Kubernetes warned of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from jobyard.model import names
from jobyard.model.cause import LOG_TELLS_MORE, Cause, Diagnosis
from jobyard.model.diagnosis.failed import failed_pod, took_too_long
from jobyard.model.diagnosis.refused import no_pod
from jobyard.model.diagnosis.waiting import told_by_events, waiting_pod
from jobyard.model.job import read
from jobyard.model.objects import Event, Job, Pod
from jobyard.model.run import Reason, State
from jobyard.model.words import sentence, words


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
    warnings = sorted((event for event in events if event.type == "Warning" and not _is_passing(event)), key=_when, reverse=True)
    if ending.state in (State.FAILED, State.CANCELLED):
        return _ended(job, ending.reason, ending.message, newest_first, warnings)
    if ending.reason == Reason.SUSPENDED and names.STOP in job.metadata.annotations:
        return None  # our own doing: its pods get their time to end
    if ending.reason == Reason.SUSPENDED:
        where = f" -n {job.metadata.namespace}" if job.metadata.namespace else ""
        return Diagnosis(
            reason=Reason.SUSPENDED,
            sentence=sentence(Reason.SUSPENDED, "Kubernetes starts no pods for it"),
            remedy=f'Resume it: kubectl patch job {job.metadata.name}{where} --type=merge -p \'{{"spec":{{"suspend":false}}}}\'',
        )
    if job.metadata.deletion_timestamp is not None:
        return None
    for pod in newest_first:
        if found := waiting_pod(pod, _about(pod, warnings)):
            return found
    newest = _created(newest_first[0]) if newest_first else ""
    for event in warnings:
        if event.reason == "FailedCreate" and event.involved_object.name == job.metadata.name and _when(event) >= newest:
            return no_pod(event)
    return _cause(newest_first, warnings)


def _is_passing(event: Event) -> bool:
    """Whether a warning is one that nearly every pod has at its start: its node does not know the API's own volume yet."""
    said = event.message or ""
    return event.reason == "FailedMount" and '"kube-api-access-' in said and re.search(r"failed to sync \w+ cache", said) is not None


def _created(pod: Pod) -> str:
    return str(pod.metadata.creation_timestamp)


def _when(event: Event) -> str:
    return str(event.last_timestamp or event.event_time or event.metadata.creation_timestamp)


def _about(pod: Pod, warnings: Sequence[Event]) -> list[Event]:
    return [event for event in warnings if event.involved_object.name == pod.metadata.name]


def _cause(pods: Sequence[Pod], warnings: Sequence[Event]) -> Diagnosis | None:
    """Why the newest of the pods that failed did."""
    return next((found for pod in pods if (found := failed_pod(pod, _about(pod, warnings)))), None)


# --- a Job that has ended ---


def _ended(job: Job, reason: str, message: str, pods: Sequence[Pod], warnings: Sequence[Event]) -> Diagnosis:
    cause = _cause(pods, warnings)
    stuck = next((found for pod in pods if (found := waiting_pod(pod, _about(pod, warnings)))), None)
    stuck = stuck or (told_by_events(warnings) if not pods else None)
    match reason:
        case Reason.CANCELLED:
            return Diagnosis(reason=reason, sentence=sentence(reason))
        case Reason.START_TIMEOUT:
            said = f"{words(reason)}, so Jobyard stopped it."
            return _after(stuck, reason, said, warnings, "See why its pods could not run, or give it a longer startTimeout.")
        case Reason.TIMEOUT:
            # A container that was killed by the stop itself tells nothing; what kept it from starting does.
            first = stuck or (None if _last_warning(warnings) else cause)
            said = f"{words(reason)}, so Jobyard stopped it."
            found = _after(first, reason, said, warnings, "Give it a longer timeout, or find in its log what made it slow.")
            return found if stuck else replace(found, remedy="Give it a longer timeout, or find in its log what made it slow.")
        case Cause.DEADLINE_EXCEEDED if job.spec.active_deadline_seconds is not None:
            said = took_too_long(job.spec.active_deadline_seconds)
            return _after(stuck, reason, said, warnings, "Raise spec.activeDeadlineSeconds, or find in its log what made it slow.")
        case Cause.BACKOFF_LIMIT if cause:
            tries = f" It was tried {job.status.failed} times." if (job.status.failed or 0) > 1 else ""
            return _same(cause, cause.reason, cause.detail, after=tries)
        case Cause.FAILURE_POLICY if cause:
            return _same(cause, reason, message, before=sentence(reason, "its podFailurePolicy says so") + " ")
        case Cause.FAILED_INDEXES | Cause.TOO_MANY_FAILED_INDEXES if cause:
            which = f"index {job.status.failed_indexes}" if job.status.failed_indexes else ""
            return _same(cause, reason, message, before=sentence(reason, which) + " ")
    if cause:
        return _same(cause, reason or cause.reason, message)
    return Diagnosis(
        reason=reason or Cause.FAILED,
        sentence=sentence(reason or Cause.FAILED, "" if pods else "its pods are deleted, and their logs with them"),
        detail=_last_warning(warnings) or message,
        remedy=_without_pods(job) if not pods else "Read the log of its pods.",
    )


def _without_pods(job: Job) -> str:
    node = job.spec.template.spec.node_name
    if node:
        return (
            f"Its nodeName names node {node}: where there is no such node, Kubernetes deletes its pods. Correct nodeName, or leave it out."
        )
    return "Run it again to see why."


def _same(cause: Diagnosis, reason: str, detail: str, *, before: str = "", after: str = "") -> Diagnosis:
    return Diagnosis(
        reason=reason,
        sentence=f"{before}{cause.sentence}{after}",
        detail=detail,
        remedy=cause.remedy,
        pod=cause.pod,
        container=cause.container,
        exit_code=cause.exit_code,
    )


def _after(first: Diagnosis | None, reason: str, said: str, warnings: Sequence[Event], otherwise: str) -> Diagnosis:
    """It was stopped for taking too long, and `first` is what kept it. `otherwise`: what to do where that is not known."""
    if first is None:
        return Diagnosis(reason=reason, sentence=said, detail=_last_warning(warnings), remedy=otherwise)
    remedy = otherwise if first.remedy == LOG_TELLS_MORE else once_it_is_over(first.remedy)
    detail = first.detail if first.exit_code is None else ""  # what a program said itself is for those who may read its log
    return Diagnosis(reason=reason, sentence=f"{said} Before that: {first.sentence}", detail=detail, remedy=remedy, pod=first.pod)


_NO_MORE = re.compile(r"; (?:the pod|it) then starts by itself|Kubernetes keeps trying[.;] |If that persists, ")
"""What a remedy says of a Job that is still there."""


def once_it_is_over(remedy: str) -> str:
    """What to do about a Job, when nothing goes on by itself any more: that, and run it again."""
    left = _NO_MORE.sub("", remedy).strip().rstrip(".")
    if not left:
        return "Run it again."
    left = f"{left[:1].upper()}{left[1:]}"
    return f"{left}." if "run it again" in left.lower() else f"{left}, then run it again."


_BY_THE_WAY = ("MissingClusterDNS", "DNSConfigForming", "CheckLimitsForResolvConf")
"""Warnings about the node that keep nothing from running."""


def _last_warning(warnings: Sequence[Event]) -> str:
    """What Kubernetes warned of last: the pods themselves are gone when a Job was stopped."""
    about = [event for event in warnings if event.involved_object.kind == "Pod" or event.reason == "FailedCreate"]
    about = [event for event in about if event.reason not in _BY_THE_WAY]
    telling = [event for event in about if (event.reason or "").startswith(("Failed", "BackOff"))] or about
    # `Error: ImagePullBackOff` repeats the reason of another that says what could not be pulled, and why.
    telling.sort(key=lambda event: re.fullmatch(r"Error: \w+", event.message or "") is not None)
    return f"Before that, Kubernetes warned: {telling[0].message}" if telling else ""
