"""Kubernetes' own end-to-end cases for Jobs on the local cluster. `scripts/conformance` also runs those of CronJobs, and on a real node."""

from __future__ import annotations

import pytest

from tests.kubernetes import conformance


@pytest.mark.conformance
@pytest.mark.timeout(1800)
def test_the_local_cluster_passes_kubernetes_own_cases_for_jobs() -> None:
    assert conformance.run("local", ["[sig-apps] Job", "[sig-apps] TTLAfterFinished"]) == 0
