"""How the tests are spread over processes."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from tests.workers import BESIDE, MOST, group, how_many, is_narrow, spread

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


def test_long_tests_begin_early_and_not_all_at_once() -> None:
    ordered = spread(["A", "B"], [str(number) for number in range(BESIDE * 2 + 1)])
    assert (ordered.index("A"), ordered.index("B"), len(ordered)) == (0, BESIDE + 1, BESIDE * 2 + 3)
    assert spread(["A", "B"], ["1"]) == ["A", "1", "B"]
