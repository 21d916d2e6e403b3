"""The Job controller's decision: from a Job, its pods and the time to a new status and what to do about pods. Pure.

It follows Kubernetes' own order of evaluation, because that order can be seen: which condition comes first, what counts as a failure,
when a Job that has to wait for terminating pods is called finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from jobyard.local import indexes, times
from jobyard.local.job_rules import (
    FAILURES,
    IGNORED,
    BackOff,
    finished_at,
    has_failed,
    index_of,
    is_active,
    is_ready,
    is_terminating,
    is_tracked,
    judge,
    number,
    phase,
    remaining,
    replaces_only_failed,
    success_rule,
)

Tree = dict[str, Any]


WAITING_LIMIT = 200
"""How many pods of one Job may wait for a place on the node. A Job may want two milliards of them: the others are made as these start."""


@dataclass(frozen=True)
class NewPod:
    """A pod to make; `index` is None for a Job that has no indexes."""

    index: int | None = None
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass
class Sync:
    """What is to be done for a Job."""

    status: Tree
    create: list[NewPod] = field(default_factory=list)
    delete: list[Tree] = field(default_factory=list)
    release: list[Tree] = field(default_factory=list)
    """Pods that are counted: their tracking finalizer goes."""
    events: list[tuple[str, str, str]] = field(default_factory=list)
    """Type, reason, message."""
    again: datetime | None = None
    back_off: BackOff = field(default_factory=BackOff)


def condition(status: Tree, kind: str) -> Tree | None:
    found: Tree | None = next((each for each in status.get("conditions") or [] if each["type"] == kind), None)
    return found


def is_finished(job: Tree) -> bool:
    status = job.get("status") or {}
    return any((found := condition(status, kind)) is not None and found["status"] == "True" for kind in ("Complete", "Failed"))


def sync(job: Tree, pods: Sequence[Tree], back_off: BackOff, now: datetime) -> Sync:
    """One look at a Job. `pods` are those it controls; `back_off` is what the last look returned."""
    return _Look(job, pods, back_off, now).run()


class _Look:
    def __init__(self, job: Tree, pods: Sequence[Tree], back_off: BackOff, now: datetime) -> None:
        self.job, self.spec, self.now = job, job["spec"], now
        self.pods = sorted(pods, key=index_of)
        self.old: Tree = job.get("status") or {}
        self.status: Tree = dict(self.old)
        self.status["conditions"] = [dict(each) for each in self.old.get("conditions") or []]
        self.out = Sync(status=self.status)
        self.indexed = self.spec.get("completionMode") == "Indexed"
        self.per_index = self.indexed and self.spec.get("backoffLimitPerIndex") is not None
        self.suspended = bool(self.spec.get("suspend"))
        self.active = [pod for pod in self.pods if is_active(pod)]
        self.terminating = sum(map(is_terminating, self.pods))
        self.ready = sum(map(is_ready, self.active))
        new = [pod for pod in self.pods if is_tracked(pod) and self._valid(pod)]
        self.new_succeeded = [pod for pod in new if phase(pod) == "Succeeded"]
        self.new_failed = [pod for pod in new if phase(pod) != "Succeeded" and has_failed(pod, self.spec)]
        self.failed = self.old.get("failed", 0) + sum(judge(self.spec.get("podFailurePolicy"), pod).counts for pod in self.new_failed)
        self.succeeded = self.old.get("succeeded", 0) + len(self.new_succeeded)
        self.back_off = self.out.back_off = back_off.after(self.new_succeeded, self.new_failed)
        self.succeeded_indexes = indexes.read(self.old.get("completedIndexes"))
        self.failed_indexes = indexes.read(self.old.get("failedIndexes"))
        self.delayed: dict[int, Tree] = {}

    def _valid(self, pod: Tree) -> bool:
        return not self.indexed or 0 <= index_of(pod) < self.spec["completions"]

    def run(self) -> Sync:
        if "startTime" not in self.status and not self.suspended:
            self.status["startTime"] = times.stamp(self.now)
        ending = self._criteria()
        active = len(self.active)
        if ending is not None:
            self._delete(self.active)
            active = 0
        else:
            if not self.job["metadata"].get("deletionTimestamp"):
                active = self._manage()
            ending = self._complete(active)
            if ending is None:
                self._suspension()
        self.status["active"] = active
        self.status["ready"] = self.ready
        self.status["terminating"] = self.terminating
        self._count(ending)
        self._finish(ending)
        if not self.status["conditions"]:
            del self.status["conditions"]
        for name in ("active", "succeeded", "failed"):
            if not self.status.get(name):
                self.status.pop(name, None)
        self.status["uncountedTerminatedPods"] = {}
        return self.out

    # --- has it ended? ---

    def _criteria(self) -> Tree | None:
        """The condition by which the Job ends, if it does: an earlier verdict first, then failure, then the success policy."""
        ending = self._standing("SuccessCriteriaMet") or self._standing("FailureTarget")
        if ending is None:
            ending = self._by_failure_policy()
        if ending is None:
            ending = self._by_limits()
        if self.indexed:
            ending = self._by_indexes(ending)
        return ending

    def _standing(self, kind: str) -> Tree | None:
        found = condition(self.status, kind)
        return found if found and found["status"] == "True" else None

    def _new(self, kind: str, reason: str, message: str) -> Tree:
        stamp = times.stamp(self.now)
        return {"type": kind, "status": "True", "lastProbeTime": stamp, "lastTransitionTime": stamp, "reason": reason, "message": message}

    def _by_failure_policy(self) -> Tree | None:
        policy = self.spec.get("podFailurePolicy")
        for pod in self.pods if policy else ():
            if has_failed(pod, self.spec):
                verdict = judge(policy, pod)
                if verdict.action == "FailJob":
                    return self._new("FailureTarget", "PodFailurePolicy", verdict.message)
        return None

    def _by_limits(self) -> Tree | None:
        if self.failed > self.spec["backoffLimit"] or self._restarted_too_often():
            return self._new("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        deadline = self.spec.get("activeDeadlineSeconds")
        if deadline is not None and not self.suspended and "startTime" in self.status:
            due = times.after(times.parse(self.status["startTime"]), deadline)
            if self.now >= due:
                return self._new("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline")
            self._look_again(due)
        return None

    def _restarted_too_often(self) -> bool:
        if self.spec["template"]["spec"].get("restartPolicy") != "OnFailure":
            return False
        restarts = 0
        for pod in self.pods:
            if phase(pod) in ("Running", "Pending"):
                status = pod.get("status") or {}
                for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
                    restarts += each.get("restartCount", 0)
        limit = self.spec["backoffLimit"]
        return restarts > 0 if limit == 0 else restarts >= limit

    def _by_indexes(self, ending: Tree | None) -> Tree | None:
        self.succeeded_indexes |= indexes.of(map(index_of, self.new_succeeded))
        self.succeeded_indexes = self.succeeded_indexes.below(self.spec["completions"])
        self.succeeded = self.succeeded_indexes.count
        if self.per_index:
            limit = self.spec["backoffLimitPerIndex"]
            given_up = []
            for pod in self.new_failed:
                verdict = judge(self.spec.get("podFailurePolicy"), pod)
                if verdict.action == "FailIndex" or (verdict.counts and number(pod, FAILURES) >= limit):
                    given_up.append(index_of(pod))
            self.failed_indexes |= indexes.of(given_up)
            self.status["failedIndexes"] = str(self.failed_indexes)
            if ending is None:
                ending = self._by_failed_indexes()
            self._delay()
        if ending is None:
            met = success_rule(self.spec.get("successPolicy"), self.succeeded_indexes)
            if met:
                ending = self._new("SuccessCriteriaMet", "SuccessPolicy", met)
        return ending

    def _by_failed_indexes(self) -> Tree | None:
        failed, most = self.failed_indexes.count, self.spec.get("maxFailedIndexes")
        if most is not None and failed > most:
            return self._new("FailureTarget", "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")
        if failed and failed + self.succeeded_indexes.count >= self.spec["completions"]:
            return self._new("FailureTarget", "FailedIndexes", "Job has failed indexes")
        return None

    def _delay(self) -> None:
        """Failed pods that have to stay until their index has a new one, because they carry its count of failures."""
        busy = {index_of(pod) for pod in self.active}
        for pod in self.new_failed:
            index = index_of(pod)
            if index in self.succeeded_indexes or index in self.failed_indexes or index in busy:
                continue
            other = self.delayed.get(index)
            if other is None or _failures(other) <= _failures(pod):
                self.delayed[index] = pod

    def _complete(self, active: int) -> Tree | None:
        wanted = self.spec.get("completions")
        done = self.succeeded > 0 if wanted is None else self.succeeded >= wanted
        if done and active == 0:
            return self._new("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")
        return None

    # --- how many pods? ---

    def _manage(self) -> int:
        """Deletes pods that are too many, or makes those that lack; returns how many are active then."""
        active = len(self.active)
        if self.suspended:
            self._delete(self.active)
            return 0
        parallelism, completions = self.spec["parallelism"], self.spec.get("completions")
        if completions is None:
            wanted = active if self.succeeded > 0 else parallelism
        else:
            wanted = max(min(completions - self.succeeded, parallelism), 0)
        surplus = self._surplus(max(active - wanted, 0))
        if surplus:
            self._delete(surplus)
            return active - len(surplus)
        missing = wanted - active - (self.terminating if replaces_only_failed(self.spec) else 0)
        missing = min(missing, WAITING_LIMIT - sum(not pod["spec"].get("nodeName") for pod in self.active))
        if missing <= 0:
            return active
        wait = timedelta() if self.per_index else self.back_off.remaining(self.now)
        if wait:
            self._look_again(self.now + wait)
            return active
        made = self._indexed_pods(missing) if self.indexed else [NewPod() for _ in range(missing)]
        self.out.create = made
        return active + len(made)

    def _indexed_pods(self, missing: int) -> list[NewPod]:
        taken = self.succeeded_indexes | self.failed_indexes | indexes.of(map(index_of, self.active))
        if replaces_only_failed(self.spec):
            taken |= indexes.of(index_of(pod) for pod in self.pods if is_terminating(pod))
        free = islice(taken.missing(self.spec["completions"]), missing)
        made: list[NewPod] = []
        waits: list[timedelta] = []
        for index in free:
            notes: dict[str, str] = {}
            if self.per_index:
                last = self.delayed.get(index)
                wait = remaining(_failures(last) + 1, finished_at(last), self.now) if last else timedelta()
                if wait:
                    waits.append(wait)
                    continue
                notes = self._failure_notes(last)
            made.append(NewPod(index, notes))
        if not made and waits:
            self._look_again(self.now + min(waits))
        return made

    def _failure_notes(self, last: Tree | None) -> dict[str, str]:
        counted, ignored = (number(last, FAILURES), number(last, IGNORED)) if last else (0, 0)
        if last:
            counts = judge(self.spec.get("podFailurePolicy"), last).counts
            counted, ignored = counted + counts, ignored + (not counts)
        return {FAILURES: str(counted), **({IGNORED: str(ignored)} if ignored else {})}

    def _surplus(self, at_least: int) -> list[Tree]:
        surplus: list[Tree] = []
        left = self.active
        if self.indexed:
            seen: set[int] = set()
            left = []
            for pod in sorted(self.active, key=_keep_order, reverse=True):
                index = index_of(pod)
                twice = index in seen or not self._valid(pod)
                (surplus if twice else left).append(pod)
                seen.add(index)
        rest = sorted(left, key=lambda pod: (_keep_order(pod), -index_of(pod)))
        return surplus + rest[: max(at_least - len(surplus), 0)]

    def _delete(self, pods: Sequence[Tree]) -> None:
        self.out.delete += pods
        self.ready -= sum(map(is_ready, pods))
        self.terminating += sum(bool(pod["spec"].get("nodeName")) for pod in pods)

    # --- the status ---

    def _suspension(self) -> None:
        found = condition(self.status, "Suspended")
        if self.suspended and (found is None or found["status"] != "True"):
            self._set(self._new("Suspended", "JobSuspended", "Job suspended"))
            self.out.events.append(("Normal", "Suspended", "Job suspended"))
            self.status.pop("startTime", None)
        elif not self.suspended and found is not None and found["status"] == "True":
            self._set({**self._new("Suspended", "JobResumed", "Job resumed"), "status": "False"})
            self.out.events.append(("Normal", "Resumed", "Job resumed"))
            self.status["startTime"] = times.stamp(self.now)

    def _set(self, new: Tree) -> None:
        conditions = self.status["conditions"]
        for index, each in enumerate(conditions):
            if each["type"] == new["type"]:
                conditions[index] = new
                return
        conditions.append(new)

    def _count(self, ending: Tree | None) -> None:
        """Counts the pods that have ended, each once: counted is whose finalizer goes."""
        deleting = bool(self.job["metadata"].get("deletionTimestamp"))
        failed_for_good = ending is not None and ending["type"] == "FailureTarget"
        kept = {pod["metadata"]["uid"] for pod in self.delayed.values()}
        failed = self.old.get("failed", 0)
        for pod in self.pods:
            bad = has_failed(pod, self.spec)
            if not is_tracked(pod) or not (deleting or ending is not None or phase(pod) == "Succeeded" or bad):
                continue
            if ending is None and not deleting and pod["metadata"]["uid"] in kept:
                continue
            self.out.release.append(pod)
            if phase(pod) != "Succeeded" and (bad or failed_for_good) and self._valid(pod):
                failed += judge(self.spec.get("podFailurePolicy"), pod).counts
        self.status["failed"] = failed
        self.status["succeeded"] = self.succeeded
        if self.indexed and self.succeeded_indexes:
            self.status["completedIndexes"] = str(self.succeeded_indexes)

    def _finish(self, ending: Tree | None) -> None:
        if ending is None:
            return
        if condition(self.status, ending["type"]) is None:
            self.status["conditions"].append(ending)
        if self.terminating > 0:
            return  # its last pods are still ending: it is not called finished before they have
        good = ending["type"] == "SuccessCriteriaMet"
        self._set(self._new("Complete" if good else "Failed", ending["reason"], ending["message"]))
        if good:
            self.status["completionTime"] = times.stamp(self.now)
            self.out.events.append(("Normal", "Completed", "Job completed"))
        else:
            self.out.events.append(("Warning", ending["reason"], ending["message"]))

    def _look_again(self, then: datetime) -> None:
        self.out.again = min(self.out.again, then) if self.out.again else then


def _failures(pod: Tree) -> int:
    return number(pod, FAILURES) + number(pod, IGNORED)


def _keep_order(pod: Tree) -> tuple[bool, int, bool, str]:
    """Whom to spare: scheduled before not, running before pending, ready before not, the older before the newer."""
    return (bool(pod["spec"].get("nodeName")), {"Pending": 0, "Running": 2}.get(phase(pod), 1), is_ready(pod), "")
