"""Nothing lost, nothing twice: a sample of what `scripts/crash` measures at every call."""

from __future__ import annotations

import pytest

from tests.conftest import LOCAL, ClusterUnderTest
from tests.crash.harness import Seen, judge, try_all
from tests.crash.scenarios import SCENARIOS

SAMPLE = {LOCAL: 5, "kubernetes": 13}
"""Every how many-th point is tried; odd, so that kills before and after a call take turns."""


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.timeout(900)
async def test_a_kill_at_any_call_costs_nothing(under_test: ClusterUnderTest, name: str) -> None:
    verdict = await try_all(name, under_test.kubeconfig, SAMPLE[under_test.name] * SCENARIOS[name].sample)
    assert verdict.words == ()
    assert verdict.kills > 0


@pytest.mark.parametrize(("broken", "scenario"), [("generate-name", "two"), ("let-go-first", "diamond"), ("keep-ttl", "ttl0")])
@pytest.mark.timeout(900)
async def test_a_build_that_breaks_a_promise_is_caught(under_test: ClusterUnderTest, broken: str, scenario: str) -> None:
    if under_test.name != LOCAL:
        pytest.skip("it is the harness that is tried here: one cluster is enough")
    verdict = await try_all(scenario, under_test.kubeconfig, 5, broken)
    assert verdict.duplicates + verdict.losses > 0


def test_the_judge_sees_each_kind_of_harm() -> None:
    scenario, seen = SCENARIOS["ttl0"], Seen()
    seen.jobs["run", "step", "a", "1"] = {"uid 1", "uid 2"}
    verdict = judge(scenario, seen, ["a.json"], {"a.json": "failed"}, ["secrets/x is left"], "here")
    assert (verdict.duplicates, verdict.losses, verdict.leftovers) == (1, 2, 2)
    assert "here: 2 Jobs for run step a 1" in verdict.words
