"""What is known of a queue between two looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from jobyard.cli.triggers import NEXT, level_words
from jobyard.model.run import Run, State
from jobyard.model.workflow import Workflow
from jobyard.service.board import QUEUES_TOLD
from jobyard.service.queues import levels
from jobyard.triggers.postgres.depth import Depth
from jobyard.triggers.postgres.rule import End, Start, Wait, Why
from jobyard.triggers.postgres.settings import QueueSettings, Scale, Waits
from jobyard.triggers.postgres.slot import FLOOR, Slot, by_level, cap, end_of, finished, found_by, origin, queue_run

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
S = timedelta(seconds=1)
QUEUE = QueueSettings(queue="a/b", workflow=Workflow(name="w", steps=()), waits=Waits(check=5 * S), scale=Scale(most=3))


def run(number: int, state: State = State.PENDING, **more: object) -> Run:
    facts = {"id": f"i{number}", "name": f"w-i{number}", "uid": f"u{number}", "namespace": "n", "trigger": "q", "key": f"a/b/{number}"}
    return Run(**{**facts, "workflow": "w", "created": NOW, "state": state, **more})  # type: ignore[arg-type]


def deep(waiting: int) -> Depth:
    return Depth(waiting=waiting, at=NOW)


def test_a_run_that_comes_to_be_during_a_look_counts_in_its_decision() -> None:
    """The crash harness found a seventh Job for six items: what was submitted counted neither as asked for nor as there."""
    slot = Slot(QUEUE, NOW)
    slot.take([], NOW)
    slot.asked.update(slot.next_generations(3))
    slot.note(run(1), 1)
    slot.note(run(2), 2)
    assert slot.decide(deep(3), NOW) == Wait(until=NOW + 5 * S, why=Why.ENOUGH)
    assert slot.next_generations(1) == [4]


def test_generations_count_on_from_what_is_there_or_asked_for_and_far_from_what_was_released() -> None:
    slot = Slot(QUEUE, NOW)
    slot.take([run(7), run(3)], NOW)
    assert slot.next_generations(2) == [8, 9]
    slot.asked.add(12)
    assert slot.next_generations(1) == [13]
    slot = Slot(QUEUE, NOW)
    for released in (1, 2, 4, 8):
        assert slot.next_generations(1) == [released]
        slot.skip(released)
    assert slot.next_generations(1) == [16]
    assert slot.key(16) == "a/b/16"
    assert list(by_level([run(7), run(3)])) == ["a/b"]


def test_what_is_heard_during_a_look_is_looked_at_after_it() -> None:
    slot = Slot(QUEUE, NOW)
    slot.begin_look()
    assert slot.hear(NOW)
    slot.decide(deep(0), NOW)
    assert slot.due == NOW + timedelta(seconds=0.2)
    assert not slot.hear(NOW + S)  # of many, the first says when
    assert slot.due == NOW + timedelta(seconds=0.2)
    slot.begin_look()
    assert slot.due == NOW + 5 * S


def test_what_the_cluster_does_not_tell_is_remembered_and_never_much_of_it() -> None:
    slot = Slot(QUEUE, NOW)
    for _ in range(100):
        slot.remember(End.ERROR, NOW)
    assert slot.decide(deep(1), NOW) == Wait(until=NOW + timedelta(minutes=10), why=Why.AFTER_ERROR)
    assert len(slot.queue_runs()) <= 21


def test_a_queue_whose_run_goes_on_is_looked_at_all_the_same_now_and_then() -> None:
    slot = Slot(QueueSettings(queue="w", workflow=QUEUE.workflow), NOW)
    slot.take([run(1)], NOW)
    assert slot.rest(NOW)
    assert slot.due == NOW + timedelta(minutes=1)


def test_what_is_heard_of_a_queue_that_rests_wakes_nobody_again_and_again() -> None:
    slot = Slot(QueueSettings(queue="w", workflow=QUEUE.workflow), NOW)
    slot.take([run(1)], NOW)
    assert slot.rest(NOW)
    slot.hear(NOW)
    later = NOW + S
    assert slot.is_due(later)
    assert slot.rest(later)
    assert not slot.is_due(later)


def test_of_a_queue_that_is_served_no_more_every_run_goes_after_an_hour() -> None:
    hour = timedelta(hours=1)
    old, young, going = run(1, State.FAILED, finished=NOW - hour), run(2, State.FAILED, finished=NOW), run(3)
    assert finished([old, young, going], NOW) == [old]


def test_an_end_is_told_by_state_and_reason() -> None:
    assert end_of(State.SUCCEEDED, "") is End.SUCCESS
    assert end_of(State.FAILED, "StartTimeout") is End.START_TIMEOUT
    assert end_of(State.FAILED, "ImagePullBackOff") is End.ERROR
    assert [end_of(state, "BackoffLimitExceeded") for state in (State.FAILED, State.LOST, State.CANCELLED)] == [End.FAILURE] * 3


def test_what_a_run_was_begun_for_is_read_back_whatever_somebody_wrote_there() -> None:
    depth = Depth(waiting=3, oldest=NOW - 60 * S, at=NOW)
    assert found_by(origin("work", depth)) == depth
    for wrong in (
        {},
        {"waiting": "many", "looked": NOW.isoformat()},
        {"waiting": "3", "looked": "yesterday"},
        {"waiting": "-1", "looked": ""},
    ):
        assert found_by(wrong) is None
    assert queue_run(run(1, State.SUCCEEDED, finished=NOW, origin={"waiting": "²"}), None).found is None


def test_counting_goes_as_far_as_a_rule_asks_for_and_not_beyond_reason() -> None:
    plain = QueueSettings(queue="w", workflow=Workflow(name="w", steps=()))
    assert cap([plain]) == FLOOR
    assert cap([plain, QueueSettings(queue="v", workflow=plain.workflow, scale=Scale(most=50, per_pod=10))]) == 500
    assert cap([QueueSettings(queue="v", workflow=plain.workflow, scale=Scale(most=10_000, per_pod=10_000))]) == 100_000
    assert isinstance(Slot(plain, NOW).decide(deep(1), NOW), Start)


# --- how it is told ---


def test_how_queues_stand_is_told_in_words_and_no_finer_than_is_news() -> None:
    busy, idle = Slot(QUEUE, NOW), Slot(QueueSettings(queue="idle", workflow=QUEUE.workflow), NOW)
    busy.take([run(1, State.RUNNING)], NOW)
    busy.decide(Depth(waiting=100, more=True, oldest=NOW - 125 * S, at=NOW), NOW)
    idle.decide(deep(0), NOW)
    told = levels([idle, busy])
    assert [level_words(each, NOW) for each in told] == [
        ("a/b", "100+", "2m10s", "1", ""),
        ("idle", "0", "", "0", "starts when there is work"),
    ]
    idle.decide(deep(0), NOW + 5 * S)
    assert levels([idle, busy]) == told  # nothing to write on the board
    idle.remember(End.ERROR, NOW)
    idle.decide(deep(1), NOW)
    assert level_words(levels([idle])[0], NOW)[3:] == ("0", "its Job could not be made or started, goes on in 15s")
    many = [Slot(QueueSettings(queue=f"q{number}" * 200, workflow=QUEUE.workflow), NOW) for number in range(200)]
    assert len(levels(many)) == QUEUES_TOLD
    assert max(len(each.queue) for each in levels(many)) <= 100


def test_every_word_for_what_a_queue_waits_for_has_a_sentence() -> None:
    assert {str(why) for why in Why} == set(NEXT)
