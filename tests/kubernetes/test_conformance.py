"""Kubernetes' own end-to-end cases for Jobs on the local cluster. `scripts/conformance` also runs those of CronJobs, and on a real node."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.kubernetes import build, conformance, prepare


@pytest.mark.timeout(1800)
def test_the_local_cluster_passes_kubernetes_own_cases_for_jobs() -> None:
    if shutil.which("busybox") is None:
        prepare.install(["busybox-static"])
    if shutil.which("busybox") is None:
        pytest.skip("the cases' scripts are written for busybox' shell: apt-get install busybox-static")
    try:
        build.e2e_binary()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the cases could not be built ({error})")
    assert conformance.run("local", ["[sig-apps] Job", "[sig-apps] TTLAfterFinished"]) == 0
