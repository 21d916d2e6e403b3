"""Every error has one sentence, which is no docstring, over facts that it declares."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pickle
import pkgutil
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobyard
from jobyard.model.errors import InvalidFiles, JobyardError, NoLocalCluster, Rejected, Unavailable
from jobyard.model.finding import Finding, Position


def _below(kind: type[JobyardError]) -> Iterator[type[JobyardError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def _all() -> list[type[JobyardError]]:
    for module in pkgutil.walk_packages(jobyard.__path__, "jobyard."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted({each for each in _below(JobyardError) if each.__module__.startswith("jobyard.")}, key=lambda each: each.__name__)


@pytest.mark.parametrize("kind", _all(), ids=lambda kind: kind.__name__)
def test_each_error_has_a_sentence_of_its_own_over_declared_facts(kind: type[JobyardError]) -> None:
    assert vars(kind).get("sentence"), "a sentence of its own"
    assert kind.sentence != kind.__doc__
    placeholders = {name for _, name, _, _ in string.Formatter().parse(kind.sentence) if name is not None}
    facts = {fact.name for fact in dataclasses.fields(kind)}  # type: ignore[arg-type] # its root makes it one
    assert placeholders <= facts, "every placeholder is a declared fact"


def test_errors_speak_from_their_facts() -> None:
    assert str(Rejected(action="create Job x", status=422, reason="Invalid", message="no")) == "the cluster refused to create Job x: no"
    assert "http://x can't be reached" in str(Unavailable(server="http://x", what="can't be reached"))
    mistakes = [Finding(position=Position(file=file), what="no") for file in ("a.yaml", "a.yaml", "b.yaml")]
    assert str(InvalidFiles(mistakes)) == "3 mistakes in 2 files; nothing was created."


def test_an_error_is_raised_with_all_its_facts_and_no_others() -> None:
    with pytest.raises(TypeError, match="why"):
        NoLocalCluster()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="wy"):
        NoLocalCluster(wy="a slip of the pen")  # type: ignore[call-arg]


@pytest.mark.parametrize("error", [NoLocalCluster(why="so"), Unavailable(server="s", what="w", retry_after=2.0), InvalidFiles([])])
def test_an_error_survives_a_pickle(error: JobyardError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - it is ours
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("words", [["runs", "--kubeconfig", "/nowhere"], ["run", "nowhere.yaml"]])
def test_users_read_the_same_without_docstrings(words: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(jobyard.__path__[0]).parent)}
    plain, stripped = (
        subprocess.run(
            [sys.executable, *flags, "-m", "jobyard", *words], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
        )
        for flags in ([], ["-OO"])
    )
    assert plain.returncode == stripped.returncode > 1
    assert "\njobyard: " in f"\n{plain.stderr}"
    assert stripped.stderr == plain.stderr
