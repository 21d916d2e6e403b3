"""Rules of the Job controller that stand by themselves: which pods have failed, what a policy says of it, how long to back off."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jobyard.local import times
from jobyard.local.indexes import INDEX, Indexes, read

Tree = dict[str, Any]

TRACKED = "batch.kubernetes.io/job-tracking"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
FIRST_BACK_OFF, LONGEST_BACK_OFF = timedelta(seconds=10), timedelta(minutes=10)


def phase(pod: Tree) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_terminating(pod: Tree) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp")) and phase(pod) not in ("Succeeded", "Failed")


def is_active(pod: Tree) -> bool:
    return phase(pod) not in ("Succeeded", "Failed") and not pod["metadata"].get("deletionTimestamp")


def is_tracked(pod: Tree) -> bool:
    return TRACKED in (pod["metadata"].get("finalizers") or [])


def is_ready(pod: Tree) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def index_of(pod: Tree) -> int:
    """The pod's completion index; -1 when it has none."""
    return number(pod, INDEX, -1)


def number(pod: Tree, annotation: str, default: int = 0) -> int:
    """What an annotation counts. Anybody may have written it."""
    text = (pod["metadata"].get("annotations") or {}).get(annotation, "")
    return int(text) if re.fullmatch("[0-9]{1,10}", text) else default


def replaces_only_failed(spec: Tree) -> bool:
    return spec.get("podReplacementPolicy") == "Failed" or spec.get("podFailurePolicy") is not None


def has_failed(pod: Tree, spec: Tree) -> bool:
    """A pod that ended badly; and, unless only failed ones are replaced, one that is being deleted before it ended."""
    if phase(pod) == "Failed":
        return True
    return not replaces_only_failed(spec) and is_terminating(pod)


@dataclass(frozen=True)
class Verdict:
    """What the pod failure policy says of a failed pod."""

    action: str = "Count"
    message: str = ""

    @property
    def counts(self) -> bool:
        return self.action != "Ignore"


def judge(policy: Tree | None, pod: Tree) -> Verdict:
    """The first rule of a podFailurePolicy that the failed pod matches."""
    for index, rule in enumerate((policy or {}).get("rules") or []):
        name = f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"
        if rule.get("onExitCodes"):
            status = _by_exit_code(pod, rule["onExitCodes"])
            if status:
                code = status["state"]["terminated"]["exitCode"]
                message = f"Container {status['name']} for pod {name} failed with exit code {code} matching {rule['action']} rule at index {index}"
                return Verdict(rule["action"], message)
        else:
            condition = _by_condition(pod, rule.get("onPodConditions") or [])
            if condition:
                return Verdict(
                    rule["action"], f"Pod {name} has condition {condition['type']} matching {rule['action']} rule at index {index}"
                )
    return Verdict()


def _by_exit_code(pod: Tree, wanted: Tree) -> Tree | None:
    status = pod.get("status") or {}
    for each in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]:
        ended = (each.get("state") or {}).get("terminated")
        if not ended or not ended["exitCode"] or wanted.get("containerName") not in (None, each["name"]):
            continue
        if (ended["exitCode"] in wanted["values"]) is (wanted["operator"] == "In"):
            result: Tree = each
            return result
    return None


def _by_condition(pod: Tree, patterns: Sequence[Tree]) -> Tree | None:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if any(condition["type"] == pattern["type"] and condition["status"] == (pattern.get("status") or "True") for pattern in patterns):
            result: Tree = condition
            return result
    return None


def success_rule(policy: Tree | None, succeeded: Indexes) -> str:
    """What the success policy says has been met, or an empty string."""
    if not policy or not succeeded:
        return ""
    for index, rule in enumerate(policy.get("rules") or []):
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = read(rule["succeededIndexes"])
            there = wanted.shared(succeeded)
            if wanted and (there == wanted.count or (count is not None and there >= count)):
                return f"Matched rules at index {index}"
        elif count is not None and succeeded.count >= count:
            return f"Matched rules at index {index}"
    return ""


def finished_at(pod: Tree) -> datetime:
    """When a pod ended, as well as can be told."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    ends: list[str | None] = [
        ((each.get("state") or {}).get("terminated") or {}).get("finishedAt") for each in status.get("containerStatuses") or []
    ]
    if ends and all(ends):
        return max(times.parse(end) for end in ends if end)
    for condition in status.get("conditions") or []:
        if condition["type"] == "Ready" and condition["status"] == "False" and condition.get("lastTransitionTime"):
            return times.parse(condition["lastTransitionTime"])
    if metadata.get("deletionTimestamp"):
        return times.after(times.parse(metadata["deletionTimestamp"]), -(metadata.get("deletionGracePeriodSeconds") or 0))
    return times.parse(metadata["creationTimestamp"])


@dataclass(frozen=True)
class BackOff:
    """How often a Job's pods failed since one succeeded, and when last."""

    failures: int = 0
    last: datetime | None = None

    def after(self, succeeded: Iterable[Tree], failed: Iterable[Tree]) -> BackOff:
        """The back-off once these newly ended pods are known."""
        good, bad = sorted(map(finished_at, succeeded)), sorted(map(finished_at, failed))
        if not good and not bad:
            return self
        if not good:
            return BackOff(self.failures + len(bad), bad[-1])
        later = [time for time in bad if time > good[-1]]
        return BackOff(len(later), later[-1] if later else None)

    def remaining(self, now: datetime) -> timedelta:
        return remaining(self.failures, self.last, now)


def remaining(failures: int, last: datetime | None, now: datetime) -> timedelta:
    """How long until the next pod may be made: 10 s, doubled for each failure, ten minutes at most."""
    if failures == 0 or last is None:
        return timedelta()
    doubled: timedelta = FIRST_BACK_OFF * 2 ** min(failures - 1, 10)
    wait = min(doubled, LONGEST_BACK_OFF)
    return min(max(wait - (now - last), timedelta()), wait)
