"""The child process in which files of others are read: what it breaks over is one file's failure, and nothing is left of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobyard.files.reading_room import ReadingRoom
from jobyard.model.errors import InvalidFiles
from tests.hostile.bad_readers import obey

Room = ReadingRoom[str, str]


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with ReadingRoom(obey) as opened:
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
        ("turn for ever", "it takes too long to read, expected at most 10 s"),
        ("eat", "it takes too much memory to read, expected at most 512 MB"),
        ("break", "it can't be read (KeyError in bad_readers.py:"),
        ("answer at length", "it has too much in it, expected at most 134,217,728 bytes"),
        ("answer with a number", "the process that read it gave an answer that can't be understood"),
    ],
)
async def test_the_file_that_it_breaks_over_is_at_fault_and_the_next_is_read(room: Room, order: str, told: str) -> None:
    assert await room.read("nothing", "good.yaml") == "done"
    with pytest.raises(InvalidFiles) as error:
        await room.read(order, "bad.yaml")
    assert str(error.value.findings[0]).startswith(f"bad.yaml:1:1: {told}")
    assert "canary" not in str(error.value.findings[0])
    assert await room.read("nothing", "good.yaml") == "done"


async def test_it_is_kept_for_the_next_file_and_goes_with_the_room() -> None:
    async with ReadingRoom(obey) as room:
        first = await room.read("tell the process", "a.yaml")
        assert await room.read("tell the process", "b.yaml") == first
        assert lives(first)
    assert not lives(first)


async def test_what_is_printed_is_no_answer(room: Room) -> None:
    assert await room.read("talk", "a.yaml") == "done"


async def test_it_has_none_of_our_secrets(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBYARD_WEBHOOK_SECRET", "canary")
    assert "canary" not in await room.read("tell the environment", "a.yaml")


async def test_who_is_cancelled_leaves_no_process_behind_and_who_waits_is_served(room: Room, tmp_path: Path) -> None:
    door = tmp_path / "door"
    os.mkfifo(door)
    asking = asyncio.create_task(room.read(f"knock at {door}", "a.yaml"))
    child = await asyncio.to_thread(door.read_text)
    waiting = asyncio.create_task(room.read("tell the process", "b.yaml"))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()
    assert not lives(child)
    assert await waiting != child
