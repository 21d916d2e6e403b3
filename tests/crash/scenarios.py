"""What the crash harness kills: plain functions that go from a source to the end of its runs. Each trigger adds its own to SCENARIOS."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from jobyard.cluster.client import HttpCluster
from jobyard.engine import limits
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.limit_settings import set_limit
from jobyard.model import names
from jobyard.model.objects import CONFIG_MAPS, JOBS, PODS
from jobyard.model.run import Role, RunRequest
from jobyard.service.reading import read_file
from tests.crash import amqp, git, queues, service
from tests.crash.place import Place
from tests.flows import read
from tests.manifests import Tree, job, step, workflow
from tests.toy.counter import CounterTrigger
from tests.toy.folder import LOOK_EVERY, FolderTrigger, move


@dataclass(frozen=True)
class Source:
    """What a scenario takes its work from: how it is filled, and what is left in it and done at the end."""

    fill: Callable[[Path, Mapping[str, Tree]], None]
    look: Callable[[Path], tuple[list[str], dict[str, str]]]


def fill_inbox(folder: Path, files: Mapping[str, Tree]) -> None:
    (folder / "inbox").mkdir()
    for name, tree in files.items():
        (folder / "inbox" / name).write_bytes(msgspec.json.encode(tree))


def look_at_folders(folder: Path) -> tuple[list[str], dict[str, str]]:
    left = [file.name for part in ("inbox", "taken") for file in (folder / part).glob("*")]
    return left, {file.name: file.read_text() for file in (folder / "done").glob("[!.]*")}


def fill_units(folder: Path, files: Mapping[str, Tree]) -> None:
    (folder / "units").write_text(str(len(files)))


def look_at_units(folder: Path) -> tuple[list[str], dict[str, str]]:
    return [], {file.name: "done" for file in (folder / "done").glob("*")}


def just_an_engine(cluster: HttpCluster, namespace: str, folder: Path, process: int) -> AbstractAsyncContextManager[ClusterEngine]:
    """What most need."""
    return open_engine(cluster, SystemClock(), namespace)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A source with something in it, what serves it, and what must have become of it, wherever it was killed."""

    files: Mapping[str, Tree]
    """What the source holds."""
    ends: Mapping[str, frozenset[str]]
    """From file to how its run may end."""
    jobs: int | None
    """How many Jobs there must have been in all; None where that depends on when somebody interfered."""
    serve: Callable[[Place], Awaitable[None]]
    source: Source = field(default_factory=lambda: Source(fill=fill_inbox, look=look_at_folders))
    meanwhile: Callable[[HttpCluster, str], Awaitable[None]] | None = None
    """Somebody else, at work in the namespace all the while."""
    processes: int = 1
    """How many serve the same source at once."""
    most: int | None = None
    """How many Jobs may be active at once, where something limits them."""
    keeps: bool = False
    """Its source keeps runs that have ended, for a time or until there are newer ones."""
    opened: Callable[[HttpCluster, str, Path, int], AbstractAsyncContextManager[ClusterEngine]] = just_an_engine
    """What each process opens first: an engine, or what has one. Is told the cluster, the namespace, the source's folder and which process it is."""
    sample: int = 1
    """In the suite, of so many points that would be tried of another one is: each takes longer."""


async def folder(place: Place) -> None:
    """Serves the inbox until it is empty."""
    await FolderTrigger(place.folder).run_once(place.engine)


async def limited(place: Place) -> None:
    """Serves the inbox where one run at a time may be active."""
    await set_limit(place.cluster, place.namespace, limits.NAMESPACE, "1")
    async for change in place.cluster.watch(CONFIG_MAPS, place.namespace, fields=f"metadata.name={limits.LIMITS}"):
        if change.type == "SEEN":
            break
    await FolderTrigger(place.folder).run_once(place.engine)


async def counted(place: Place) -> None:
    """Runs while there are units of work."""
    trigger = CounterTrigger(place.folder, read(workflow("counted", step("unit")), place.folder), SystemClock())
    while await trigger.run_once(place.engine):
        pass


