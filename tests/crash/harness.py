"""Kills a scenario's process with -9 right before and right after every call it makes, starts it again, and counts what that cost.

What must hold, whatever was hit: each attempt of each step has been exactly one Job object, every outcome is right, the source is empty,
and nothing is left behind that nobody will ever remove.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.model import names
from jobyard.model.errors import JobyardError
from jobyard.model.job import read
from jobyard.model.objects import CONFIG_MAPS, JOBS, ConfigMap, Job
from tests.crash import nursery
from tests.crash.child import Side
from tests.crash.scenarios import SCENARIOS, Scenario

ROOT = Path(__file__).parents[2]
BOUND = 240.0
"""Seconds that a scenario may take after a kill: one that takes longer hangs, which is a loss."""
AT_ONCE = 3
Point = tuple[Side, int]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one kill, or many, cost."""

    calls: int = 0
    kills: int = 0
    runs: int = 0
    duplicates: int = 0
    losses: int = 0
    leftovers: int = 0
    words: tuple[str, ...] = ()

    def __add__(self, other: Verdict) -> Verdict:
        sums = {name: getattr(self, name) + getattr(other, name) for name in ("kills", "runs", "duplicates", "losses", "leftovers")}
        return Verdict(calls=max(self.calls, other.calls), words=self.words + other.words, **sums)

    @property
    def is_good(self) -> bool:
        return not (self.duplicates or self.losses or self.leftovers)


