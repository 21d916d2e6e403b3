"""The answer to "why?": in a sentence, and never less of a run than of its Jobs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobyard.cli import render
from jobyard.cli.render import explain
from jobyard.cli.screens import folded
from jobyard.model.back_off import Tries
from jobyard.model.cause import Cause, Diagnosis
from jobyard.model.explained import lone
from jobyard.model.run import Reason, Role, RunView, State, StepView
from jobyard.service.reasons import as_text, discreet, held_up, of_job, of_run, reason_of, told
from jobyard.service.shapes import answer_json, step_json
from tests.unit import test_tries
from tests.unit.test_diagnosis import CASES

NOW = datetime(2026, 1, 1, 12, 3, 20, tzinfo=UTC)
EXIT = Diagnosis(
    reason="ExitCode", sentence="Container main exited with code 4.", container="main", exit_code=4, remedy="Its log tells more."
)
ABOUT = NOW.astimezone().strftime("%H:%M")


def view(*steps: StepView, state: State = State.RUNNING, reason: str = "") -> RunView:
    return RunView(id="i", name="etl-i", workflow="etl", namespace="n", trigger="cli", state=state, reason=reason, started=NOW, steps=steps)


def step(state: State, reason: str = "", **more: object) -> StepView:
    return replace(StepView(name="load", state=state, reason=reason, job="load-1", attempt=1), **more)  # type: ignore[arg-type]


TRIES = Tries(failed=3, of=7, by="Kubernetes", again=NOW)

SAID: list[tuple[str, StepView, str]] = [
    (
        "between two tries",
        step(State.PENDING, Reason.RETRY_BACK_OFF, tries=TRIES, diagnosis=EXIT),
        f"failed 3 of 7 times: exit code 4; Kubernetes tries again about {ABOUT}.",
    ),
    (
        "by our own retry",
        step(State.PENDING, Reason.RETRY_BACK_OFF, tries=replace(TRIES, by="Jobyard", of=4), diagnosis=EXIT),
        f"failed 3 of 4 times: exit code 4; Jobyard tries again about {ABOUT}.",
    ),
    (
        "by its node",
        step(State.PENDING, Reason.RETRY_BACK_OFF, tries=replace(TRIES, again=None), diagnosis=EXIT),
        "failed 3 of 7 times: exit code 4; Kubernetes tries again soon.",
    ),
    (
        "without end",
        step(State.PENDING, Reason.RETRY_BACK_OFF, tries=replace(TRIES, of=None, again=None), diagnosis=EXIT),
        "failed 3 times: exit code 4; Kubernetes tries again soon.",
    ),
    (
        "of a part",
        step(State.PENDING, Reason.RETRY_BACK_OFF, tries=replace(TRIES, index="5"), diagnosis=EXIT),
        f"failed 3 of 7 times in part 5: exit code 4; Kubernetes tries again about {ABOUT}.",
    ),
    (
        "the next is there",
        step(State.PENDING, Reason.RETRY_BACK_OFF, tries=replace(TRIES, again=None, begins=True), diagnosis=EXIT),
        "failed 3 of 7 times: exit code 4; its next try is about to run.",
    ),
    (
        "for another cause",
        step(
            State.PENDING,
            Reason.RETRY_BACK_OFF,
            tries=TRIES,
            diagnosis=Diagnosis(reason="OOMKilled", sentence="Ran out of memory: container main needed more than the 2Gi it may use."),
        ),
        f"failed 3 of 7 times: ran out of memory: container main needed more than the 2Gi it may use; Kubernetes tries again about {ABOUT}.",
    ),
    (
        "nobody knows why",
        step(State.PENDING, Reason.RETRY_BACK_OFF, tries=TRIES),
        f"failed 3 of 7 times; Kubernetes tries again about {ABOUT}.",
    ),
    ("failed", step(State.FAILED, "BackoffLimitExceeded", diagnosis=EXIT), "failed. Container main exited with code 4."),
    (
        "failed before a Job was made",
        step(State.FAILED, Reason.NAME_TAKEN, message="Job x is another's."),
        "failed. Another Job has its name.",
    ),
    ("lost", step(State.LOST, Reason.JOB_VANISHED, message="Its Job x was there."), "is lost. Somebody deleted its Job before it ended."),
    ("runs", step(State.RUNNING), "is running."),
    (
        "runs, but not all is well",
        step(State.RUNNING, diagnosis=Diagnosis(reason="Unschedulable", sentence="Waiting for a place on the cluster.")),
        "is running, but not all is well. Waiting for a place on the cluster.",
    ),
    (
        "waits for somebody",
        step(State.PENDING, Reason.WAITING_FOR_POD, message="It waits for the scheduler none."),
        "is not running. It waits for the scheduler none.",
    ),
    ("waits for its pod", step(State.PENDING, Reason.WAITING_FOR_POD), "is not running. Waiting for its pod to start."),
    (
        "waits for its turn",
        step(State.PENDING, Reason.WAITING_FOR_LIMIT, message="All 3 places of limit shop are taken by a, b, c."),
        "is not running. Waiting for its turn: all 3 places of limit shop are taken by a, b, c.",
    ),
    (
        "waits by parallelism",
        step(State.PENDING, Reason.WAITING_FOR_LIMIT),
        "is not running. Waiting for its turn: as many Jobs of this run are active as its parallelism allows.",
    ),
    (
        "waits for a right",
        step(State.PENDING, Reason.NO_RIGHT, message="Jobyard may not create jobs"),
        "is not running. Waiting for a right that is missing.",
    ),
    ("succeeded", step(State.SUCCEEDED), "succeeded."),
    (
        "cancelled",
        step(State.CANCELLED, Reason.CANCELLED, diagnosis=Diagnosis(reason="Cancelled", sentence="Cancelled.")),
        "was cancelled.",
    ),
]


@pytest.mark.parametrize(("case", "of", "sentence"), SAID, ids=[case[0].replace(" ", "-") for case in SAID])
def test_a_sentence_for_each_way_to_stand(case: str, of: StepView, sentence: str) -> None:
    assert of_job(of).sentence == f"Job load {sentence}"


def test_who_fills_a_limit_is_said_once_and_by_show_too() -> None:
    full = step(State.PENDING, Reason.WAITING_FOR_LIMIT, message="The only place of limit gpu is taken by a-1.")
    assert of_job(full).detail == ""
    shown = render.to_explain(view(full, replace(full, name="next"), StepView(name="other", state=State.RUNNING, job="other-1")))
    assert [line for each in shown for line in render.explain(each)] == [
        "load: Waiting for its turn: the only place of limit gpu is taken by a-1."
    ]


@pytest.mark.parametrize(("case", "of", "sentence"), SAID, ids=[case[0].replace(" ", "-") for case in SAID])
def test_a_run_tells_no_less_of_its_steps(case: str, of: StepView, sentence: str) -> None:
    answers = of_run(view(of, StepView(name="other", state=State.RUNNING, job="other-1")))
    told = [answer.sentence for answer in answers]
    assert f"Step load {sentence}" in told or of.diagnosis is None or of.state in (State.SUCCEEDED, State.CANCELLED)


def stories() -> list[Any]:
    """Jobs in all the ways that we know of."""
    between: list[Any] = [(case, of, pods, [], "", "", "") for case, of, pods, _ in test_tries.BETWEEN]
    diagnosed: list[Any] = [(case, of, [pod] if pod else [], events, *rest) for case, of, pod, events, *rest in CASES]
    return [each for each in diagnosed if each[0] != "cancelled"] + between


@pytest.mark.parametrize("story", stories(), ids=[each[0].replace(" ", "-") for each in stories()])
def test_why_of_a_run_never_knows_less_than_why_of_its_job(story: Any) -> None:
    _, job, pods, events, *_ = story
    alone = lone(job, pods, events)
    told = of_job(alone)
    state = State.RUNNING if not alone.state.is_end else alone.state
    answers = of_run(view(replace(alone, name="load"), StepView(name="other", state=State.RUNNING, job="other-1"), state=state))
    for known in (told.diagnosis, told.tries, told.remedy, told.detail):
        assert not known or any(known in (each.diagnosis, each.tries, each.remedy, each.detail) for each in answers)
    ending = told.sentence.partition(f"Job {alone.name} ")[2]
    knows_more = bool(told.diagnosis or told.tries or alone.message)
    assert not knows_more or any(each.sentence.endswith(ending) for each in answers)


def test_what_failed_and_what_is_held_up_are_both_told() -> None:
    failed, stuck = step(State.FAILED, diagnosis=EXIT), replace(SAID[0][1], name="other")
    assert [answer.about for answer in of_run(view(failed, stuck))] == ["etl-i/load", "etl-i/other"]
    assert [answer.about for answer in of_run(view(failed, stuck, state=State.FAILED))] == ["etl-i/load"]


def test_a_failure_before_another_try_is_an_obstacle_that_is_told_of_a_run_that_nobody_looks_at() -> None:
    assert [answer.step for answer in held_up(view(SAID[0][1]))] == ["load"]


def test_where_others_may_read_it_a_program_is_not_quoted() -> None:
    program = replace(SAID[0][1], diagnosis=replace(EXIT, detail="TOKEN=canary"), last_lines=("canary",))
    puller = step(
        State.PENDING, diagnosis=Diagnosis(reason=Cause.ERR_IMAGE_PULL, sentence="No such image.", detail="not found", container="main")
    )
    for answer, words in zip(held_up(view(program, puller)), ("canary", "not found"), strict=True):
        assert (words in str(as_text(discreet(answer)))) == (words == "not found")


def test_a_run_that_goes_well_says_what_runs() -> None:
    (answer,) = of_run(view(step(State.RUNNING), StepView(name="undo", role=Role.REVERT, state=State.RUNNING)))
    assert answer.sentence == "Run etl-i is running: load, undo (revert)."


def test_a_run_that_ended_says_how_in_words() -> None:
    assert of_run(view(state=State.FAILED, reason=Reason.TIMEOUT))[0].sentence == "Run etl-i failed. Took longer than its timeout allows."
    assert (
        of_run(view(state=State.LOST, reason=Reason.JOB_VANISHED))[0].sentence
        == "Run etl-i is lost. Somebody deleted its Job before it ended."
    )


def test_what_is_raw_comes_last() -> None:
    found = replace(EXIT, remedy="Mend it.", detail="no connection\n\nto db")
    assert as_text(of_job(step(State.FAILED, diagnosis=found))) == [
        "Job load failed. Container main exited with code 4.",
        "  Mend it.",
        "  no connection",
        "  to db",
    ]


def test_that_the_log_tells_more_is_followed_by_nothing_but_the_log() -> None:
    found = replace(EXIT, detail="no connection")
    failed = step(State.FAILED, diagnosis=found)
    assert as_text(of_job(failed))[1:] == ["  no connection", "  Its log tells more."]
    assert explain(failed)[-2:] == ["  no connection", "  Its log tells more."]


def test_json_tells_of_tries_and_of_the_log() -> None:
    told = replace(SAID[0][1], last_lines=("no connection",))
    tries = {"failed": 3, "of": 7, "by": "Kubernetes", "next": "2026-01-01T12:03:20Z", "part": None}
    for found in (step_json(told), answer_json(of_job(told))):
        assert (found["tries"], found["lastLines"]) == (tries, ["no connection"])
    assert step_json(told)["reason"] == reason_of(told) == "RetryBackOff"
    assert step_json(step(State.RUNNING))["tries"] is None


def test_the_next_try_may_be_due() -> None:
    late = replace(TRIES, again=NOW - timedelta(hours=1))
    assert "tries again about" in of_job(replace(SAID[0][1], tries=late)).sentence


@pytest.mark.parametrize(
    ("seconds", "when"),
    [(-1, "now"), (0, "in 0 s"), (2.2, "in 3 s"), (119.5, "in 120 s"), (120, f"about {(NOW + timedelta(seconds=120)).astimezone():%H:%M}")],
)
def test_a_try_that_is_near_is_told_in_seconds(seconds: float, when: str) -> None:
    tries = replace(TRIES, again=NOW + timedelta(seconds=seconds))
    waits = step(State.PENDING, Reason.RETRY_BACK_OFF, tries=tries, diagnosis=EXIT)
    assert told(waits, NOW) == f"Failed 3 of 7 times: exit code 4; Kubernetes tries again {when}."
    assert f" {when}." in of_job(waits, NOW).sentence
    assert f" {when}." in of_run(view(waits), NOW)[0].sentence
    about = f"about {tries.again.astimezone():%H:%M}" if tries.again else ""
    assert about in answer_json(of_job(waits))["sentence"], "a program is told the time"


def test_that_a_log_tells_more_is_not_said_where_its_lines_follow() -> None:
    failed = step(State.FAILED, diagnosis=EXIT)
    assert "Its log tells more." in "".join([*as_text(of_job(failed)), *explain(failed)])
    with_lines = replace(failed, last_lines=("no connection",))
    assert "tells more" not in "".join([*as_text(of_job(with_lines)), *explain(failed, NOW, ["no connection"])])


def test_what_does_not_fit_beside_a_step_is_folded_below_it_with_what_its_failed_try_wrote() -> None:
    waits = step(State.PENDING, Reason.RETRY_BACK_OFF, tries=TRIES, diagnosis=EXIT)
    assert folded(waits, NOW, 200, 9) == [], "it fits"
    assert folded(waits, NOW, 40, 9) == ["Failed 3 of 7 times: exit code 4;", "Kubernetes tries again in 0 s."]
    wrote = replace(waits, last_lines=("no connection", "giving up"))
    assert folded(wrote, NOW, 200, 9)[1:] == ["| no connection", "| giving up"]
    assert len(folded(wrote, NOW, 200, 2)) == 2, "no more than there is room for"
    assert folded(step(State.RUNNING), NOW, 1, 9) == []
