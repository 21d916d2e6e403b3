"""One process at a time."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from jobyard.triggers.git.lock import Locked, alone
from tests.faketime import in_fake_time


def test_a_lock_that_is_never_given_back_is_waited_for_with_a_bound_and_says_who_has_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"

    async def take() -> None:
        async with alone(file, seconds=60):
            raise AssertionError("there are two")

    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(str(os.getpid()))
        held.flush()
        with pytest.raises(Locked, match=f"for 60 s: process {os.getpid()}"):
            in_fake_time(take())


def test_the_wait_can_be_cancelled(tmp_path: Path) -> None:
    file = tmp_path / "lock"

    async def take() -> None:
        async with alone(file):
            raise AssertionError("there are two")

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await take()

    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        in_fake_time(give_up())


async def test_one_follows_the_other(tmp_path: Path) -> None:
    inside = most = 0

    async def one() -> None:
        nonlocal inside, most
        async with alone(tmp_path / "lock"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async with asyncio.timeout(30):
        await asyncio.gather(*(one() for _ in range(5)))
    assert most == 1
