"""What several suites of contracts need beside a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.git import remotes
from tests.git.remotes import Person, git


@pytest.fixture
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's Git configuration, and clones in a place of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in remotes.NO_CONFIG.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def remote(tmp_path: Path, own_configuration: None) -> Path:
    """An empty bare repository."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "remote.git")
    return tmp_path / "remote.git"


@pytest.fixture
def person(remote: Path, tmp_path: Path) -> Person:
    return Person(remote, tmp_path / "person")
