"""A minute in the life of a service; `scripts/soak` gives it ten."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.conftest import LOCAL, ClusterUnderTest
from tests.faketime import in_fake_time
from tests.soak.fake_hour import hour
from tests.soak.plan import Deed, plan
from tests.soak.soak import soak


@pytest.mark.timeout(400)
async def test_a_minute_of_commits_kills_outages_reloads_and_pauses_costs_nothing(under_test: ClusterUnderTest, namespace: str) -> None:
    if under_test.name != LOCAL:
        pytest.skip("the crash harness and the tests of the command try the service there")
    found = await soak(under_test.kubeconfig, namespace, 60.0, seed=1)
    assert found.wrong == []
    assert found.deeds.keys() == set(Deed)
    assert found.memory[1] - found.memory[0] < 20, "MiB; how flat it is in the long run, ten minutes tell"


@pytest.mark.parametrize("seed", [1])
@pytest.mark.timeout(240)
def test_an_hour_in_a_time_of_its_own_costs_nothing(seed: int, tmp_path: Path) -> None:
    """Kills, stops, outages for both and for one, reloads, pauses, a used-up budget: every file's run once, one leader at most at any moment."""
    found = in_fake_time(hour(tmp_path, 3600.0, seed), turn=1e-9)
    assert found.wrong == []
    assert found.files > 300
    assert min(found.deeds[each] for each in ("kill", "stop", "outage", "lonely", "reload", "pause")) >= 3
    assert found.leaderless < 15, "seconds, outside of outages"
    assert found.tasks[1] <= found.tasks[0] + 20, "nothing grows with what is over"


def test_ten_minutes_hold_many_of_each_deed() -> None:
    moments = plan(1, 600)
    assert moments == plan(1, 600)
    for deed in Deed:
        ours = [each for each in moments if each.deed is deed]
        assert len(ours) >= 8
        assert all(one.at + one.lasts < other.at for one, other in itertools.pairwise(ours)), "one at a time"
