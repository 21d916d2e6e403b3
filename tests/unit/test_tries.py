"""Kubernetes' own tries, seen from outside: how a Job stands between them, how often it failed, when the next comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.local import job_rules
from jobyard.model.back_off import Tries, between_tries, delay, finished_at
from jobyard.model.explained import lone, owner_names
from jobyard.model.job import read
from jobyard.model.objects import Event, Job, Pod
from jobyard.model.run import Reason, State
from jobyard.model.standing import has_run, stands

Tree = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def job(*, spec: Tree | None = None, metadata: Tree | None = None, **status: Any) -> Job:
    conditions = [{"type": kind, "status": "True"} for kind in status.pop("conditions", ())]
    return msgspec.convert(
        {
            "metadata": {"name": "j", "uid": "j", "creationTimestamp": NOW.isoformat(), **(metadata or {})},
            "spec": {"backoffLimit": 6, **(spec or {})},
            "status": {"conditions": conditions, **status},
        },
        Job,
    )


def pod(name: str, phase: str, ended: float = 0, *, index: int | None = None, failures: int = 0, **status: Any) -> Pod:
    """A pod of one container that ended so many seconds after NOW, if it did."""
    state: Tree = {"running": {}} if phase == "Running" else {"waiting": {"reason": "ContainerCreating"}}
    if phase in ("Succeeded", "Failed"):
        state = {"terminated": {"exitCode": 0 if phase == "Succeeded" else 4, "finishedAt": at(ended).isoformat()}}
    notes = (
        {}
        if index is None
        else {"batch.kubernetes.io/job-completion-index": str(index), "batch.kubernetes.io/job-index-failure-count": str(failures)}
    )
    containers = [{"name": "main", "state": state}]
    return msgspec.convert(
        {
            "metadata": {"name": name, "uid": name, "annotations": notes},
            "status": {"phase": phase, "containerStatuses": containers, **status},
        },
        Pod,
    )


def crashing(restarts: int, name: str = "p") -> Pod:
    waits = {"waiting": {"reason": "CrashLoopBackOff"}}
    last = {"terminated": {"exitCode": 4}}
    status = {"name": "main", "restartCount": restarts, "state": waits, "lastState": last}
    return pod(name, "Running", containerStatuses=[status])


# --- Kubernetes' rule ---


@pytest.mark.parametrize(("failures", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 320), (7, 600), (8, 600), (1000, 600)])
def test_the_next_pod_comes_ten_seconds_after_the_first_failure_and_twice_as_late_each_time(failures: int, seconds: int) -> None:
    assert delay(failures) == timedelta(seconds=seconds)


@given(st.integers(1, 40))
def test_the_local_cluster_waits_as_long(failures: int) -> None:
    assert delay(failures) == job_rules.remaining(failures, NOW, NOW)


BETWEEN: list[tuple[str, Job, list[Pod], Tries | None]] = [
    ("before the first failure", job(active=1), [pod("a", "Running")], None),
    ("after one failure", job(failed=1), [pod("a", "Failed", 5)], Tries(failed=1, of=7, by="Kubernetes", again=at(15))),
    (
        "counted from the last that ended",
        job(failed=3),
        [pod("a", "Failed", 5), pod("c", "Failed", 70), pod("b", "Failed", 20)],
        Tries(failed=3, of=7, by="Kubernetes", again=at(110)),
    ),
    ("pods that are deleted count too", job(failed=3), [pod("c", "Failed", 70)], Tries(failed=3, of=7, by="Kubernetes", again=at(110))),
    ("without its pods, nobody knows when", job(failed=2), [], Tries(failed=2, of=7, by="Kubernetes")),
    (
        "a success begins the back-off anew",
        job(failed=3, succeeded=1),
        [pod("a", "Failed", 5), pod("b", "Failed", 20), pod("s", "Succeeded", 30), pod("c", "Failed", 70)],
        Tries(failed=3, of=7, by="Kubernetes", again=at(80)),
    ),
    (
        "one that is not in the counts yet",
        job(failed=1, uncountedTerminatedPods={"failed": ["b"]}),
        [pod("a", "Failed", 5), pod("b", "Failed", 20)],
        Tries(failed=2, of=7, by="Kubernetes", again=at(40)),
    ),
    (
        "as often as it may",
        job(spec={"backoffLimit": 1}, failed=1),
        [pod("a", "Failed")],
        Tries(failed=1, of=2, by="Kubernetes", again=at(10)),
    ),
    ("more often than it may: it is about to be called failed", job(spec={"backoffLimit": 0}, failed=1), [pod("a", "Failed")], None),
    ("the default", job(spec={"backoffLimit": None}, failed=1), [], Tries(failed=1, of=7, by="Kubernetes")),
    ("another part of it runs", job(failed=1, active=1, ready=1), [pod("a", "Failed"), pod("b", "Running")], None),
    ("the next is there", job(failed=1, active=1), [pod("a", "Failed"), pod("b", "Pending")], None),
    ("a pod still ends", job(failed=1, terminating=1), [pod("a", "Failed")], None),
    ("it ends", job(failed=1, conditions=["FailureTarget"]), [pod("a", "Failed")], None),
    ("it has ended", job(failed=7, conditions=["FailureTarget", "Failed"]), [pod("a", "Failed")], None),
    ("suspended", job(spec={"suspend": True}, failed=1), [pod("a", "Failed")], None),
    ("run by somebody else", job(spec={"managedBy": "example.com/queue"}, failed=1), [pod("a", "Failed")], None),
    (
        "started again by its node",
        job(spec={"template": {"spec": {"restartPolicy": "OnFailure"}}}, active=1),
        [crashing(2)],
        Tries(failed=3, of=6, by="Kubernetes"),
    ),
    (
        "one of two started again, one runs",
        job(spec={"template": {"spec": {"restartPolicy": "OnFailure"}}}, active=2),
        [crashing(2), pod("b", "Running")],
        None,
    ),
    ("a sidecar is started again without end", job(active=1), [crashing(4)], Tries(failed=5, of=None, by="Kubernetes")),
    (
        "each index by itself, and the next of them",
        job(spec={"backoffLimit": 2**31 - 1, "backoffLimitPerIndex": 3}, failed=3),
        [pod("a", "Failed", 50, index=0, failures=1), pod("b", "Failed", 20, index=1), pod("c", "Failed", 1, index=2, failures=3)],
        Tries(failed=1, of=4, by="Kubernetes", again=at(30), index="1"),
    ),
]


@pytest.mark.parametrize(("case", "of", "pods", "tries"), BETWEEN, ids=[case[0].replace(" ", "-") for case in BETWEEN])
def test_between_two_tries(case: str, of: Job, pods: list[Pod], tries: Tries | None) -> None:
    assert between_tries(of, pods) == tries
    if tries is not None:
        assert (stands(of, pods).state, stands(of, pods).reason) == (State.PENDING, Reason.RETRY_BACK_OFF)
    else:
        assert stands(of, pods).reason != Reason.RETRY_BACK_OFF


def test_the_job_alone_tells_that_it_is_between_two_tries() -> None:
    assert (read(job(failed=1)).state, read(job(failed=1)).reason) == (State.PENDING, Reason.RETRY_BACK_OFF)


@pytest.mark.parametrize(
    ("of", "pods", "state", "ran"),
    [
        (job(), [], State.PENDING, False),
        (job(active=1), [pod("a", "Pending")], State.PENDING, False),
        (job(active=1), [pod("a", "Running")], State.RUNNING, True),
        (job(active=1, ready=1), [pod("a", "Pending")], State.RUNNING, True),
        (job(active=1), [pod("a", "Succeeded")], State.RUNNING, True),
        (job(active=1), [pod("a", "Failed")], State.RUNNING, True),
        (job(active=1, failed=1), [pod("a", "Failed"), pod("b", "Pending")], State.PENDING, True),
        (job(active=1, failed=1), [pod("a", "Failed"), pod("b", "Running")], State.RUNNING, True),
        (job(active=1, succeeded=1), [pod("a", "Succeeded"), pod("b", "Pending")], State.RUNNING, True),
        (job(failed=1), [pod("a", "Failed")], State.PENDING, True),
        (job(active=1), [crashing(1)], State.PENDING, True),
        (job(failed=1, conditions=["FailureTarget"]), [pod("a", "Failed")], State.RUNNING, True),
        (job(succeeded=1, conditions=["SuccessCriteriaMet", "Complete"]), [pod("a", "Succeeded")], State.SUCCEEDED, True),
    ],
)
def test_how_a_job_stands_by_its_pods(of: Job, pods: list[Pod], state: State, ran: bool) -> None:
    assert stands(of, pods).state is state
    assert has_run(of, pods) is ran


def test_a_pod_that_is_about_to_run_after_a_failure_is_still_a_try_to_come() -> None:
    found = lone(job(active=1, failed=1), [pod("a", "Failed"), pod("b", "Pending")], [])
    assert (found.state, found.reason) == (State.PENDING, Reason.RETRY_BACK_OFF)
    assert found.tries == Tries(failed=1, of=7, by="Kubernetes", begins=True)
    assert found.diagnosis is not None
    assert found.diagnosis.exit_code == 4


def test_a_next_try_that_can_t_start_is_told_by_what_keeps_it() -> None:
    unscheduled = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}]
    found = lone(job(active=1, failed=1), [pod("a", "Failed"), pod("b", "Pending", conditions=unscheduled)], [])
    assert (found.reason, found.tries) == (Reason.WAITING_FOR_POD, None)
    assert found.diagnosis is not None
    assert found.diagnosis.reason == "Unschedulable"


def test_a_pod_ended_when_its_last_container_did() -> None:
    ends = [
        {"name": name, "state": {"terminated": {"exitCode": 1, "finishedAt": at(end).isoformat()}}} for name, end in (("a", 3), ("b", 9))
    ]
    assert finished_at(pod("p", "Failed", containerStatuses=ends)) == at(9)
    unready = [{"type": "Ready", "status": "False", "lastTransitionTime": at(4).isoformat()}]
    assert finished_at(pod("p", "Failed", containerStatuses=[], conditions=unready)) == at(4)


# --- what was said of pods that are gone ---


@pytest.mark.parametrize(
    ("name", "owners"),
    [
        ("load-x7k2p", ("load",)),
        ("load-3-x7k2p", ("load", "load-3")),  # of an indexed Job, or of one of that name
        ("load", ()),
        ("load-aeiou", ()),  # no letters that make words
        ("load-x7k2", ()),
        ("a-x7k2p-w9d4f", ("a-x7k2p",)),
    ],
)
def test_a_pod_tells_by_its_name_whose_it_was(name: str, owners: tuple[str, ...]) -> None:
    assert owner_names(name) == owners


def failed_pull(name: str, told: datetime) -> Event:
    return msgspec.convert(
        {
            "metadata": {"name": "e"},
            "type": "Warning",
            "reason": "Failed",
            "message": 'Failed to pull image "x"',
            "involvedObject": {"kind": "Pod", "name": name, "uid": "gone"},
            "lastTimestamp": told.isoformat(),
        },
        Event,
    )


def test_what_kept_a_pod_from_running_is_told_though_it_is_gone() -> None:
    failed = msgspec.convert(
        {
            "metadata": {"name": "load", "uid": "u", "creationTimestamp": NOW.isoformat()},
            "spec": {"activeDeadlineSeconds": 8},
            "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]},
        },
        Job,
    )
    found = lone(failed, [], [failed_pull("load-x7k2p", at(1)), failed_pull("other-x7k2p", at(1))]).diagnosis
    assert found is not None
    assert found.sentence.endswith(" Before that: Could not fetch the program: x can't be pulled.")
    earlier = lone(failed, [], [failed_pull("load-x7k2p", at(-60))]).diagnosis
    assert earlier is not None
    assert earlier.detail == ""
