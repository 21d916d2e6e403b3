"""What stands on a board is input: what can't be what it should be counts as if it were not there."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest

from jobyard.model import names
from jobyard.model.objects import ConfigMap, Metadata
from jobyard.service.board import ENTRY_LIMIT, WORDS, Pause, Standing, is_board, read

WHEN, NAIVE = "2026-01-01T00:00:00Z", "2026-01-01T00:00:00"


def board(name: str = "yard-triggers", role: str = "triggers", **data: str) -> ConfigMap:
    return ConfigMap(
        metadata=Metadata(name=name, labels={names.ROLE: role}), data={key.replace("_", "."): text for key, text in data.items()}
    )


@pytest.mark.parametrize(
    ("name", "role", "yes"),
    [
        ("yard-triggers", "triggers", True),
        ("yard-triggers", "limits", False),
        ("yard", "triggers", False),
        ("-triggers", "triggers", False),
    ],
)
def test_a_board_is_known_by_label_and_name(name: str, role: str, yes: bool) -> None:
    assert is_board(board(name, role)) is yes


def test_what_stands_there_is_typed_and_bounded() -> None:
    notes = read(
        board(
            stands_good=json.dumps({"state": "running", "since": WHEN, "said": WHEN, "later": "what a later version says"}),
            stands_naive=json.dumps({"state": "running", "since": NAIVE, "said": WHEN}),
            stands_long=json.dumps({"state": "running", "since": WHEN, "said": WHEN, "error": "x" * 1001}),
            stands_huge=json.dumps({"state": "running", "since": WHEN, "said": WHEN}) + " " * ENTRY_LIMIT,
            paused_good=json.dumps({"by": "somebody", "at": WHEN}),
            paused_naive=json.dumps({"by": "somebody", "at": NAIVE}),
            paused_number=json.dumps({"by": 1, "at": WHEN}),
            paused_deep="[" * 3000,
            poked_good=json.dumps({"at": WHEN}),
            other_good="{}",
        )
    )
    assert notes.service == "yard"
    assert [set(each) for each in (notes.standings, notes.pauses, notes.pokes)] == [{"good"}] * 3
    assert notes.triggers == ["good"]


def test_what_a_service_writes_it_can_read_whatever_it_holds() -> None:
    worst = "\x00" * WORDS
    now = datetime(2026, 1, 1, tzinfo=UTC)
    standing = Standing(state="backing off", since=now, said=now, by=worst[:100], error=worst, until=now, failures=10**9)
    pause = Pause(by=worst, at=now)
    notes = read(board(stands_a=msgspec.json.encode(standing).decode(), paused_a=msgspec.json.encode(pause).decode()))
    assert (notes.standings["a"], notes.pauses["a"]) == (standing, pause)
