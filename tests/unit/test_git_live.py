"""How the files that are being processed are drawn."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from rich.console import Console

from jobyard.cli.git_live import ShownFile, allot, draw
from jobyard.model.run import Reason, RunView, State, StepView
from tests.unit.samples import NOW


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def file(name: str, *steps: StepView, age: int = 5) -> ShownFile:
    started = NOW - timedelta(seconds=age)
    view = RunView(id=name, name=name, workflow="w", namespace="n", trigger="git", state=State.RUNNING, started=started, steps=steps)
    return ShownFile(name=f"{name}.yaml", view=view)


def step(name: str, state: State = State.RUNNING, *needs: str, reason: str = "") -> StepView:
    started = NOW - timedelta(seconds=3) if state is not State.PENDING else None
    return StepView(name=name, state=state, reason=reason, needs=needs, job=f"{name}-job" if started else "", started=started)


def lines(*files: ShownFile, waiting: int = 0, room: int = 20, last_lines: dict[str, str] | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(draw(files, waiting, last_lines or {}, NOW, room))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


ETL = file("etl", step("extract", State.SUCCEEDED), step("load", State.PENDING, "extract", reason=Reason.WAITING_FOR_STEP))


def test_a_file_is_drawn_with_the_steps_of_its_run_the_oldest_first() -> None:
    shown = lines(file("hello", step("hello"), age=1), ETL, last_lines={"hello-job": "x" * 200})
    assert [line[:14].rstrip() for line in shown] == ["▸ etl.yaml", "  ✔ extract", "    · load", "▸ hello.yaml"]
    assert "1 pending, 1 succeeded" in shown[0]
    assert shown[3].endswith("xxx…")
    assert all(len(line) <= 77 for line in shown)


def test_what_waits_is_counted_and_nothing_is_said_to_be_nothing() -> None:
    assert lines(ETL, waiting=3)[-1] == "3 waiting in the queue"
    assert lines() == ["Nothing is queued or running."]


def test_more_than_there_is_room_for_is_counted() -> None:
    many = [file(f"f{number}", step("a"), step("b"), step("c"), age=99 - number) for number in range(30)]
    shown = lines(*many, room=10)
    assert [line[:9].rstrip() for line in shown[:-1]] == [f"▸ f{number}.yaml" for number in range(8)]
    assert shown[-1] == "22 more files are being processed"


@pytest.mark.parametrize(
    ("wanted", "room", "expected"),
    [([3, 3], 8, [3, 3]), ([0, 9, 2], 10, [0, 5, 2]), ([9, 9], 10, [4, 4]), ([5], 0, [0]), ([], 10, [])],
)
def test_lines_are_shared_so_that_small_runs_are_whole(wanted: list[int], room: int, expected: list[int]) -> None:
    assert allot(wanted, room) == expected
