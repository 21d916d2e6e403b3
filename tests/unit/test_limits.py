"""Who may take a place in a limit, and how long a run is kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.contracts import Cluster
from jobyard.engine import limits
from jobyard.engine.clock import SystemClock
from jobyard.engine.limit_settings import list_limits
from jobyard.engine.limits import Claim, Full, Place
from jobyard.model import names
from jobyard.model.objects import ConfigMap, Job, Kind, Metadata
from jobyard.model.retention import FOR_EVER, UNRELEASED, Candidate, Keeping, expired
from jobyard.model.workflow import Step, Workflow
from tests.unit.samples import job_record, request

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_place_is_taken_once_however_often_it_is_asked_for() -> None:
    claim = Claim(scope="gpu", limit=2, holder="a")
    held = limits.take(claim, "run", {}, [], NOW)
    assert held == {"a": Place(run="run", at=NOW)}
    assert limits.take(claim, "run", held, [], NOW) == held


def test_who_is_over_makes_room() -> None:
    claim = Claim(scope="gpu", limit=1, holder="b")
    held = {"a": Place(run="run a", at=NOW)}
    full = limits.take(claim, "run b", held, [], NOW)
    assert full == Full(scope="gpu", limit=1, holders=("a",))
    assert str(full) == "The only place of limit gpu is taken by a."
    assert limits.take(claim, "run b", held, ["a"], NOW) == {"b": Place(run="run b", at=NOW)}


def test_a_place_that_is_taken_anew_bears_the_new_time_and_is_good_for_a_minute() -> None:
    claim = Claim(scope="gpu", limit=1, holder="a")
    held = limits.take(claim, "a", {}, [], NOW)
    assert isinstance(held, dict)
    later = NOW + limits.LAUNCH
    assert limits.is_good(held["a"], later - timedelta(seconds=1))
    assert not limits.is_good(held["a"], later)
    assert limits.take(claim, "a", held, ["a"], later) == {"a": Place(run="a", at=later)}
    assert limits.UNUSED >= 2 * limits.LAUNCH, "who still launches by its place must be counted"


def test_what_is_written_of_places_is_read_again() -> None:
    claim = Claim(scope="gpu", limit=1, holder="a")
    held = {"a": Place(run="a", at=NOW)}
    assert limits.holders(ConfigMap(metadata=Metadata(), data=limits.write(claim, held)["data"])) == held


@pytest.mark.parametrize(
    ("limit", "holders", "words"),
    [
        (2, ("a", "b"), "All 2 places of limit gpu are taken by a, b."),
        (5, ("a", "b", "c", "d", "e"), "All 5 places of limit gpu are taken by a, b, c and 2 more."),
        (0, (), "Limit gpu is 0: nothing that counts towards it may start."),
    ],
)
def test_a_full_limit_says_who_has_it(limit: int, holders: tuple[str, ...], words: str) -> None:
    assert str(Full(scope="gpu", limit=limit, holders=holders)) == words


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=30), st.integers(0, 4))
def test_no_order_of_claims_and_ends_gives_more_places_than_there_are(events: list[tuple[str, bool]], limit: int) -> None:
    held: dict[str, Place] = {}
    over: set[str] = set()
    for holder, ends in events:
        if ends:
            over.add(holder)
            continue
        if holder in over:
            continue
        granted = limits.take(Claim(scope="s", limit=limit, holder=holder), holder, held, over, NOW)
        if not isinstance(granted, Full):
            held = granted
        assert len(set(held) - over) <= limit


def test_a_run_needs_places_of_the_namespace_its_workflow_and_what_it_names() -> None:
    flow = Workflow(name="etl", steps=(), max_runs=3, limits=("gpu", "unknown"))
    found = limits.of_run(flow, "run", {"gpu": 2, "namespace": 10, "other": 1})
    assert [(claim.scope, claim.limit) for claim in found] == [("gpu", 2), ("namespace", 10), ("workflow/etl", 3)]
    assert limits.of_job(Step(name="a", job=None, limits=("gpu",)), "job", {"gpu": 2}) == [Claim(scope="gpu", limit=2, holder="job")]
    assert limits.scopes(flow) == ["gpu", "namespace", "unknown", "workflow/etl"]


def test_what_people_wrote_by_hand_is_read_with_care() -> None:
    config = ConfigMap(metadata=Metadata(), data={"gpu": " 2 ", "bad": "many", "negative": "-1", "odd": "²", "huge": "9" * 5000})
    assert limits.numbers(config) == {"gpu": 2}
    assert limits.holders(ConfigMap(metadata=Metadata(), data={"holders": "nonsense"})) == {}
    assert limits.holders(ConfigMap(metadata=Metadata(), data={"holders": '{"a": "run"}'})) == {}, "written by an older Jobyard"
    assert limits.holders(None) == {}
    text = '{"a": {"run": "a", "at": "2026-01-01T00:00:00"}, "b": {"run": "b", "at": "9999-12-31T23:59:59Z"}}'
    held = limits.holders(ConfigMap(metadata=Metadata(), data={"holders": text}))
    assert set(held) == {"b"}, "a time without a zone is none"
    assert not limits.is_good(held["b"], NOW)
    assert not limits.is_unused(held["b"], NOW, NOW)
    assert limits.is_unused(held["b"], NOW, NOW + limits.UNUSED)


def kept(name: str, days: float | None, *, released: bool = True, retention: timedelta | None = None) -> Candidate:
    finished = NOW - days * DAY if days is not None else None
    return Candidate(id=name, created=NOW - 400 * DAY, finished=finished, released=released, retention=retention)


def test_retention_takes_what_ended_long_enough_ago() -> None:
    runs = [kept("old", 8), kept("new", 6), kept("going", None), kept("short", 2, retention=DAY), kept("long", 300, retention=365 * DAY)]
    assert expired(runs, Keeping(runs=7 * DAY), 0, NOW) == ["short", "old"]
    assert expired(runs, FOR_EVER, 0, NOW) == ["short"]
    assert expired(runs, Keeping(runs=7 * DAY), 2, NOW) == ["old"], "the newest are kept in any case"


def test_what_did_not_succeed_may_be_kept_for_another_time() -> None:
    failed = replace(kept("failed", 8), succeeded=False)
    assert expired([failed], Keeping(runs=7 * DAY, failed=30 * DAY), 0, NOW) == [], "what did not succeed may be kept for longer"
    assert expired([failed], Keeping(runs=9 * DAY, failed=DAY), 0, NOW) == ["failed"]
    assert expired([failed], Keeping(runs=7 * DAY), 0, NOW) == ["failed"], "or as all"


def test_a_run_whose_source_never_let_go_is_kept_longer() -> None:
    assert expired([kept("a", 8, released=False)], Keeping(runs=7 * DAY), 0, NOW) == []
    assert expired([kept("a", 7 + UNRELEASED.days, released=False)], Keeping(runs=7 * DAY), 0, NOW) == ["a"]


class Holds:
    """A cluster with these objects."""

    def __init__(self, *objects: ConfigMap | Job) -> None:
        self.objects = objects

    async def list(self, kind: Kind[Any], namespace: str, *, labels: str) -> list[ConfigMap | Job]:
        return [each for each in self.objects if isinstance(each, kind.struct)]


def test_who_is_active_without_a_place_is_listed_too() -> None:
    """A leader takes no places: what it began counts all the same."""
    run = job_record(request("k"), "uid")
    set_ = ConfigMap(metadata=Metadata(name=limits.LIMITS, labels={names.ROLE: "limits"}), data={"namespace": "1"})
    rows = asyncio.run(list_limits(cast(Cluster, Holds(set_, run)), SystemClock(), "n"))
    assert rows == [("namespace", 1, [run.metadata.name])]
