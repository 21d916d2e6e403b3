"""What is measured: each case once by Jobyard and once by the raw client, in a process of its own."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench.raw import IN_FLIGHT, open_raw, pack_and_read
from jobyard import external
from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.engine import record as records
from jobyard.engine.clock import SystemClock
from jobyard.engine.decide import decide
from jobyard.engine.decision import Observed
from jobyard.engine.engine import open_engine
from jobyard.model import names
from jobyard.model.objects import JOBS, ConfigMap
from jobyard.model.run import Role, RunRequest, State, StepResult
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow

RUN_STEPS = 50
"""Steps of each run that the namespace already holds in the case `open`."""


@dataclass(frozen=True)
class Place:
    """Where a case is measured."""

    kubeconfig: Path
    namespace: str
    size: int


@dataclass(frozen=True)
class Case:
    """Something to be done, of a size that can be set."""

    what: str
    size: int
    ours: Callable[[Place], Coroutine[None, None, str]]
    """Does it, and says what else is worth saying."""
    raw: Callable[[Place], Coroutine[None, None, str]] | None
    """The same by the raw client; None where it would do the same nowhere, and what is promised is no ratio."""
    prepare: Callable[[Place], Coroutine[None, None, None]] | None = None
    shares: bool = False
    """Both work on the same prepared namespace, which they only read."""


class Calls:
    """Counts the calls that are made."""

    def __init__(self) -> None:
        self.all = 0
        self.lists = 0

    def before(self, call: str) -> None:
        self.all += 1
        self.lists += ": list " in call

    def after(self, call: str, seconds: float) -> None:
        pass


def job(
    name: str, *, suspend: bool = False, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    container = {"name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["true"]}
    pod = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    metadata = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
    spec = {"backoffLimit": 0, "suspend": suspend, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def flow(steps: int, *, chained: bool = False) -> Workflow:
    return Workflow(
        name="bench",
        steps=tuple(
            Step(name=f"s{number}", job=Template(job("x")), needs=(f"s{number - 1}",) if chained and number else ())
            for number in range(steps)
        ),
    )


# --- create: a namespace full of Jobs ---


async def create_ours(place: Place) -> str:
    async with open_cluster(connect(kubeconfig=str(place.kubeconfig))) as cluster:
        room = asyncio.Semaphore(IN_FLIGHT)

        async def one(number: int) -> None:
            async with room:
                await cluster.create(JOBS, place.namespace, job(f"j{number}", suspend=True))

        await asyncio.gather(*(one(number) for number in range(place.size)))
    return ""


async def create_raw(place: Place) -> str:
    async with open_raw(place.kubeconfig, place.namespace) as raw:
        await raw.create_all("jobs", (job(f"j{number}", suspend=True) for number in range(place.size)))
    return ""


# --- open: to begin beside many Jobs ---


async def fill(place: Place) -> None:
    """Runs of RUN_STEPS steps that go on, their Jobs suspended."""
    workflow = flow(RUN_STEPS)
    async with open_raw(place.kubeconfig, place.namespace) as raw:
        jobs = []
        for number in range(place.size // RUN_STEPS):
            request = RunRequest(trigger="bench", key=str(number), workflow=workflow)
            await raw.create("configmaps", records.write(request, request.run_id, records.pack(request)))
            for step in workflow.steps:
                labels = {names.MANAGED_BY: names.JOBYARD, names.RUN: request.run_id, names.ROLE: "step", names.ATTEMPT: "1"}
                name = names.job_name(request.run_id, Role.STEP, step.name, 1)
                jobs.append(job(name, suspend=True, labels=labels, annotations={names.STEP: step.name}))
        await raw.create_all("jobs", jobs)


async def open_ours(place: Place) -> str:
    calls = Calls()
    with external.observe(calls):
        async with open_cluster(connect(kubeconfig=str(place.kubeconfig))) as cluster, open_engine(cluster, SystemClock(), place.namespace):
            pass
    return f"{calls.lists} lists"


async def open_raw_lists(place: Place) -> str:
    async with open_raw(place.kubeconfig, place.namespace) as raw:
        found = await asyncio.gather(*(raw.list(plural) for plural in ("configmaps", "jobs", "pods", "events")))
    return f"{sum(map(len, found))} objects"


# --- steps: a workflow of many steps at once ---


async def run_all(place: Place, requests: list[RunRequest]) -> str:
    calls = Calls()
    with external.observe(calls):
        async with (
            open_cluster(connect(kubeconfig=str(place.kubeconfig))) as cluster,
            open_engine(cluster, SystemClock(), place.namespace) as engine,
        ):
            opened = calls.lists
            runs = await asyncio.gather(*(engine.submit(request) for request in requests))
            outcomes = await asyncio.gather(*(engine.outcome(run) for run in runs))
    if wrong := [outcome for outcome in outcomes if outcome.state is not State.SUCCEEDED]:
        raise SystemExit(f"{len(wrong)} runs did not succeed: {wrong[0].reason}")
    return f"{calls.all} calls, {calls.lists - opened} lists after the first"


async def steps_ours(place: Place) -> str:
    return await run_all(place, [RunRequest(trigger="bench", key="k", workflow=flow(place.size))])


async def steps_raw(place: Place) -> str:
    async with open_raw(place.kubeconfig, place.namespace) as raw, asyncio.TaskGroup() as group:
        making = group.create_task(raw.create_all("jobs", (job(f"j{number}") for number in range(place.size))))
        await until(raw.completed(), place.size)
        await making
    return ""


async def until(completed: Any, count: int) -> None:
    async for _ in completed:
        count -= 1
        if not count:
            return


# --- runs: many small ones at once ---


async def runs_ours(place: Place) -> str:
    workflow = flow(2, chained=True)
    return await run_all(place, [RunRequest(trigger="bench", key=str(number), workflow=workflow) for number in range(place.size)])


async def runs_raw(place: Place) -> str:
    async with open_raw(place.kubeconfig, place.namespace) as raw, asyncio.TaskGroup() as group:
        group.create_task(raw.create_all("jobs", (job(f"first-{number}") for number in range(place.size))))
        left = place.size
        async for name in raw.completed():
            if name.startswith("first-"):
                group.create_task(raw.create("jobs", job(f"second-{name}")))
            else:
                left -= 1
                if not left:
                    break
    return ""


# --- record: what is written and read of a long workflow ---


async def record_ours(place: Place) -> str:
    request = RunRequest(trigger="bench", key="k", workflow=flow(place.size))
    packed = records.pack(request)
    tree = records.write(request, request.run_id, packed)
    tree["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    known = msgspec.convert(tree, ConfigMap)
    parts = {
        each["metadata"]["name"]: msgspec.convert(each, ConfigMap)
        for each in (records.part(known, number, part) for number, part in enumerate(packed[1:], start=1))
    }
    stored = records.stored(known, parts)
    assert stored is not None
    now = datetime.now(UTC)
    ended = StepResult(state=State.SUCCEEDED, attempt=1, job="j" * 40, started=now, finished=now)
    results = {(Role.STEP, step.name): ended for step in stored.workflow.steps}
    pages = records.pages(results, known, stored.workflow)
    observed = Observed(created=now, begun=now, recorded=results)
    assert decide(stored.workflow, observed, now).state is State.SUCCEEDED
    biggest = max(sum(map(len, page.values())) for page in pages.values())
    return f"{sum(map(len, packed)):,} bytes in {len(packed)} parts, {len(pages)} pages of up to {biggest:,} bytes"


async def record_raw(place: Place) -> str:
    pack_and_read([job(f"s{number}") for number in range(place.size)])
    return f"{len(gzip.compress(msgspec.json.encode([job(f's{number}') for number in range(place.size)]))):,} bytes"


CASES: dict[str, Case] = {
    "create": Case("create N suspended Jobs", 2000, create_ours, create_raw),
    "open": Case("begin beside N Jobs", 10_000, open_ours, open_raw_lists, fill, shares=True),
    "steps": Case("a workflow of N steps, all at once", 1000, steps_ours, steps_raw),
    "runs": Case("N runs of two steps at once", 200, runs_ours, runs_raw),
    "record": Case("write, read and decide a record of N steps", 10_000, record_ours, record_raw),
}