@dataclass
class Seen:
    """What was observed of one kill, by somebody who was not killed."""

    jobs: defaultdict[tuple[str, str, str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """From run, role, step and attempt to the Job objects (uids) that there have been."""
    active: set[str] = field(default_factory=set)
    """The Jobs (uids) that have not ended."""
    most: int = 0
    """How many of them there were at once at most."""
    exits: list[int] = field(default_factory=list)
    calls: int = 0
    hung: bool = False
    said: str = ""

    def see(self, job: Job) -> None:
        labels = job.metadata.labels
        if names.RUN in labels:
            slot = (labels[names.RUN], labels[names.ROLE], job.metadata.annotations[names.STEP], labels[names.ATTEMPT])
            self.jobs[slot].add(job.metadata.uid)
            (self.active.discard if read(job).state.is_end else self.active.add)(job.metadata.uid)
            self.most = max(self.most, len(self.active))


def judge(scenario: Scenario, seen: Seen, source: Sequence[str], done: Mapping[str, str], left: Sequence[str], where: str) -> Verdict:
    """What it cost. Pure."""
    twice = [f"{len(uids)} Jobs for {' '.join(slot)}" for slot, uids in seen.jobs.items() if len(uids) > 1]
    made = len(seen.jobs)
    if scenario.most is not None and seen.most > scenario.most:
        twice.append(f"{seen.most} Jobs at once instead of {scenario.most}")
    if scenario.jobs is not None and made > scenario.jobs:
        twice.append(f"{made} Jobs instead of {scenario.jobs}")
    lost = [
        f"{name} ended as {done.get(name, 'nothing')!r}, expected {' or '.join(sorted(ends))}"
        for name, ends in scenario.ends.items()
        if done.get(name) not in ends
    ]
    if scenario.jobs is not None and made < scenario.jobs:
        lost.append(f"{made} Jobs instead of {scenario.jobs}")
    if seen.hung:
        lost.append(f"it did not end in {BOUND:.0f} s")
    if any(code not in (0, -9) for code in seen.exits):
        lost.append(f"it ended with code {seen.exits}: {seen.said[-500:]}")
    remains = [f"{name} is still in the source" for name in source] + list(left)
    return Verdict(
        calls=seen.calls,
        kills=sum(code == -9 for code in seen.exits),
        runs=len(scenario.files),
        duplicates=len(twice),
        losses=len(lost),
        leftovers=len(remains),
        words=tuple(f"{where}: {each}" for each in [*twice, *lost, *remains]),
    )


async def try_point(name: str, kubeconfig: Path, point: Point, broken: str = "") -> Verdict:
    """One scenario, killed at one point (number 0: not at all), then served again to its end."""
    scenario = SCENARIOS[name]
    namespace = f"c-{uuid.uuid4().hex[:10]}"
    folder = Path(tempfile.mkdtemp(prefix="jobyard-crash-"))
    logs = Path(tempfile.mkdtemp(prefix="jobyard-crash-"))
    scenario.source.fill(folder, scenario.files)
    seen = Seen()
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
        await cluster.create_namespace(namespace)
        try:
            others = [asyncio.create_task(_watch(cluster, namespace, seen))]
            if scenario.meanwhile is not None:
                others.append(asyncio.create_task(_meanwhile(scenario, cluster, namespace)))
            told: dict[str, Any] = {
                "scenario": name,
                "kubeconfig": str(kubeconfig),
                "namespace": namespace,
                "folder": str(folder),
                "broken": broken,
            }
            try:
                async with asyncio.timeout(BOUND):
                    async with asyncio.TaskGroup() as group:
                        for number in range(scenario.processes):
                            group.create_task(_serve({**told, "process": number}, point, seen, logs))
            except TimeoutError:
                seen.hung = True
            for job in await cluster.list(JOBS, namespace):
                seen.see(job)
            left = await _left(cluster, namespace, keeps=scenario.keeps)
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            source, done = scenario.source.look(folder)
            return judge(scenario, seen, source, done, left, f"{name}, killed {point[0]} call {point[1]}")
        finally:
            await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}", f"delete Namespace {namespace}")
            for each in (folder, logs):
                shutil.rmtree(each, ignore_errors=True)


async def _serve(told: Mapping[str, Any], point: Point, seen: Seen, logs: Path) -> None:
    """Serves until it ends by itself: killed at the point, started again without one."""
    side, number = point
    while True:
        end = await nursery.serve({**told, "side": side, "number": number}, logs)
        code = end.code
        seen.exits.append(code)
        seen.said += end.said
        if code == 0:
            seen.calls = max(seen.calls, end.calls)
        if code != -9:
            return
        number = 0


async def _watch(cluster: HttpCluster, namespace: str, seen: Seen) -> None:
    async for change in cluster.watch(JOBS, namespace):
        if change.object is not None:
            seen.see(change.object)
        if change.type == "GONE":
            seen.active.discard(change.uid)


async def _meanwhile(scenario: Scenario, cluster: HttpCluster, namespace: str) -> None:
    assert scenario.meanwhile is not None
    with contextlib.suppress(JobyardError):
        await scenario.meanwhile(cluster, namespace)


async def _left(cluster: HttpCluster, namespace: str, *, keeps: bool) -> list[str]:
    """What nobody will remove: runs that were not released, and objects that no run owns."""
    found: list[str] = []
    homes: list[ConfigMap | Job] = [*await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR)]
    homes += await cluster.list(JOBS, namespace, labels=names.RECORD_SELECTOR)
    records = {each.metadata.uid for each in homes}
    for record in homes:
        if names.ENDED not in record.metadata.labels and not keeps:
            found.append(f"run {record.metadata.name} was not released")
    for path in ("api/v1", "apis/coordination.k8s.io/v1"):
        for plural in ("configmaps", "secrets") if path == "api/v1" else ("leases",):
            answer: dict[str, Any] = json.loads(await cluster.call("GET", f"/{path}/namespaces/{namespace}/{plural}", f"list {plural}"))
            for each in answer["items"]:
                metadata = each["metadata"]
                owned = any(owner["uid"] in records for owner in metadata.get("ownerReferences") or [])
                is_kept = metadata.get("labels", {}).get(names.ROLE) in ("limit", "limits", "triggers")  # the namespace's own, a service's
                is_kept = is_kept or (
                    plural == "leases" and metadata["name"] == "jobyard"
                )  # a service's; of who died holding it, it runs out
                if not owned and not is_kept and metadata["uid"] not in records and metadata["name"] != "kube-root-ca.crt":
                    found.append(f"{plural}/{metadata['name']} is left")
    return found


async def try_all(name: str, kubeconfig: Path, every: int, broken: str = "") -> Verdict:
    """Every n-th point of a scenario: it is run once without a kill to count its calls, then killed before and after each."""
    whole = await try_point(name, kubeconfig, ("before", 0), broken)
    room = asyncio.Semaphore(AT_ONCE)

    async def one(point: Point) -> Verdict:
        async with room:
            return await try_point(name, kubeconfig, point, broken)

    points: list[Point] = [(side, number) for number in range(1, whole.calls + 1) for side in ("before", "after")]
    for verdict in await asyncio.gather(*(one(point) for point in points[::every])):
        whole += verdict
    return whole
