"""Each file that was made to do harm is refused with a sentence, and the ones after it are read."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobyard.cli.check_command import check
from jobyard.files.borders import SECONDS
from jobyard.files.reading_room import ReadingRoom
from jobyard.model.errors import InvalidFiles
from jobyard.model.finding import Finding
from jobyard.model.pod_level import PodLevel
from jobyard.triggers.git.manifests import Unread, Verdict, read_queued
from jobyard.triggers.git.policy import Policy
from tests import hostile

POLICY = Policy(default_namespace="default", namespaces=None, kinds=None, pods=PodLevel.ANY, service_accounts=None, finalizers=True)
"""Nothing is refused but for what it is."""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", hostile.names())
def test_a_person_who_checks_it_is_told_so_in_time(name: str) -> None:
    """In processor time: how busy the machine is, is no fault of the file."""
    file = hostile.write(name, Path())
    begun = time.thread_time()
    result = CliRunner().invoke(check, [str(file), "--kubeconfig", "none"])
    assert time.thread_time() - begun < SECONDS
    assert result.exit_code == 2, result.output[:1000]
    assert isinstance(result.exception, SystemExit) or result.exception is None, result.exception
    assert result.output.startswith(f"{name}:"), result.output[:1000]
    assert max(map(len, result.output.splitlines())) < 2_000
    assert len(result.output.splitlines()) < 4_000


@pytest.fixture
async def room() -> AsyncIterator[ReadingRoom]:
    async with ReadingRoom() as opened:
        yield opened


async def read(room: ReadingRoom, name: str) -> Verdict:
    return await room.read(read_queued, Unread(path=name, root=str(Path().resolve()), policy=POLICY), name)


async def mistakes(room: ReadingRoom, name: str) -> list[Finding]:
    try:
        return list((await read(room, name)).mistakes)
    except InvalidFiles as error:
        return list(error.findings)


@pytest.mark.parametrize("part", range(4))
async def test_a_repository_of_others_can_hold_them_all_and_a_good_file_behind_each(room: ReadingRoom, part: int) -> None:
    Path("good.yaml").write_text(hostile.JOB)
    for name in hostile.names()[part::4]:
        hostile.write(name, Path())
        found = await mistakes(room, name)
        assert found, name
        assert str(found[0]).startswith(f"{name}:"), found[0]
        good = await read(room, "good.yaml")
        assert good.bundle is not None
        assert [step.name for step in good.bundle.workflow.steps] == ["good"]
