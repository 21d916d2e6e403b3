"""When Jobs start for a queue: each wait, scaling, and what must hold whatever a queue and its runs look like."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.model.workflow import Workflow
from jobyard.triggers.postgres.depth import Depth, by_queue
from jobyard.triggers.postgres.rule import End, QueueRun, Start, Wait, Why, next_step, rest
from jobyard.triggers.postgres.settings import QueueSettings, Scale, Waits

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
S = timedelta(seconds=1)
WAITS = Waits(check=55 * S, success=5 * S, failure=10 * S, error=15 * S, start_timeout=7 * S)
ONE = QueueSettings(queue="work", workflow=Workflow(name="work", steps=()), waits=WAITS)
MANY = replace(ONE, scale=Scale(most=20, per_pod=10))


def deep(waiting: int, **more: object) -> Depth:
    return Depth(**{"waiting": waiting, "at": NOW, **more})  # type: ignore[arg-type]


def ended(end: End, ago: float, **more: object) -> QueueRun:
    return QueueRun(**{"end": end, "ended": NOW - ago * S, **more})  # type: ignore[arg-type]


def going(running_for: float | None = None) -> QueueRun:
    return QueueRun(running_since=None if running_for is None else NOW - running_for * S)


# --- one at a time: job-chief's cycle ---


def test_an_empty_queue_is_looked_at_again_after_the_check_interval() -> None:
    assert next_step(deep(0), [], ONE, NOW) == Wait(until=NOW + 55 * S, why=Why.EMPTY)


def test_a_queue_with_work_starts_one_run() -> None:
    assert next_step(deep(500, more=True), [], ONE, NOW) == Start(count=1)


def test_while_a_run_goes_on_no_other_starts() -> None:
    assert next_step(deep(500), [going()], ONE, NOW) == Wait(until=None, why=Why.RUNNING)


@pytest.mark.parametrize(
    ("end", "seconds", "why"),
    [
        (End.SUCCESS, 5, Why.AFTER_SUCCESS),
        (End.FAILURE, 10, Why.AFTER_FAILURE),
        (End.ERROR, 15, Why.AFTER_ERROR),
        (End.START_TIMEOUT, 7, Why.AFTER_START_TIMEOUT),
    ],
)
def test_each_end_has_a_wait_of_its_own_counted_from_the_end(end: End, seconds: int, why: Why) -> None:
    assert next_step(deep(1), [ended(end, 2)], ONE, NOW) == Wait(until=NOW + (seconds - 2) * S, why=why)
    assert next_step(deep(1), [ended(end, seconds)], ONE, NOW) == Start(count=1)


def test_failures_in_a_row_wait_as_long_as_the_settings_say_each_time() -> None:
    assert next_step(deep(1), [ended(End.FAILURE, each) for each in (50, 40, 30, 11)], ONE, NOW) == Start(count=1)


def test_a_cluster_whose_clock_is_ahead_makes_no_wait_longer() -> None:
    assert next_step(deep(1), [ended(End.SUCCESS, -3600)], ONE, NOW) == Wait(until=NOW + 5 * S, why=Why.AFTER_SUCCESS)


def test_what_is_due_before_the_check_is_looked_at_when_it_is_due() -> None:
    assert next_step(deep(0, next_due=NOW + 20 * S), [], ONE, NOW) == Wait(until=NOW + 20 * S, why=Why.EMPTY)
    assert next_step(deep(0, next_due=NOW + 60 * S), [], ONE, NOW) == Wait(until=NOW + 55 * S, why=Why.EMPTY)


def test_a_depth_that_is_not_known_starts_nothing() -> None:
    assert next_step(None, [], ONE, NOW) == Wait(until=NOW + 55 * S, why=Why.UNKNOWN)


def test_runs_that_succeed_and_take_nothing_are_made_more_slowly() -> None:
    before = deep(3, oldest=NOW - 900 * S)
    useless = [ended(End.SUCCESS, ago, found=before) for ago in (90, 60, 30)]
    assert next_step(before, useless, ONE, NOW) == Wait(until=NOW + (110 - 30) * S, why=Why.NO_PROGRESS)
    assert next_step(before, useless[:2], ONE, NOW) == Start(count=1)
    assert next_step(deep(2, oldest=before.oldest), useless, ONE, NOW) == Start(count=1)
    assert next_step(deep(9, oldest=NOW - 800 * S), useless, ONE, NOW) == Start(count=1)


def test_a_deep_queue_whose_items_came_in_one_statement_is_drained_as_fast_as_any() -> None:
    """They are all of one age, and more than are counted: 500 items were drained by 11 Jobs in five minutes, then by fewer and fewer."""
    for depth in (deep(100, more=True, oldest=NOW - 900 * S), deep(101, oldest=NOW - 900 * S)):
        before = deep(100, more=True, oldest=NOW - 900 * S)
        assert next_step(depth, [ended(End.SUCCESS, ago, found=before) for ago in (9, 6, 3)], MANY, NOW) == Start(count=10)


# --- scaling ---


def test_as_many_start_as_what_waits_needs_at_most_so_many_at_once() -> None:
    assert next_step(deep(41), [], MANY, NOW) == Start(count=5)
    assert next_step(deep(5000), [], MANY, NOW) == Start(count=10)


def test_what_is_starting_will_take_its_share_and_what_has_run_for_a_while_has_taken_it() -> None:
    assert next_step(deep(41), [going(), going(3)], MANY, NOW) == Start(count=3)
    assert next_step(deep(41), [going(20), going(60)], MANY, NOW) == Start(count=5)
    assert next_step(deep(20), [going(), going(3)], MANY, NOW) == Wait(until=NOW + 12 * S, why=Why.ENOUGH)


def test_no_more_may_be_unfinished_than_the_settings_say() -> None:
    assert next_step(deep(500), [going(99)] * 18, MANY, NOW) == Start(count=2)
    assert next_step(deep(500), [going(99)] * 20, MANY, NOW) == Wait(until=NOW + 55 * S, why=Why.FULL)
    assert next_step(deep(500), [going(99)] * 3, replace(MANY, pods=5), NOW) == Start(count=1)


def test_a_success_is_no_reason_to_wait_and_failures_in_a_row_wait_longer_each_time() -> None:
    assert next_step(deep(10), [ended(End.SUCCESS, 1)], MANY, NOW) == Start(count=1)
    assert next_step(deep(10), [ended(End.FAILURE, 4)], MANY, NOW) == Wait(until=NOW + 6 * S, why=Why.AFTER_FAILURE)
    failures = [ended(End.FAILURE, ago) for ago in (30, 20, 4)]
    assert next_step(deep(10), failures, MANY, NOW) == Wait(until=NOW + 36 * S, why=Why.AFTER_FAILURE)
    assert next_step(deep(10), [*failures, ended(End.SUCCESS, 1)], MANY, NOW) == Start(count=1)


# --- whatever there is ---

DEPTHS = st.none() | st.builds(
    deep,
    st.integers(0, 10**6),
    more=st.booleans(),
    oldest=st.none() | st.integers(0, 10**6).map(lambda ago: NOW - ago * S),
    next_due=st.none() | st.integers(-100, 10**6).map(lambda later: NOW + later * S),
)
RUNS = st.lists(
    st.one_of(
        st.builds(going, st.none() | st.floats(-100, 1000)),
        st.builds(ended, st.sampled_from(End), st.floats(-1000, 1000), found=DEPTHS),
    ),
    max_size=30,
)
SCALES = st.none() | st.builds(Scale, most=st.integers(1, 50), per_pod=st.integers(1, 50), most_at_once=st.integers(1, 20))
SETTINGS = st.builds(lambda scale, pods: replace(ONE, scale=scale, pods=pods), SCALES, st.integers(1, 30))


@given(DEPTHS, RUNS, SETTINGS)
def test_nothing_starts_without_work_or_room_and_no_wait_is_over_already(
    depth: Depth | None, runs: list[QueueRun], settings: QueueSettings
) -> None:
    step = next_step(depth, runs, settings, NOW)
    unfinished = sum(run.end is None for run in runs)
    if isinstance(step, Start):
        assert depth is not None
        assert depth.waiting > 0
        assert step.count >= 1
        if settings.scale is None:
            assert (step.count, unfinished) == (1, 0)
        else:
            assert (unfinished + step.count) * settings.pods <= settings.scale.most
            assert step.count <= settings.scale.most_at_once
            assert step.count <= math.ceil(depth.waiting / (settings.scale.per_pod * settings.pods))
    elif step.until is None:
        assert unfinished
    else:
        assert step.until > NOW


@given(DEPTHS, RUNS, SETTINGS)
def test_what_rests_rests_however_deep_the_queue_is(depth: Depth | None, runs: list[QueueRun], settings: QueueSettings) -> None:
    wait = rest(runs, settings, NOW)
    if wait is not None:
        assert next_step(depth, runs, settings, NOW) == wait


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.integers(1, 50), st.integers(1, 40), st.integers(1, 20))
def test_a_queue_is_drained_by_exactly_the_jobs_that_it_takes(items: int, per_pod: int, most: int, lives: int) -> None:
    """Each Job's pod runs two looks after it was begun, takes its items at once, and ends `lives` looks later."""
    settings = replace(ONE, waits=replace(WAITS, check=2 * S), scale=Scale(most=most, per_pod=per_pod, claim_grace=4 * S))
    now, waiting, made = NOW, items, 0
    runs: list[tuple[datetime, QueueRun]] = []
    for _ in range(20_000):
        for index, (begun, run) in enumerate(runs):
            if run.running_since is None and now >= begun + 4 * S:
                waiting -= min(waiting, per_pod)
                runs[index] = (begun, replace(run, running_since=now))
            elif run.running_since is not None and run.end is None and now >= run.running_since + lives * 2 * S:
                runs[index] = (begun, replace(run, end=End.SUCCESS, ended=now))
        step = next_step(Depth(waiting=waiting, at=now, oldest=now - S if waiting else None), [run for _, run in runs], settings, now)
        if isinstance(step, Start):
            made += step.count
            runs += [(now, QueueRun())] * step.count
        now += 2 * S
        runs = [each for each in runs if each[1].end is None or each[1].ended == now]
        if not waiting and not runs:
            break
    assert (waiting, made) == (0, math.ceil(items / per_pod))


# --- what a database says is input ---


@given(st.lists(st.tuples(st.text() | st.none() | st.integers(), st.floats() | st.none() | st.text(), st.floats() | st.none())))
def test_whatever_rows_hold_every_queue_has_a_depth(rows: list[tuple[object, object, object]]) -> None:
    found = by_queue(rows, ["a", "0"], 500, NOW)
    assert list(found) == ["a", "0"]
    for depth in found.values():
        assert 0 <= depth.waiting <= 10**15
        assert depth.oldest is None or depth.oldest <= NOW
