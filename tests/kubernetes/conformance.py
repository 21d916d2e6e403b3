"""Runs Kubernetes' own end-to-end cases for Jobs against the local cluster or a real node, and says of each how it went."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.kubernetes import build
from tests.kubernetes.a_cluster import a_cluster

CASES = r"sig-apps\] (Job|TTLAfterFinished|CronJob)"
LEFT_OUT = "FeatureGate|Serial|Slow"
BOUND = "40m"
"""For all cases together: one that hangs is then told as failed, instead of waiting for ever."""
EXCEPTIONS = Path(__file__).with_name("local-exceptions.txt")


def exceptions() -> dict[str, str]:
    """The cases that the local cluster need not pass, with the reason of each."""
    lines = [line for line in EXCEPTIONS.read_text().splitlines() if line and not line.startswith("#")]
    return {case.strip(): reason.strip() for case, _, reason in (line.partition(": ") for line in lines)}


def run(kind: str, cases: list[str]) -> int:
    """Runs the cases (all, when none is named); returns how many failed that had to pass."""
    excused = exceptions() if kind == "local" else {}
    focus = "|".join(map(re.escape, cases)) if cases else CASES
    skip = "|".join([LEFT_OUT, *map(re.escape, excused)]) if not cases else LEFT_OUT
    binary = build.e2e_binary()
    with tempfile.TemporaryDirectory(prefix="jobyard-conformance-") as name, a_cluster(kind, "conformance", Path(name)) as kubeconfig:
        report = Path(name) / "report.json"
        command = [
            str(binary),
            "-test.run=TestKubernetes",
            f"--kubeconfig={kubeconfig}",
            f"--ginkgo.focus={focus}",
            f"--ginkgo.skip={skip}",
            f"--ginkgo.json-report={report}",
            f"--ginkgo.timeout={BOUND}",
            "--ginkgo.poll-progress-after=120s",
            "--minStartupPods=0",
            "--node-os-distro=custom",
            "--ginkgo.no-color",
        ]
        log = Path(os.environ.get("JOBYARD_CONFORMANCE_LOG") or Path(name) / "log")
        with log.open("wb") as output:
            subprocess.run(command, stdout=output, stderr=output, check=False)
        if not report.exists():
            sys.exit(f"the cases did not run:\n{log.read_text()[-3000:]}")
        failed = _tell(json.loads(report.read_text()))
    for case, reason in excused.items():
        print(f"excused  {case}: {reason}")
    return failed


def _tell(suites: list[dict[str, object]]) -> int:
    counts = {"passed": 0, "failed": 0}
    for suite in suites:
        reports: list[dict[str, object]] = suite["SpecReports"]  # type: ignore[assignment]
        for spec in reports:
            if spec["LeafNodeType"] != "It" or spec["State"] == "skipped":
                continue
            good = spec["State"] == "passed"
            counts["passed" if good else "failed"] += 1
            seconds = int(str(spec["RunTime"])) / 1e9
            print(f"{spec['State']!s:8} {seconds:6.1f} s  {spec['LeafNodeText']}")
            if not good:
                failure: dict[str, object] = spec.get("Failure") or {}  # type: ignore[assignment]
                print(f"         {str(failure.get('Message', '')).splitlines()[0][:200]}")
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return counts["failed"]


def main() -> None:
    """`scripts/conformance [local|kubernetes] [CASE...]`."""
    words = sys.argv[1:]
    kind = words.pop(0) if words and words[0] in ("local", "kubernetes") else "local"
    sys.exit(1 if run(kind, words) else 0)


if __name__ == "__main__":
    main()
