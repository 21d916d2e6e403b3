"""`scripts/soak [--seconds N] [--seed N] [--cluster local|kubernetes]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import uuid
from pathlib import Path

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from tests.kubernetes.a_cluster import a_cluster
from tests.soak.soak import Verdict, soak

GROWTH = 10.0
"""MiB that a replica may weigh more at the end than early on."""


async def _in_a_namespace(kubeconfig: Path, seconds: float, seed: int) -> Verdict:
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
        namespace = f"soak-{uuid.uuid4().hex[:8]}"
        await cluster.create_namespace(namespace)
        try:
            return await soak(kubeconfig, namespace, seconds, seed)
        finally:
            await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}", f"delete Namespace {namespace}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description="Two replicas of a service, and commits, kills, outages, reloads and pauses; what that cost."
    )
    parser.add_argument("--seconds", type=float, default=600, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--cluster", choices=["local", "kubernetes"], default="local")
    told = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="jobyard-soak-") as folder, a_cluster(told.cluster, "soak", Path(folder)) as kubeconfig:
        found = asyncio.run(_in_a_namespace(kubeconfig, told.seconds, told.seed))
    print(f"{found.files} files; " + ", ".join(f"{deed}: {count}" for deed, count in sorted(found.deeds.items())))
    print(
        f"memory {found.memory[0]:.1f} MiB early, {found.memory[1]:.1f} MiB at the end; open files {found.handles[0]} and {found.handles[1]}"
    )
    for each in found.wrong:
        print(f"  {each}")
    print(f"{len(found.wrong)} wrong, in {time.monotonic() - begun:.0f} s")
    sys.exit(0 if not found.wrong and found.memory[1] - found.memory[0] <= GROWTH else 1)


if __name__ == "__main__":
    main()