async def adopted(place: Place) -> None:
    """One process submits as a person would, and leaves; another drives whatever is open until nothing is left to drive."""
    if place.process == 0:
        for file in sorted((place.folder / "inbox").iterdir()):
            flow = read_file(file).require()
            await place.engine.submit(RunRequest(trigger="cli", key=file.name, workflow=flow, waits=False, key_names_workflow=True))
            move(file, None)
        return
    (place.folder / "done").mkdir(exist_ok=True)
    adopting = asyncio.create_task(place.engine.adopt())
    try:
        while True:
            waiting, runs = list((place.folder / "inbox").iterdir()), (await place.engine.page()).runs
            if not waiting and all(run.released for run in runs):
                break
            await asyncio.sleep(LOOK_EVERY)
        for run in runs:
            (place.folder / "done" / run.key).write_text(str(run.state))
    finally:
        adopting.cancel()
        await asyncio.gather(adopting, return_exceptions=True)


async def cancelled(place: Place) -> None:
    """Serves the inbox, and somebody cancels each run as soon as its first Job is there. A restart cancels it again."""
    trigger = FolderTrigger(place.folder)

    async def cancel() -> None:
        async for change in place.cluster.watch(JOBS, place.namespace, labels=names.SELECTOR):
            if change.type == "SEEN" and change.object is not None:
                await place.engine.cancel(await place.engine.find(change.object.metadata.labels[names.RUN]))

    cancelling = asyncio.create_task(cancel())
    try:
        await trigger.run_once(place.engine)
    finally:
        cancelling.cancel()
        await asyncio.gather(cancelling, return_exceptions=True)


async def vandal(cluster: HttpCluster, namespace: str) -> None:
    """A person who deletes the first Job of each run once its record knows of it, and every pod that runs."""

    async def jobs() -> None:
        async for change in cluster.watch(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR):
            record = change.object
            if change.type == "SEEN" and record is not None and names.record_key(Role.STEP, "victim") in record.data:
                await cluster.delete(JOBS, namespace, names.job_name(record.metadata.labels[names.RUN], Role.STEP, "victim", 1))

    async def pods() -> None:
        async for change in cluster.watch(PODS, namespace, labels=f"{names.STEP}=pods"):
            if change.type == "SEEN" and change.object is not None and change.object.status.phase == "Running":
                await cluster.delete(PODS, namespace, change.object.metadata.name)
                return

    async with asyncio.TaskGroup() as group:
        group.create_task(jobs())
        group.create_task(pods())


SUCCEEDED, FAILED, CANCELLED = (frozenset([end]) for end in ("succeeded", "failed", "cancelled"))
UNDO = {"spec": job("undo")["spec"]}
DIAMOND = workflow("diamond", step("top"), step("left", "true", "top"), step("right", "true", "top"), step("end", "true", "left", "right"))


def large() -> Tree:
    """A workflow whose record takes a second part, and pages: two steps that run, and 130 that would if the first failed."""
    noise = random.Random(1)
    idle = (step(f"idle-{number}", f"true {noise.randbytes(8000).hex()}", "first", when="failed") for number in range(130))
    return workflow("large", step("first"), *idle, step("last", "true", "first"))


