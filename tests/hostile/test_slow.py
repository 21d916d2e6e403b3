"""What takes long to read takes so long once, and others do not wait for it: a file has one time for all that it names, a look has one for all."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest

from jobyard.contracts import Engine
from jobyard.files.reading_room import Allowance, ReadingRoom
from jobyard.model.errors import InvalidFiles
from jobyard.triggers.git import preparation
from jobyard.triggers.git.layout import Place
from jobyard.triggers.git.manifests import Unread, read_queued
from jobyard.triggers.git.materials import Text, collect, named
from jobyard.triggers.git.policy import Policy
from jobyard.triggers.git.preparation import Preparation
from jobyard.triggers.git.repository import Repository, Source
from jobyard.triggers.git.settings import Settings
from tests import hostile
from tests.git import odd
from tests.git.remotes import git
from tests.hostile.bad_readers import obey, work

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
POLICY = Policy(default_namespace="default")


def test_a_hundred_thousand_finalizers_are_a_thousand_mistakes(tmp_path: Path) -> None:
    begun = time.thread_time()
    asked = Unread(path="x.yaml", root=str(tmp_path), policy=POLICY, contents={"x.yaml": hostile.finalizers().encode()})
    mistakes = read_queued(asked).mistakes
    assert time.thread_time() - begun < 8
    assert len(mistakes) <= 1_003
    assert "more than 1,000 mistakes" in mistakes[-1].what or any("more than 1,000" in each.what for each in mistakes)


@pytest.fixture
async def room() -> AsyncIterator[ReadingRoom]:
    async with ReadingRoom(seconds=2) as opened:
        yield opened


async def test_a_file_has_one_time_for_all_calls(room: ReadingRoom) -> None:
    allowance = room.allowance()
    assert await room.read(work, 1.2, "a.yaml", allowance) == 2.0
    assert 0 < allowance.left < 0.85
    assert await room.read(work, 0.1, "a.yaml", allowance) < 0.85, "the child knows what is left, too"
    for _ in range(2):
        with pytest.raises(InvalidFiles) as error:
            await room.read(obey, "turn for ever", "a.yaml", allowance)
        allowance.left = 0.0
    assert str(error.value.findings[0]) == "a.yaml:1:1: it takes too long to read, expected at most 2 s; split it"
    assert await room.read(work, 1.2, "b.yaml") == 2.0, "another file has its own"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main")
    return tmp_path


async def test_what_a_folder_s_files_name_is_read_in_one_time(folder: Path) -> None:
    """Each of them had ten seconds of its own: a run of sixty bytes that names their folder had hours."""
    blob = odd.store(folder, "blob", b"# jobyard.dev/ workflow\nspec: {steps: [{manifest: ../m.yaml}]}\n")
    steps: list[odd.Entry] = [("100644", b"%03d.yaml" % number, blob) for number in range(200)]
    tip = odd.commit(folder, [("40000", b"all", odd.tree(folder, steps)), ("100644", b"m.yaml", odd.store(folder, "blob", b"a: b"))])
    git(folder, "update-ref", "refs/heads/main", tip)
    calls: list[int] = []

    class Counting(ReadingRoom):
        async def read(self, function: Callable[[Asked], Answer], asked: Asked, file: str, allowance: Allowance | None = None) -> Answer:
            calls.append(len(cast(list[Text], asked)))
            return await super().read(function, asked, file, allowance)

    async with Counting() as room:
        run = Text(path="queued/r.yaml", content=b"apiVersion: jobyard.dev/v1\nkind: Run\nworkflow: ../all\n")
        objects = Repository(Source(folder=folder, branch="main")).objects
        found = await collect(objects, tip, run, room, room.allowance())
    assert calls == [1, 200]
    assert len(found) == 201
    assert "m.yaml" in found


async def test_what_waits_for_its_turn_is_in_memory_once(room: ReadingRoom) -> None:
    large = [Text(path="a.yaml", content=b"#" * 2**22) for _ in range(4)]  # 16 MB
    tracemalloc.start()
    try:
        await asyncio.gather(*(room.read(named, large, "a.yaml") for _ in range(6)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 80 * 2**20


async def test_slow_files_take_their_time_over_several_looks(folder: Path, monkeypatch: pytest.MonkeyPatch, room: ReadingRoom) -> None:
    monkeypatch.setattr(preparation, "READING", 0.0)
    wrong = odd.store(folder, "blob", b"- wrong")
    queue: list[odd.Entry] = [("100644", b"%d.yaml" % number, wrong) for number in range(6)]
    tip = odd.commit(folder, [("40000", b"queued", odd.tree(folder, queue))])
    git(folder, "update-ref", "refs/heads/main", tip)
    repository = Repository(Source(folder=folder, branch="main"))
    _, look = await repository.look(None)
    reading = Preparation(repository, cast(Engine, None), Settings(policy=POLICY), "git-x", "x", room)
    left = dict(look.files[Place.QUEUED].items())
    for _ in range(10):
        answers = await reading.prepare(tip, look, left, {})
        assert all(isinstance(each, str) for each in answers.values())
        left = {name: file for name, file in left.items() if name not in answers}
        if not left:
            break
    assert not left, "what was read is answered for, and the rest is read at later looks"
