"""What an engine that serves for months costs: beside many runs, after many runs, and while many wait."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from bench.cases import Calls, Case, Place
from bench.cases import job as a_job
from bench.raw import IN_FLIGHT, Raw, open_raw
from bench.stand_in import CONTROLLER, stand_in
from jobyard import external
from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.engine import face, home, job_home
from jobyard.engine import record as records
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.home import End
from jobyard.engine.limit_settings import set_limit
from jobyard.engine.namespace import COMMAND, Options
from jobyard.model import names
from jobyard.model.job import owner_reference, render
from jobyard.model.objects import ConfigMap, Job, Manifest
from jobyard.model.run import Role, RunRequest, State
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow

AT_ONCE = 300
"""Runs that are under way together in the case `months`."""
PLACES = 10
PODS = 1000
"""Pods that are left of the finished runs."""
LEADS = Options(alone=True, triggers=("bench",))


def status(field: str) -> float:
    """A size of this process, in MiB: VmRSS as it is, VmHWM at its most."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def stood_in(steps: int = 1, *, limits: tuple[str, ...] = ()) -> Workflow:
    """A workflow whose Jobs the stand-in ends, one after another."""
    tree = a_job("x")
    tree["spec"]["managedBy"] = CONTROLLER
    chain = (Step(name=f"s{number}", job=Template(tree), needs=(f"s{number - 1}",) if number else ()) for number in range(steps))
    return Workflow(name="bench", steps=tuple(chain), limits=limits)


def asked(key: str, workflow: Workflow) -> RunRequest:
    return RunRequest(trigger="bench", key=key, workflow=workflow, key_names_workflow=True)


@asynccontextmanager
async def an_engine(place: Place, options: Options = COMMAND) -> AsyncIterator[tuple[HttpCluster, ClusterEngine]]:
    async with (
        open_cluster(connect(kubeconfig=str(place.kubeconfig))) as cluster,
        open_engine(cluster, SystemClock(), place.namespace, options) as engine,
    ):
        yield cluster, engine


async def through(engine: ClusterEngine, request: RunRequest) -> None:
    """All that a trigger does about a run."""
    run = await engine.submit(request)
    outcome = await engine.outcome(run)
    if outcome.state is not State.SUCCEEDED:
        raise SystemExit(f"run {run.name} ended as {outcome.state}: {outcome.reason}")
    await engine.release(run)


# --- single: runs of one Job, until they are created ---


SUSPENDED = Workflow(name="bench", steps=(Step(name="s", job=Template(a_job("x", suspend=True))),))


async def single_ours(place: Place) -> str:
    calls, room = Calls(), asyncio.Semaphore(IN_FLIGHT)
    async with an_engine(place) as (_, engine):

        async def one(number: int) -> None:
            async with room:
                await engine.submit(asked(str(number), SUSPENDED))

        with external.observe(calls):
            await asyncio.gather(*(one(number) for number in range(place.size)))
    return f"{calls.all / place.size:.2f} calls a run"


async def single_raw(place: Place) -> str:
    """The same Jobs, by other names."""
    like = written(asked("k", SUSPENDED))
    names = (f"{like['metadata']['name']}-{number}" for number in range(place.size))
    async with open_raw(place.kubeconfig, place.namespace) as raw:
        await raw.create_all("jobs", ({**like, "metadata": {**like["metadata"], "name": name}} for name in names))
    return ""


def written(request: RunRequest) -> Manifest:
    made = job_home.write_job(request, request.run_id)
    assert made is not None
    return made


# --- months: many runs through one engine, one after another ---


