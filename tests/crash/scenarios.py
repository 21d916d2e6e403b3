"""What the crash harness kills: plain functions that go from a source to the end of its runs. Each trigger adds its own to SCENARIOS."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from jobyard.cluster.client import HttpCluster
from jobyard.model import names
from jobyard.model.objects import CONFIG_MAPS, JOBS, PODS
from jobyard.model.run import Role
from tests.crash import git
from tests.crash.place import Place
from tests.manifests import Tree, job, step, workflow
from tests.toy.folder import FolderTrigger


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
    only: frozenset[str] = field(default_factory=frozenset)
    """Clusters that it makes sense on; empty for all."""


async def folder(place: Place) -> None:
    """Serves the inbox until it is empty."""
    await FolderTrigger(place.folder).run_once(place.engine)


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
                await cluster.delete(JOBS, namespace, names.job_name(record.metadata.name, Role.STEP, "victim", 1))

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
    "vandal": Scenario(
        files={
            "jobs.json": workflow("robbed", step("victim", "sleep 300")),
            "pods.json": workflow("disturbed", step("pods", "sleep 1", spec={"backoffLimit": 6})),
        },
        ends={"jobs.json": frozenset(["lost", "failed"]), "pods.json": SUCCEEDED},
        jobs=2,
        serve=folder,
        meanwhile=vandal,
    ),
    "two": Scenario(
        files={"a.json": DIAMOND, "b.json": DIAMOND}, ends={"a.json": SUCCEEDED, "b.json": SUCCEEDED}, jobs=8, serve=folder, processes=2
    ),
}
