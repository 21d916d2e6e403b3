"""`scripts/crash [SCENARIO...] [--cluster local|kubernetes] [--every N]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.harness import try_all
from tests.crash.scenarios import SCENARIOS
from tests.kubernetes.a_cluster import a_cluster

SHOWN = 10
"""How many of a scenario's failures are told; the others are counted."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/crash", description="Kills a process right before and after each of its calls, and counts what that cost."
    )
    parser.add_argument("scenario", nargs="*", help=f"one of {', '.join(SCENARIOS)}; all, when none is named")
    parser.add_argument("--cluster", choices=["local", "kubernetes"], default="local")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th point")
    told = parser.parse_args()
    if unknown := set(told.scenario) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    print(f"{'SCENARIO':10} {'CALLS':>6} {'KILLS':>6} {'RUNS':>6} {'DUPLICATES':>11} {'LOSSES':>7} {'LEFTOVERS':>10} {'SECONDS':>8}")
    good = True
    with tempfile.TemporaryDirectory(prefix="jobyard-crash-") as folder, a_cluster(told.cluster, "crash", Path(folder)) as kubeconfig:
        for name in told.scenario or SCENARIOS:
            begun = time.monotonic()
            sum_ = asyncio.run(try_all(name, kubeconfig, told.every))
            seconds = time.monotonic() - begun
            print(
                f"{name:10} {sum_.calls:6} {sum_.kills:6} {sum_.runs:6} {sum_.duplicates:11} {sum_.losses:7} {sum_.leftovers:10} {seconds:8.0f}",
                flush=True,
            )
            for words in sum_.words[:SHOWN]:
                print(f"  {words}")
            if len(sum_.words) > SHOWN:
                print(f"  ... and {len(sum_.words) - SHOWN} more")
            good = good and sum_.is_good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
