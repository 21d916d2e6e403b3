"""What `check` says of a Job is what the API server says: of good Jobs, and of many mutants of them, on the real node.

A disagreement names its seed: `JOBYARD_CHECK_SEEDS=17` looks at that mutant again, `2000-9000` at others.
"""

from __future__ import annotations

import os

import pytest

from jobyard.cluster.client import HttpCluster
from tests.agreement import all_verdicts
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.good_jobs import GOOD
from tests.mutants import mutants

FIRST, _, LAST = os.environ.get("JOBYARD_CHECK_SEEDS", "0-1499").partition("-")
SEEDS = range(int(FIRST), int(LAST or FIRST) + 1)


@pytest.fixture(autouse=True)
def _on_a_real_server(under_test: ClusterUnderTest) -> None:
    if under_test.name != KUBERNETES:
        pytest.skip("the local cluster refuses less: it is for trial")


async def test_good_jobs_are_good_to_both(cluster: HttpCluster, namespace: str) -> None:
    found = await all_verdicts(cluster, namespace, enumerate(GOOD))
    assert [str(each) for each in found if each.ours or each.theirs] == []


@pytest.mark.timeout(300)
async def test_mutants_are_refused_by_both_or_by_neither(cluster: HttpCluster, namespace: str) -> None:
    found = await all_verdicts(cluster, namespace, mutants(SEEDS))
    wrong = [str(each) for each in found if not each.agree]
    assert not wrong, f"{len(wrong)} of {len(found)} mutants:\n" + "\n".join(wrong[:20])
    if len(found) > 100:  # where all are refused, or none, agreeing proves nothing
        assert 0.2 < sum(bool(each.theirs) for each in found) / len(found) < 0.9
