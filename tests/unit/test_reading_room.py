"""The child process in which files of others are read: what it breaks over is one file's failure, and nothing is left of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobyard.files.reading_room import ReadingRoom
from jobyard.model.errors import InvalidFiles
from tests.hostile.bad_readers import obey


@pytest.fixture
async def room() -> AsyncIterator[ReadingRoom]:
    async with ReadingRoom() as opened:
        yield opened


def lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ("crash", "the process that read it ended (SIGSEGV)"),
        ("leave", "the process that read it ended (exit code 0)"),
        ("eat", "it takes too much memory to read, expected at most 512 MB"),
        ("break", "it can't be read (KeyError in bad_readers.py:"),
        ("answer at length", "it has too much in it, expected at most 134,217,728 bytes"),
        ("answer with a number", "the process that read it gave an answer that can't be understood"),
    ],
)
async def test_the_file_that_it_breaks_over_is_at_fault_and_the_next_is_read(room: ReadingRoom, order: str, told: str) -> None:
    assert await room.read(obey, "nothing", "good.yaml") == "done"
    with pytest.raises(InvalidFiles) as error:
        await room.read(obey, order, "bad.yaml")
    assert str(error.value.findings[0]).startswith(f"bad.yaml:1:1: {told}")
    assert "canary" not in str(error.value.findings[0])
    assert await room.read(obey, "nothing", "good.yaml") == "done"


@pytest.mark.parametrize("order", ["turn for ever", "hang"])
async def test_what_takes_too_long_is_ended(order: str) -> None:
    async with ReadingRoom(seconds=1) as room:
        with pytest.raises(InvalidFiles, match=r"1 mistake in bad\.yaml") as error:
            await room.read(obey, order, "bad.yaml")
        assert str(error.value.findings[0]) == "bad.yaml:1:1: it takes too long to read, expected at most 1 s; split it"
        assert await room.read(obey, "nothing", "good.yaml") == "done"


async def test_a_child_that_was_killed_between_two_files_is_no_file_s_fault(room: ReadingRoom) -> None:
    child = await room.read(obey, "tell the process", "a.yaml")
    os.kill(int(child), signal.SIGKILL)
    assert await room.read(obey, "tell the process", "b.yaml") != child


async def test_it_is_kept_for_the_next_file_and_goes_with_the_room() -> None:
    async with ReadingRoom() as room:
        first = await room.read(obey, "tell the process", "a.yaml")
        assert await room.read(obey, "tell the process", "b.yaml") == first
        assert lives(first)
    assert not lives(first)


async def test_what_is_printed_is_no_answer(room: ReadingRoom) -> None:
    assert await room.read(obey, "talk", "a.yaml") == "done"


async def test_it_has_none_of_our_secrets(room: ReadingRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBYARD_WEBHOOK_SECRET", "canary")
    assert "canary" not in await room.read(obey, "tell the environment", "a.yaml")


async def test_who_is_cancelled_leaves_no_process_behind_and_who_waits_is_served(room: ReadingRoom, tmp_path: Path) -> None:
    door = tmp_path / "door"
    os.mkfifo(door)
    asking = asyncio.create_task(room.read(obey, f"knock at {door}", "a.yaml"))
    child = await asyncio.to_thread(door.read_text)
    waiting = asyncio.create_task(room.read(obey, "tell the process", "b.yaml"))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()
    assert not lives(child)
    assert await waiting != child