async def months_ours(place: Place) -> str:
    """`size` runs of one Job and a tenth as many of three steps, evenly mixed."""
    one, three = stood_in(), stood_in(3)
    requests = (asked(str(number), three if number % 11 == 10 else one) for number in range(place.size + place.size // 10))
    tenth, done, calls, begun = place.size // 10, 0, Calls(), time.monotonic()
    marks: list[tuple[float, int, float, float]] = []

    def mark() -> None:
        gc.collect()
        marks.append((status("VmRSS"), len(gc.get_objects()), time.monotonic() - begun, time.process_time()))

    with external.observe(calls):
        async with stand_in(place.kubeconfig, place.namespace), an_engine(place, LEADS) as (_, engine):

            async def work() -> None:
                nonlocal done
                for request in requests:
                    await through(engine, request)
                    done += 1
                    if done % tenth == 0:
                        mark()
                        show_mark(place, done, marks[-1], calls.all)

            async with asyncio.TaskGroup() as group:
                for _ in range(min(AT_ONCE, tenth)):
                    group.create_task(work())
            mark()
            if os.environ.get("JOBYARD_BENCH_KEPT"):
                await show_kept(engine)
    first, last = marks[0], marks[-1]
    return f"{first[0]:.1f} MiB at a tenth, {last[0]:.1f} at the end ({last[0] / first[0]:.2f}); {calls.all / done:.1f} calls a run"


def show_mark(place: Place, done: int, mark: tuple[float, int, float, float], calls: int) -> None:
    memory, objects, seconds, cpu = mark
    print(f"  {done:7} runs {memory:7.1f} MiB {objects:8} objects {seconds:7.1f} s {cpu:6.1f} s of cpu {calls:8} calls", file=sys.stderr)


async def show_kept(engine: ClusterEngine) -> None:
    """What an engine keeps when all is over: sizes of all that can grow."""
    part = await engine.of()
    for owner in (part, part.sight, part.ledger, part.limiter, part.limiter.lines):
        sizes = {name: len(value) for name, value in vars(owner).items() if hasattr(value, "__len__") and not isinstance(value, str)}
        print(f"  {type(owner).__name__}: {sizes}", file=sys.stderr)
    kinds = Counter(type(each).__qualname__ for each in gc.get_objects())
    print(f"  {kinds.most_common(25)}", file=sys.stderr)


# --- finished: beside many runs that are over ---


async def finish(place: Place) -> None:
    """Runs that were released, spread over as many days as JOBYARD_BENCH_DAYS says, from JOBYARD_BENCH_AGE days ago on."""
    days, age = int(os.environ.get("JOBYARD_BENCH_DAYS", "30")), int(os.environ.get("JOBYARD_BENCH_AGE", "0"))
    now, workflow = datetime.now(UTC), stood_in()
    async with open_raw(place.kubeconfig, place.namespace) as raw:
        room = asyncio.Semaphore(IN_FLIGHT)

        async def one(number: int) -> None:
            async with room:
                made = await raw.create("jobs", released(str(number), workflow, now - timedelta(days=age + number % days)))
                if number < PODS:
                    await succeed(raw, made)

        batch = 5000
        for first in range(0, place.size, batch):
            await asyncio.gather(*(one(number) for number in range(first, min(first + batch, place.size))))
            print(f"  {first + batch:7} finished runs are there", file=sys.stderr)


def released(key: str, workflow: Workflow, finished: datetime) -> Manifest:
    """The Job of a run that ended then and was released, as the engine leaves it."""
    made = written(asked(key, workflow))
    job = msgspec.convert({**made, "metadata": {**made["metadata"], "uid": "u"}}, Job)
    change = home.release(job, End(state=State.SUCCEEDED, finished=finished), finished)["metadata"]
    metadata = made["metadata"]
    labels = {**metadata["labels"], **change["labels"]}
    annotations = {**metadata["annotations"], **change["annotations"]}
    metadata = {
        **metadata,
        "labels": {name: value for name, value in labels.items() if value is not None},
        "annotations": {name: value for name, value in annotations.items() if value is not None},
    }
    return {**made, "metadata": metadata}


async def succeed(raw: Raw, made: dict[str, Any]) -> None:
    """The Job has a pod that succeeded."""
    pod = await raw.create("pods", a_pod(made))
    await raw.patch("pods", f"{pod['metadata']['name']}/status", {"status": {"phase": "Succeeded"}})


def a_pod(made: dict[str, Any]) -> Manifest:
    """A pod of a Job that no node takes."""
    template = made["spec"]["template"]
    owner = owner_reference(made["metadata"]["name"], made["metadata"]["uid"], kind="Job")
    metadata = {"name": f"{made['metadata']['name']}-x", "labels": template["metadata"]["labels"], "ownerReferences": [owner]}
    spec = {**template["spec"], "schedulerName": CONTROLLER}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def finished_ours(place: Place) -> str:
    begun = time.monotonic()
    async with an_engine(place) as (cluster, _):
        opened, memory = time.monotonic() - begun, status("VmHWM")
        begun = time.monotonic()
        page = await face.page(cluster, SystemClock(), place.namespace)
        listed = time.monotonic() - begun
    begun = time.monotonic()
    words = [sys.executable, "-m", "jobyard", "runs", "--kubeconfig", str(place.kubeconfig), "--namespace", place.namespace]
    command = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    if await command.wait():
        raise SystemExit("jobyard runs failed")
    took = time.monotonic() - begun
    return (
        f"begun in {opened:.2f} s with {memory:.0f} MiB in all; a page of {len(page.runs)} in {listed:.2f} s, by the command {took:.2f} s"
    )


# --- steps: beside the Jobs of many runs of several steps that are over ---


STEPS = 5


async def finish_steps(place: Place) -> None:
    """Released runs in the ConfigMap home, with `size` Jobs in all."""
    flow = stood_in(STEPS)
    async with open_raw(place.kubeconfig, place.namespace) as raw:
        room = asyncio.Semaphore(IN_FLIGHT)

        async def one(number: int) -> None:
            request = asked(str(number), flow)
            record = records.write(request, request.run_id, records.pack(request))
            now = datetime.now(UTC)
            whole = msgspec.convert({**record, "metadata": {**record["metadata"], "uid": "u"}}, ConfigMap)
            change = home.release(whole, End(state=State.SUCCEEDED, finished=now), now)["metadata"]
            record["metadata"]["labels"] = {k: v for k, v in {**record["metadata"]["labels"], **change["labels"]}.items() if v is not None}
            record["metadata"]["annotations"] |= change["annotations"]
            async with room:
                made = await raw.create("configmaps", record)
                for step in flow.steps:
                    labels = home.job_labels(request.run_id, request.trigger, Role.STEP, step.name, 1)
                    template = step.job.manifest if step.job else {}
                    job = render(
                        template,
                        name=names.job_name(request.run_id, Role.STEP, step.name, 1),
                        labels=labels,
                        annotations={names.STEP: step.name},
                        pod_labels=labels,
                        owner=owner_reference(made["metadata"]["name"], made["metadata"]["uid"]),
                    )
                    job = await raw.create("jobs", job)
                    if number < PODS // STEPS:
                        await succeed(raw, job)

        await asyncio.gather(*(one(number) for number in range(place.size // STEPS)))


# --- waiting: many that wait for few places ---


async def wait_for(place: Place, options: Options) -> str:
    limited, free = stood_in(limits=("bench",)), stood_in()
    calls = Calls()
    async with open_cluster(connect(kubeconfig=str(place.kubeconfig))) as cluster:
        await set_limit(cluster, place.namespace, "bench", str(PLACES))
    async with stand_in(place.kubeconfig, place.namespace), an_engine(place, options) as (_, engine):
        part = await engine.of()
        with external.observe(calls):
            async with asyncio.TaskGroup() as group:
                waiting = [group.create_task(through(engine, asked(str(number), limited))) for number in range(place.size)]
                passed = []
                for number in range(10):
                    await asyncio.sleep(0.5)
                    begun, left = time.monotonic(), sum(not task.done() for task in waiting)
                    await engine.submit(asked(f"free {number}", free))
                    passed.append((time.monotonic() - begun, left))
        looks = part.limiter.looks / place.size
    slowest, left = max(passed)
    return f"{looks:.2f} looks a place, {calls.all / place.size:.1f} calls a run; without a limit {slowest:.2f} s at most, beside {left} that wait"


async def waiting_ours(place: Place) -> str:
    return await wait_for(place, LEADS)


async def sharing_ours(place: Place) -> str:
    return await wait_for(place, replace(LEADS, alone=False))


ENGINE_CASES: dict[str, Case] = {
    "single": Case("create N runs of one Job", 2000, single_ours, single_raw),
    "months": Case("N runs of one Job and N/10 of three, through one engine", 20_000, months_ours, None),
    "finished": Case("begin beside N finished runs, and list the first", 100_000, finished_ours, None, finish, shares=True),
    "steps": Case("begin beside N Jobs of released runs of five steps", 20_000, finished_ours, None, finish_steps, shares=True),
    "waiting": Case(f"N submits that wait for {PLACES} places", 5000, waiting_ours, None),
    "sharing": Case(f"N submits that wait for {PLACES} places that processes share", 500, sharing_ours, None),
}
