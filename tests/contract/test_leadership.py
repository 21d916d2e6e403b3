"""Who of several processes leads."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.cluster.client import HttpCluster
from jobyard.cluster.lease import Leadership, Terms, may_take, open_leadership, still_leads
from jobyard.engine.clock import SystemClock
from jobyard.model import names
from jobyard.model.objects import JOBS, LEASES, Lease, LeaseSpec, Metadata
from tests.conftest import ClusterUnderTest
from tests.manifests import step, workflow
from tests.waiting import BOUND, until

QUICK = Terms(duration=5.0, look_every=0.2, give_up=3.0)
"""Quicker than in earnest, yet so that a machine that is busy with other tests lets nobody be late."""


@pytest.mark.parametrize(
    ("holder", "age", "may"), [("", 0, True), ("me", 0, True), ("other", 0, False), ("other", 9.9, False), ("other", 10, True)]
)
def test_a_lease_is_taken_when_it_is_nobodys_ours_or_has_not_changed_for_its_duration(holder: str, age: float, may: bool) -> None:
    lease = Lease(metadata=Metadata(), spec=LeaseSpec(holder_identity=holder, lease_duration_seconds=10))
    assert may_take(lease, "me", 100.0, 100.0 + age, Terms()) is may


@given(st.floats(0, 1000))
def test_a_holder_gives_up_before_another_may_begin(age: float) -> None:
    lease = Lease(metadata=Metadata(), spec=LeaseSpec(holder_identity="me", lease_duration_seconds=10))
    assert not (still_leads(0.0, age, Terms()) and may_take(lease, "other", 0.0, age, Terms()))
    assert not still_leads(None, age, Terms())


def leader(*parts: Leadership) -> list[Leadership]:
    return [each for each in parts if each.leads]


async def test_one_leads_and_another_does_at_once_when_it_resigns(cluster: HttpCluster, namespace: str) -> None:
    clock = SystemClock()
    async with open_leadership(cluster, clock, namespace, "l", "b", QUICK) as b:
        async with open_leadership(cluster, clock, namespace, "l", "a", QUICK) as a:
            async with asyncio.timeout(30):
                while not leader(a, b):  # noqa: ASYNC110
                    await asyncio.sleep(0)
            assert len(leader(a, b)) == 1
            first = leader(a, b)[0]
        if first is a:
            async with asyncio.timeout(QUICK.duration - 1):  # sooner than the Lease would run out
                await b.opened()
        assert b.leads


async def test_of_ten_that_begin_at_once_one_leads(cluster: HttpCluster, namespace: str) -> None:
    parts = [Leadership(cluster, SystemClock(), namespace, "l", str(number), QUICK) for number in range(10)]
    for _ in range(3):
        await asyncio.gather(*(each.run_once() for each in parts))
        assert len(leader(*parts)) == 1


async def test_a_holder_that_died_is_followed(cluster: HttpCluster, namespace: str) -> None:
    dead = Leadership(cluster, SystemClock(), namespace, "l", "dead", QUICK)
    assert await dead.run_once()
    begun = time.monotonic()
    async with open_leadership(cluster, SystemClock(), namespace, "l", "next", QUICK) as heir:
        async with asyncio.timeout(QUICK.takeover + 20):
            await heir.opened()
        assert time.monotonic() - begun >= QUICK.duration - 0.5
        assert not dead.leads


@asynccontextmanager
async def process(under_test: ClusterUnderTest, namespace: str, folder: Path, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    root = Path(__file__).parents[2]
    words = [sys.executable, "-m", "tests.crash.leader", str(under_test.kubeconfig), namespace, str(folder), name]
    child = await asyncio.create_subprocess_exec(*words, cwd=root, env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"})
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def done(folder: Path, name: str) -> str:
    """How a file of the folder ended. There is no event for a file of another process: it is looked at now and then."""
    async with asyncio.timeout(BOUND):
        while not (folder / "done" / name).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return (folder / "done" / name).read_text()


@pytest.mark.timeout(180)
async def test_a_dead_leader_is_followed_within_fifteen_seconds_and_a_frozen_one_does_no_harm(
    under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    def put(name: str, script: str) -> None:
        (tmp_path / f".{name}").write_bytes(msgspec.json.encode(workflow("w", step("a", script), step("b", "true", "a"))))
        (tmp_path / f".{name}").replace(tmp_path / "inbox" / name)

    (tmp_path / "inbox").mkdir()
    async with process(under_test, namespace, tmp_path, "one") as one, process(under_test, namespace, tmp_path, "two") as two:
        children = {"one": one, "two": two}
        put("first.json", "sleep 2")
        lease = await until(cluster, LEASES, namespace, "jobyard", lambda lease: bool(lease.spec.holder_identity))
        frozen = lease.spec.holder_identity or ""
        async with asyncio.timeout(BOUND):
            async for change in cluster.watch(JOBS, namespace, labels=names.SELECTOR):
                if change.type == "SEEN":
                    break
        children[frozen].send_signal(signal.SIGSTOP)
        put("second.json", "true")
        begun = time.monotonic()
        assert await done(tmp_path, "second.json") == "succeeded"
        assert time.monotonic() - begun < 15 + 10, "the takeover, and a run"
        children[frozen].send_signal(signal.SIGCONT)
        put("third.json", "true")
        for name in ("first.json", "third.json"):
            assert await done(tmp_path, name) == "succeeded"
        await until(cluster, LEASES, namespace, "jobyard", lambda lease: lease.spec.holder_identity != frozen)
        other = "two" if frozen == "one" else "one"
        children[other].kill()
        begun = time.monotonic()
        await until(cluster, LEASES, namespace, "jobyard", lambda lease: lease.spec.holder_identity == frozen)
        assert time.monotonic() - begun < 15
        put("fourth.json", "true")
        assert await done(tmp_path, "fourth.json") == "succeeded"
    slots = [(each.metadata.labels[names.RUN], each.metadata.annotations[names.STEP]) for each in await cluster.list(JOBS, namespace)]
    assert len(slots) == len(set(slots)) == 8
