"""How the tests are spread over processes."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from tests.workers import BUSY, BUSY_AT_ONCE, MOST, choose, group, how_many, is_narrow, where_time_went

ROOT = Path(__file__).parents[2]


def test_all_tests_are_worth_all_workers_and_few_are_worth_none() -> None:
    assert how_many([ROOT / "tests"], ROOT) == MOST
    assert how_many([ROOT / "tests/unit"], ROOT) == 0, "they never wait"
    assert how_many([Path(__file__)], ROOT) == 0
    assert how_many([ROOT / "tests/kubernetes"], ROOT) == 0


@pytest.mark.parametrize(
    ("asked", "arguments", "narrow"),
    [
        ({}, ["tests"], False),
        ({"keyword": "diamond"}, ["tests"], True),
        ({"maxfail": 1}, ["tests"], True),
        ({"usepdb": True}, ["tests"], True),
        ({"capture": "no"}, ["tests"], True),
        ({}, ["tests/unit/test_pace.py::test_x"], True),
    ],
)
def test_who_looks_for_one_thing_gets_no_workers(asked: dict[str, object], arguments: list[str], narrow: bool) -> None:
    assert is_narrow(Namespace(**asked), arguments) is narrow


def test_tests_that_share_a_dear_fixture_share_a_worker() -> None:
    outages, runtimes = "tests/contract/test_outages.py", "tests/contract/test_runtimes.py"
    assert group(f"{outages}::test_a[kubernetes]") == group(f"{outages}::test_b[kubernetes]") != group(f"{outages}::test_a[local]")
    assert group(f"{runtimes}::test_a[docker-127.0.0.1:1/none:1]") == group(f"{runtimes}::test_b[docker]")
    assert group("tests/contract/test_jobs.py::test_a[local]") != group("tests/contract/test_jobs.py::test_b[local]")
    assert all((ROOT / file).exists() for file in (outages, runtimes))


def test_few_busy_tests_run_at_once() -> None:
    busy = [f"{BUSY[0]}::test[{number}]" for number in range(BUSY_AT_ONCE + 1)]
    assert choose([busy[-1], "light"], busy[: BUSY_AT_ONCE - 1]) == busy[-1]
    assert choose([busy[-1], "light"], busy[:BUSY_AT_ONCE]) == "light"
    assert choose([busy[-1]], busy[:BUSY_AT_ONCE]) == busy[-1], "when nothing else waits"
    assert all((ROOT / file).exists() for file in BUSY)


def test_a_run_that_took_a_while_says_where_it_went() -> None:
    spent = [("tests/unit/test_a.py::test_x", 1.0), ("tests/e2e/test_b.py::test_y[local]", 60.0), ("tests/e2e/test_b.py::test_z", 9.4)]
    assert where_time_went(spent) == "70 s of all workers: e2e/test_b 69, unit/test_a 1"
    assert where_time_went(spent[:1]) == ""
