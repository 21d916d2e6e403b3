"""What `jobyard triggers` says of a service's triggers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from jobyard.cli.triggers import caveat, table, words
from jobyard.service.board import Notes, Pause, Standing
from jobyard.service.shapes import trigger_json
from tests.unit.samples import NOW


def before(**told: float) -> datetime:
    return NOW - timedelta(**told)


def notes(standing: Standing | None = None, pause: Pause | None = None) -> Notes:
    return Notes(service="yard", standings={"ops": standing} if standing else {}, pauses={"ops": pause} if pause else {})


def stands(state: str, **more: Any) -> Standing:
    return Standing(**{"state": state, "since": before(minutes=3), "said": before(minutes=2), "by": "web-1", **more})


def told(standing: Standing | None = None, pause: Pause | None = None) -> tuple[str, str, str]:
    return words(notes(standing, pause), "ops", NOW)


ADA = Pause(by="ada@desk", at=before(seconds=50))


def test_each_state_says_why_who_and_until_when() -> None:
    away = "git fetch failed: could not resolve host"
    assert told(stands("running", error=away, failures=1)) == ("running", "3m00s ago", "")
    assert told(stands("paused", error="paused by ada@desk"), ADA) == ("paused", "50s ago", "by ada@desk")
    assert told(stands("backing off", error=away, failures=3, until=NOW + timedelta(seconds=20)))[2] == (
        f"{away}; failed 3 times in a row; goes on in 20s"
    )
    assert told(stands("backing off", error=away, failures=1, until=before(seconds=1)))[2] == away
    rests = stands("paused", error="5 of its runs failed within 10m", until=NOW + timedelta(minutes=4))
    assert told(rests)[2] == "5 of its runs failed within 10m; goes on in 4m00s"
    assert told(None, ADA) == ("not served", "", "the settings name no such trigger; paused by ada@desk, 50s ago")


def test_what_people_ask_for_shows_before_the_leader_has_told_of_it() -> None:
    assert told(stands("running"), ADA) == told(stands("backing off", error="x"), ADA) == ("paused", "50s ago", "by ada@desk")
    assert told(stands("paused", error="paused by ada@desk")) == ("starting", "3m00s ago", "")
    assert trigger_json("ops", notes(stands("running"), ADA), "web-1")["state"] == "paused"


def test_a_reason_is_never_cut() -> None:
    rows = [
        ("ops", "running", "3m00s ago", ""),
        ("etl", "backing off", "4.1s ago", "git fetch failed: could not resolve host: example.org"),
    ]
    assert table(rows, None) == table(rows, 100)
    assert len(table(rows, None)) == 3
    assert table(rows, 40) == [
        "TRIGGER  STATE        SINCE",
        "ops      running      3m00s ago",
        "etl      backing off  4.1s ago",
        "  git fetch failed: could not resolve",
        "  host: example.org",
    ]


def test_what_was_said_long_ago_is_not_taken_for_how_it_is() -> None:
    there = notes(stands("running"))
    assert words(there, "ops", NOW, is_led=False) == ("was running", "3m00s ago", "")
    assert caveat(there, "web-1", NOW) == ""
    assert caveat(there, "", NOW) == (
        "Nobody leads service yard just now: no trigger takes anything. Its last report is from 2m00s ago, by process web-1."
    )
    assert (
        caveat(there, None, NOW) == "No lease tells whether service yard still runs. Its last report is from 2m00s ago, by process web-1."
    )
    assert caveat(notes(None, ADA), None, NOW) == ""
    assert caveat(notes(), "", NOW) == "Nobody leads service yard just now: no trigger takes anything."


def test_json_has_one_shape_whatever_is_known() -> None:
    full = trigger_json("ops", notes(stands("paused", error="paused by ada@desk"), ADA), "web-1")
    bare = trigger_json("ops", notes(None, ADA), None)
    assert full.keys() == bare.keys()
    assert (full["paused"]["by"], full["why"], full["led"]) == ("ada@desk", "paused by ada@desk", True)
    assert (bare["state"], bare["since"], bare["said"], bare["process"], bare["led"]) == ("not served", None, None, None, None)
    assert trigger_json("ops", notes(stands("running", error="old")), "")["why"] is None
    assert trigger_json("ops", notes(stands("running")), "")["led"] is False
