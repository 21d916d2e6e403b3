"""Kubernetes' own tries of a Job: how often it failed, how often it may, and when the next comes. Its Job controller's rule, seen from outside.

A pod that failed is followed by another 10 s later, doubled for each failure since one succeeded, ten minutes at most (pkg/controller/job
of Kubernetes 1.36; its documentation says six), counted from when the last failed pod ended. With `backoffLimitPerIndex` each index counts
by itself. With `restartPolicy: OnFailure` no pod follows another: the node starts the container again, by a clock that nobody can see.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobyard.model.objects import ContainerStatus, Job, Pod
from jobyard.model.written import whole

FIRST, LONGEST = timedelta(seconds=10), timedelta(minutes=10)
DEFAULT_LIMIT = 6
"""The API server's, where a manifest says none."""
INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
"""Annotation of a pod of a Job that counts by index: how often its index had failed before it."""
OURS = ("", "kubernetes.io/job-controller")
"""What `managedBy` says where Kubernetes' own controller runs the Job."""


@dataclass(frozen=True, kw_only=True)
class Tries:
    """How often something was tried, between two tries."""

    failed: int
    of: int | None
    """How often it may be tried in all; None where nothing bounds that."""
    by: str
    """Who tries again: `Kubernetes`, or `Jobyard` where the step has a `retry`."""
    again: datetime | None = None
    """When, by that rule; None where it is not to be known, but soon."""
    begins: bool = False
    """The next try has its pod, which is about to run."""
    index: str = ""
    """Of which part of an indexed Job, where each part counts by itself."""


def delay(failures: int) -> timedelta:
    """How long after the `failures`-th failure, counted from 1, the next pod is made."""
    doubled: timedelta = FIRST * 2 ** min(max(failures - 1, 0), 10)
    return min(doubled, LONGEST)


def between_tries(job: Job, pods: Sequence[Pod] = ()) -> Tries | None:
    """Kubernetes' tries of the Job; None unless it is just between two of them: some failed, nothing runs, and more will come.

    Without its pods, only the Job's own count tells; then when the next comes is not known.
    """
    if not _goes_on(job):
        return None
    alive = [pod for pod in pods if pod.status.phase not in ("Succeeded", "Failed") and pod.metadata.deletion_timestamp is None]
    if alive:
        return _restarted(job, alive)
    status, count = job.status, failures(job)
    if status.active or status.terminating or not count:
        return None
    failed = [pod for pod in pods if pod.status.phase == "Failed"]
    if job.spec.backoff_limit_per_index is not None:
        return _by_index(job.spec.backoff_limit_per_index, failed)
    limit = _limit(job)
    if count > limit:
        return None  # it is about to be called failed
    succeeded = max(_ends(pod for pod in pods if pod.status.phase == "Succeeded"), default=None)
    ends = sorted(end for end in _ends(failed) if succeeded is None or end > succeeded)
    since = len(ends) if succeeded else max(len(ends), count)
    again = ends[-1] + delay(since) if ends else None
    return Tries(failed=count, of=limit + 1, by="Kubernetes", again=again)


def next_begins(job: Job) -> Tries | None:
    """Kubernetes' tries of a Job whose next pod is there and does not run yet; None where none had failed."""
    count = failures(job)
    if not count or not _goes_on(job):
        return None
    bounded = job.spec.backoff_limit_per_index is None
    return Tries(failed=count, of=_limit(job) + 1 if bounded else None, by="Kubernetes", begins=True)


def failures(job: Job) -> int:
    """How many of its pods have failed."""
    return (job.status.failed or 0) + len(job.status.uncounted_terminated_pods.failed)


def _goes_on(job: Job) -> bool:
    """Whether Kubernetes' own controller would make another pod of the Job."""
    if (job.spec.managed_by or "") not in OURS or job.spec.suspend or job.metadata.deletion_timestamp is not None:
        return False
    ending = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")
    return not any(each.type in ending and each.status == "True" for each in job.status.conditions)


def _limit(job: Job) -> int:
    return DEFAULT_LIMIT if job.spec.backoff_limit is None else job.spec.backoff_limit


def _restarted(job: Job, alive: Iterable[Pod]) -> Tries | None:
    """The tries of a container that its node starts again; None while any pod is doing something else than wait for that."""
    crashed: list[ContainerStatus] = []
    for pod in alive:
        statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
        waits = [each for each in statuses if is_crash_loop(each)]
        runs = [each for each in pod.status.container_statuses if each.state.running]
        if not waits or runs:
            return None
        crashed += waits
    failed = max(each.restart_count for each in crashed) + 1
    # Kubernetes fails the Job once its containers were started again as often as backoffLimit says; of sidecars it does not count that.
    counts = job.spec.template.spec.restart_policy == "OnFailure"
    return Tries(failed=failed, of=max(_limit(job), failed) if counts else None, by="Kubernetes")


def is_crash_loop(status: ContainerStatus) -> bool:
    """Whether the container has ended, and its node waits before it starts it again."""
    return status.state.waiting is not None and status.state.waiting.reason == "CrashLoopBackOff"


def _by_index(limit: int, failed: Sequence[Pod]) -> Tries | None:
    """Of the indexes that wait for another pod, the one whose pod comes first."""
    newest: dict[str, tuple[int, Pod]] = {}
    for pod in failed:
        index = pod.metadata.annotations.get(INDEX, "")
        count = _number(pod.metadata.annotations.get(INDEX_FAILURES, "")) + 1
        if index not in newest or newest[index][0] < count:
            newest[index] = (count, pod)
    waiting = [
        Tries(failed=count, of=limit + 1, by="Kubernetes", again=end + delay(count) if (end := finished_at(pod)) else None, index=index)
        for index, (count, pod) in newest.items()
        if count <= limit
    ]
    return min(waiting, key=lambda each: str(each.again), default=None)


def _number(text: str) -> int:
    return whole(text, 10**9) or 0


def _ends(pods: Iterable[Pod]) -> list[datetime]:
    return [end for pod in pods if (end := finished_at(pod))]


def finished_at(pod: Pod) -> datetime | None:
    """When a pod ended, as the Job controller tells it: by its containers, else when it was no longer ready, else when it was deleted."""
    ends = [each.state.terminated.finished_at if each.state.terminated else None for each in pod.status.container_statuses]
    if ends and all(ends):
        return max(end for end in ends if end)
    for each in pod.status.conditions:
        if each.type == "Ready" and each.status == "False" and each.last_transition_time:
            return each.last_transition_time
    if pod.metadata.deletion_timestamp:
        return pod.metadata.deletion_timestamp - timedelta(seconds=pod.metadata.deletion_grace_period_seconds or 0)
    return pod.metadata.creation_timestamp
