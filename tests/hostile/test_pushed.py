"""Commits that no `git add` makes are read for what they are, in a time that has an end: no name, no order and no number of entries stops it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobyard.triggers.git import introductions, turns
from jobyard.triggers.git.command import split
from jobyard.triggers.git.introductions import Introductions
from jobyard.triggers.git.layout import Files, Place, QueueFile
from jobyard.triggers.git.objects import Tree
from jobyard.triggers.git.repository import Repository, Source
from jobyard.triggers.git.turns import Turns, at_work
from tests.git import odd
from tests.git.remotes import git

OID = bytes(range(20))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main")
    return tmp_path


def commit(folder: Path, queued: bytes, parent: str = "") -> str:
    """A commit whose queue is this tree, byte for byte."""
    return odd.commit(folder, [("40000", b"queued", odd.store(folder, "tree", queued))], parent=parent)


def entry(name: bytes, oid: str | bytes, mode: bytes = b"100644") -> bytes:
    return mode + b" " + name + b"\0" + (oid if isinstance(oid, bytes) else bytes.fromhex(oid))


def branch(folder: Path, tip: str) -> Repository:
    git(folder, "update-ref", "refs/heads/main", tip)
    return Repository(Source(folder=folder, branch="main"))


@pytest.mark.parametrize("name", [b"b\xff.yaml", b"b\nx y.yaml", b"a" * (3 * 2**20), b"\n\n "])
async def test_no_name_keeps_a_commit_from_being_found(folder: Path, name: bytes) -> None:
    good = odd.store(folder, "blob", b"good")
    first = commit(folder, entry(b".gitkeep", good))
    second = commit(folder, b"".join(sorted([entry(b"a" * (3 * 2**20), good), entry(name, good), entry(b"good.yaml", good)])), first)
    known = await Introductions(branch(folder, second)).of(second, "queued/", {"good.yaml": good})
    assert known.commits == {"good.yaml": second}


@pytest.mark.parametrize("mode", [b"100644", b"1" + b"0" * 24 + b"00000100644", b"7" * 5000])
async def test_a_folder_in_no_order_with_modes_of_any_length_is_read(folder: Path, mode: bytes) -> None:
    good = odd.store(folder, "blob", b"good")
    tip = commit(folder, b"".join((entry(b"z.yaml", good), entry(b"odd.yaml", good, mode), entry(b"good.yaml", good))))
    _, look = await branch(folder, tip).look(None)
    files = look.files[Place.QUEUED]
    assert {"z.yaml", "good.yaml"} <= {*files}
    assert files["good.yaml"].oid == files["z.yaml"].oid == good
    assert {name: files[name] for name in files} == dict(files.items())
    assert [*files.values()] == [file for _, file in files.items()]
    assert "none.yaml" not in files
    assert look.places("good.yaml") == [Place.QUEUED]


@pytest.mark.parametrize("raw", [b"7" * 2**24, b"7 " * 2**23, b"100644 a", entry(b"a.yaml", OID) + b"100644 b\0short"])
def test_what_is_no_folder_ends_where_it_is_none(raw: bytes) -> None:
    begun = time.process_time()
    assert len(Tree(raw, 20)) == raw.startswith(b"100644 a.yaml")
    assert time.process_time() - begun < 5


def test_a_million_files_are_counted_in_one_go() -> None:
    """Looked up one by one, two hundred thousand took nine seconds."""
    raw = b"".join(entry(b"a%07d.yaml" % number, OID) for number in range(200_000))
    begun = time.process_time()
    assert len(Files(Place.QUEUED, Tree(raw, 20))) == 200_000
    assert time.process_time() - begun < 3


async def test_a_history_that_takes_too_long_is_read_over_several_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introductions, "_BYTES", 1)  # a commit at a time
    good, other = odd.store(folder, "blob", b"good"), odd.store(folder, "blob", b"other")
    first = commit(folder, entry(b"good.yaml", good))
    tip = first
    for number in range(5):
        tip = commit(folder, entry(b"good.yaml", good) + entry(b"z%d.yaml" % number, other), tip)
    reading = Introductions(branch(folder, tip))
    for _ in range(4):
        known = await reading.of(tip, "queued/", {"good.yaml": good, "z4.yaml": other}, seconds=0)
        assert known.unread == {"good.yaml"}
        assert [*known.commits] == ["z4.yaml"], "what was found is known"
    tip = commit(folder, entry(b"good.yaml", good) + entry(b"y.yaml", other), tip)
    git(folder, "update-ref", "refs/heads/main", tip)
    wanted = {"good.yaml": good, "y.yaml": other}
    for _ in range(5):
        known = await reading.of(tip, "queued/", wanted, seconds=0)
        if not known.unread:
            break
    assert known.commits == {"good.yaml": first, "y.yaml": tip}, "what came meanwhile is read, too, and the rest goes on where it was"
    assert await Introductions(branch(folder, tip)).of(tip, "queued/", wanted) == known


async def test_a_history_of_large_folders_is_read_as_fast_as_they_are(folder: Path) -> None:
    """Compared with each other two by two, they took a second a commit; three that come again and again are read once each."""
    good = odd.store(folder, "blob", b"good")
    trees = [b"".join(entry(b"a%06d" % each, bytes([number]) * 20, b"160000") for each in range(100_000)) for number in range(3)]
    tip = ""
    for number in (0, 1, 2, 0, 2, 1, 0, 1, 0, 2, 0, 1, 2, 1, 2):
        tip = commit(folder, trees[number] + entry(b"good.yaml", good), tip)
    first = git(folder, "rev-list", "--max-parents=0", tip).strip()
    begun = time.process_time()
    assert (await Introductions(branch(folder, tip)).of(tip, "queued/", {"good.yaml": good})).commits == {"good.yaml": first}
    assert time.process_time() - begun < 5


async def test_what_is_too_long_is_cut_and_takes_no_other_s_place() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for each in (b"a\0", b"x" * 7, b"x" * 50, b"y\0b\0\0", b"z" * 30):
            yield each

    for longest in (5, 40):
        assert [piece async for piece in split(chunks(), b"\0", longest)] == [
            b"a",
            b"x" * min(longest, 57),
            b"b",
            b"",
            b"z" * min(longest, 30),
        ]


def files(*names: str) -> dict[str, QueueFile]:
    return {name: QueueFile(name=name, place=Place.QUEUED, mode="100644", oid="o") for name in names}


def test_of_too_many_that_wait_each_has_its_turn_before_any_has_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LISTED", 5)
    queue, turn = files(*"abcdefghijkl"), Turns()
    seen = [turn.next(queue, ["l"] if number == 2 else ["f"]) for number in range(4)]
    assert [("".join(sorted(file.name for file in chosen)), left) for chosen, left in seen] == [
        ("abcdf", 7),
        ("efghi", 3),
        ("abjkl", 0),
        ("cdefg", 0),
    ]


def test_those_that_go_on_take_the_turn_of_none_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LISTED", 2)
    there = files(*"abcdefg")
    assert [*at_work(there, "")] == ["a", "b"]
    assert [*at_work(there, "ab")] == ["a", "b", "c", "d"]
    assert [*at_work(there, "bdf")] == ["a", "b", "c", "d", "f"]