SCENARIOS: dict[str, Scenario] = {
    "diamond": Scenario(files={"a.json": DIAMOND}, ends={"a.json": SUCCEEDED}, jobs=4, serve=folder),
    "retries": Scenario(
        files={"a.json": workflow("retries", step("bad", "exit 1", retry={"limit": 2, "backoff": "100ms"}), step("after", "true", "bad"))},
        ends={"a.json": FAILED},
        jobs=3,
        serve=folder,
    ),
    "cancel": Scenario(
        files={"a.json": workflow("cancelled", step("long", "sleep 300"), step("never", "true", "long"))},
        ends={"a.json": CANCELLED},
        jobs=1,
        serve=cancelled,
    ),
    "revert": Scenario(
        files={
            "a.json": workflow(
                "undone", step("a", revert=UNDO), step("b", "true", "a", revert=UNDO), step("c", "exit 1", "b"), onFailure="revert"
            )
        },
        ends={"a.json": FAILED},
        jobs=5,
        serve=folder,
    ),
    "ttl0": Scenario(
        files={
            "a.json": workflow(
                "short", step("a", spec={"ttlSecondsAfterFinished": 0}), step("b", "true", "a", spec={"ttlSecondsAfterFinished": 0})
            )
        },
        ends={"a.json": SUCCEEDED},
        jobs=2,
        serve=folder,
    ),
    "single": Scenario(
        files={"a.json": workflow("one", step("a", spec={"ttlSecondsAfterFinished": 0})), "b.json": workflow("bad", step("b", "exit 1"))},
        ends={"a.json": SUCCEEDED, "b.json": FAILED},
        jobs=2,
        serve=folder,
    ),
    "stopped": Scenario(
        files={"a.json": workflow("stopped", step("long", "sleep 300", spec={"ttlSecondsAfterFinished": 600}))},
        ends={"a.json": CANCELLED},
        jobs=1,
        serve=cancelled,
    ),
    "limited": Scenario(
        files={f"{name}.json": workflow("limited", step("a", "sleep 0.2")) for name in "abc"},
        ends={f"{name}.json": SUCCEEDED for name in "abc"},
        jobs=3,
        most=1,
        serve=limited,
        processes=2,
    ),
    "counter": Scenario(
        files={"1": {}, "2": {}, "3": {}},
        ends={number: frozenset(["done"]) for number in "123"},
        jobs=3,
        serve=counted,
        source=Source(fill=fill_units, look=look_at_units),
        processes=2,
        keeps=True,
    ),
    "pgboss": Scenario(
        files={"1": {}, "2": {}, "3": {}},
        ends={number: frozenset(["done"]) for number in "123"},
        jobs=3,
        serve=queues.serve,
        source=Source(fill=queues.fill, look=queues.look),
        most=1,
        keeps=True,
    ),
    "pgboss-scale": Scenario(
        files={number: {} for number in "123456"},
        ends={number: frozenset(["done"]) for number in "123456"},
        jobs=6,
        serve=queues.scaled,
        source=Source(fill=queues.fill, look=queues.look),
        processes=2,
        most=3,
        keeps=True,
    ),
    "adopted": Scenario(
        files={"a.json": workflow("one", step("a", spec={"ttlSecondsAfterFinished": 600})), "b.json": DIAMOND},
        ends={"a.json": SUCCEEDED, "b.json": SUCCEEDED},
        jobs=5,
        serve=adopted,
        processes=2,
    ),
    "large": Scenario(files={"a.json": large()}, ends={"a.json": SUCCEEDED}, jobs=2, serve=folder),
    "git": Scenario(
        files={"good.json": job("good"), "bad.json": job("bad", "exit 1"), "wrong.json": {"kind": "Jop"}, "old.json": job("good")},
        ends={"good.json": SUCCEEDED, "bad.json": FAILED, "wrong.json": FAILED, "old.json": SUCCEEDED},
        jobs=3,
        serve=git.serve,
        source=Source(fill=git.fill, look=git.look),
    ),
    "rivals": Scenario(
        files={"one.json": job("one", "sleep 0.3"), "two.json": job("two")},
        ends={"one.json": SUCCEEDED, "two.json": SUCCEEDED},
        jobs=2,
        serve=git.serve,
        source=Source(fill=git.fill, look=git.look),
        processes=2,
    ),
    "amqp": Scenario(
        files={"good": {}, "bad": {}, amqp.DEAD_ONE: {}},
        ends={"good": SUCCEEDED, "bad": FAILED, amqp.DEAD_ONE: frozenset(["dead"])},
        jobs=2,
        serve=amqp.serve,
        source=Source(fill=amqp.fill, look=amqp.look),
        opened=amqp.opened,
        sample=3,
    ),
    "amqp-two": Scenario(
        files={"good": {}, "bad": {}, amqp.DEAD_ONE: {}},
        ends={"good": SUCCEEDED, "bad": FAILED, amqp.DEAD_ONE: frozenset(["dead"])},
        jobs=2,
        serve=amqp.serve,
        source=Source(fill=amqp.fill, look=amqp.look),
        opened=amqp.opened,
        processes=2,
        sample=3,
    ),
    "vandal": Scenario(
        files={
            "jobs.json": workflow("robbed", step("victim", "sleep 300"), step("after", "true", "victim")),
            "pods.json": workflow("disturbed", step("pods", "sleep 1", spec={"backoffLimit": 6})),
        },
        ends={"jobs.json": frozenset(["lost", "failed"]), "pods.json": SUCCEEDED},
        jobs=2,
        serve=folder,
        meanwhile=vandal,
    ),
    "service": Scenario(
        files={"good.json": job("good"), "bad.json": job("bad", "exit 1")},
        ends={"good.json": SUCCEEDED, "bad.json": FAILED, service.BEGUN: SUCCEEDED},
        jobs=4,
        serve=service.serve,
        source=Source(fill=git.fill, look=service.look),
        meanwhile=service.person,
        opened=service.opened,
        processes=2,
        sample=5,
    ),
    "two": Scenario(
        files={"a.json": DIAMOND, "b.json": DIAMOND}, ends={"a.json": SUCCEEDED, "b.json": SUCCEEDED}, jobs=8, serve=folder, processes=2
    ),
}
