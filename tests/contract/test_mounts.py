"""The local cluster beside other things that mount and unmount: a container runtime, another node."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.local.process_runtime import find_bubblewrap
from jobyard.model.job import read
from jobyard.model.objects import JOBS
from jobyard.model.run import State
from tests.conftest import LOCAL, ClusterUnderTest
from tests.manifests import job
from tests.waiting import until_ended

BIND, DETACH = 4096, 2


@contextmanager
def mounts_that_come_and_go(folder: Path) -> Iterator[None]:
    """Something that mounts and unmounts all the while."""
    libc = ctypes.CDLL(None, use_errno=True)
    over = threading.Event()

    def work() -> None:
        number = 0
        while not over.is_set():
            number += 1
            place = folder / str(number)
            place.mkdir()
            libc.mount(b"/usr", bytes(place), None, BIND, None)
            over.wait(0.0005)
            libc.umount2(bytes(place), DETACH)
            place.rmdir()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def test_mounts_that_vanish_meanwhile_fail_no_job(
    under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    if under_test.name != LOCAL:
        pytest.skip("it is bubblewrap that sees every mount of the machine")
    if os.geteuid() != 0 or find_bubblewrap() is None:
        pytest.skip("needs bubblewrap, and the right to mount")
    names = [f"j{number}" for number in range(150)]
    with mounts_that_come_and_go(tmp_path):
        await asyncio.gather(*(cluster.create(JOBS, namespace, job(name, "echo once; exit 0")) for name in names))
        ended = await asyncio.gather(*(until_ended(cluster, namespace, name) for name in names))
        failing = await cluster.create(JOBS, namespace, job("failing", "exit 1"))
        assert read(await until_ended(cluster, namespace, failing.metadata.name)).state is State.FAILED
    assert {read(each).state for each in ended} == {State.SUCCEEDED}
