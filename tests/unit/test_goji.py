"""goji's own template, as it printed it."""

from __future__ import annotations

import yaml

from jobyard.compat import goji


def test_the_basic_job_tries_once_more_as_goji_s_did() -> None:
    spec = yaml.safe_load(goji.basic_job("report", "busybox"))["spec"]
    assert spec["backoffLimit"] == 1
