"""`scripts/bench [CASE...] [--cluster local|kubernetes] [--size N] [--times N]`: ratios, never limits."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.kubernetes.a_cluster import a_cluster

from bench.cases import CASES as CLUSTER_CASES
from bench.cases import Case, Place
from bench.engine_cases import ENGINE_CASES
from bench.git_cases import GIT_CASES
from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect

CASES = {**CLUSTER_CASES, **ENGINE_CASES, **GIT_CASES}
SIDES = ("ours", "raw")


@dataclass(frozen=True)
class Measured:
    """What one side of a case took: seconds by the clock, seconds of processor, and how much its memory grew, in MiB."""

    seconds: float
    cpu: float
    memory: float
    said: str


def measure(case: Case, side: str, place: Place) -> Measured:
    """Does one side of a case in this process."""
    before, used = peak(), time.process_time()
    begun = time.monotonic()
    said = asyncio.run(getattr(case, side)(place))
    seconds = time.monotonic() - begun
    return Measured(seconds=seconds, cpu=time.process_time() - used, memory=peak() - before, said=said)


def peak() -> float:
    """The most memory that this process has had, in MiB. (`ru_maxrss` would count our parent's.)"""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def apart(name: str, side: str, place: Place) -> Measured:
    """The same in a process of its own."""
    words = [
        sys.executable,
        "-m",
        "bench",
        name,
        "--side",
        side,
        "--place",
        str(place.kubeconfig),
        place.namespace,
        "--size",
        str(place.size),
    ]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"{name} by {side} failed")
    return Measured(**json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures Jobyard beside a raw HTTP client that does the same.")
    parser.add_argument("case", nargs="*", help=f"one of {', '.join(CASES)}; all, when none is named")
    parser.add_argument("--cluster", choices=["local", "kubernetes"], default="local")
    parser.add_argument("--size", type=int, metavar="N", help="instead of each case's own")
    parser.add_argument("--times", type=int, default=3, metavar="N", help="how often each side is measured, in turn (default 3)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--place", nargs=2, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if unknown := set(told.case) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    if told.side:
        kubeconfig, namespace = told.place
        print(json.dumps(asdict(measure(CASES[told.case[0]], told.side, Place(Path(kubeconfig), namespace, told.size)))))
        return
    with tempfile.TemporaryDirectory(prefix="jobyard-bench-") as folder, a_cluster(told.cluster, "bench", Path(folder)) as kubeconfig:
        print(f"{'CASE':8} {'N':>6} {'SIDE':5} {'SECONDS':>8} {'CPU':>7} {'MEMORY':>9}  median of {told.times}")
        for name in told.case or CASES:
            show(name, told.size or CASES[name].size, kubeconfig, told.times)


def show(name: str, size: int, kubeconfig: Path, times: int) -> None:
    """Measures a case, both sides in turn, and prints the medians and the medians of the ratios."""
    case = CASES[name]
    sides = SIDES if case.raw else SIDES[:1]
    found: dict[str, list[Measured]] = {side: [] for side in sides}
    shared = asyncio.run(a_namespace(kubeconfig)) if case.shares else ""
    if shared and case.prepare:
        asyncio.run(case.prepare(Place(kubeconfig, shared, size)))
    for _ in range(times):
        for side in sides:
            namespace = shared or asyncio.run(a_namespace(kubeconfig))
            found[side].append(apart(name, side, Place(kubeconfig, namespace, size)))
            if not shared:
                asyncio.run(remove(kubeconfig, namespace))
    if shared:
        asyncio.run(remove(kubeconfig, shared))
    for side in sides:
        seconds, cpu, memory = (statistics.median(getattr(each, field) for each in found[side]) for field in ("seconds", "cpu", "memory"))
        print(f"{name:8} {size:6} {side:5} {seconds:7.2f}s {cpu:6.2f}s {memory:5.0f} MiB  {found[side][-1].said}")
    if not case.raw:
        print(f"{'':8} {'':6} {'':30} {case.what}", flush=True)
        return
    ours, raw = found["ours"], found["raw"]
    ratios = [
        statistics.median(getattr(a, field) / max(getattr(b, field), 0.001) for a, b in zip(ours, raw, strict=True))
        for field in ("seconds", "cpu")
    ]
    print(f"{'':8} {'':6} {'ratio':5} {ratios[0]:7.2f}  {ratios[1]:6.2f}             {case.what}", flush=True)


async def a_namespace(kubeconfig: Path) -> str:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
        await cluster.create_namespace(name)
    return name


async def remove(kubeconfig: Path, namespace: str) -> None:
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
        await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}", f"delete Namespace {namespace}")


if __name__ == "__main__":
    main()
