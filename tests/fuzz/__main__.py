"""`scripts/fuzz KIND [FIRST-LAST] [--cluster local|kubernetes]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.kinds import KINDS
from tests.kubernetes.a_cluster import a_cluster

SHOWN = 20
"""How many findings are told; the others are counted."""


def main() -> None:
    about = "; ".join(f"{name}: {kind.about}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=f"Tries what is hostile while good work goes on. {about}.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("seeds", nargs="?", default="", help="FIRST-LAST, or one seed; as many as are usual, when none is named")
    parser.add_argument("--cluster", choices=["local", "kubernetes"], default="local")
    told = parser.parse_args()
    kind = KINDS[told.kind]
    if told.cluster not in kind.attempt:
        parser.error(f"{told.kind} are tried on {' and '.join(kind.attempt)} alone")
    first, _, last = (told.seeds or f"0-{kind.usual - 1}").partition("-")
    seeds = range(int(first), int(last or first) + 1)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="jobyard-fuzz-") as folder, a_cluster(told.cluster, "fuzz", Path(folder)) as kubeconfig:
        found = asyncio.run(kind.attempt[told.cluster](kubeconfig, seeds))
    print(f"{'KIND':10} {'SEEDS':>7} {'CALLS':>7} {'REFUSED':>8} {'BROKEN':>7} {'SECONDS':>8}")
    print(f"{told.kind:10} {found.seeds:7} {found.calls:7} {found.refused:8} {len(found.words):7} {time.monotonic() - begun:8.0f}")
    for words in found.words[:SHOWN]:
        print(f"  {words}")
    if len(found.words) > SHOWN:
        print(f"  ... and {len(found.words) - SHOWN} more")
    sys.exit(0 if found.is_good else 1)


if __name__ == "__main__":
    main()
