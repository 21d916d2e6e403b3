"""Sentences of errors that are put together: whole, and true of what was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobyard.cli.log_choice import LogOptions, NoSuchAttempt, NoSuchContainer, check_containers, choose
from jobyard.engine.tries import Tried, Try
from jobyard.files import plain
from jobyard.files.reading import read
from jobyard.model import names
from jobyard.model.errors import InvalidParameter, NoLocalCluster
from jobyard.model.job import run_name
from jobyard.model.objects import Job, Metadata, OwnerReference
from jobyard.model.parameters import Parameter, ParameterType, resolve
from tests.unit.test_tries import pod


def tried(*numbers: int) -> Tried:
    return Tried(name="etl-x", tries=tuple(Try(step="load", number=number, job=f"load-{number}") for number in numbers))


@pytest.mark.parametrize(
    ("numbers", "step", "said"),
    [
        ((1,), "load", "step load of etl-x has no logs of attempt 3, only of attempt 1"),
        ((1, 2), None, "etl-x has no logs of attempt 3, only of attempts 1 to 2"),
        ((), None, "etl-x has no logs of attempt 3, and none of any other"),
    ],
)
def test_an_attempt_that_left_nothing(numbers: tuple[int, ...], step: str | None, said: str) -> None:
    with pytest.raises(NoSuchAttempt) as raised:
        choose(tried(*numbers), LogOptions(run="etl-x", step=step, attempt=3))
    assert str(raised.value) == said


def test_a_container_that_is_not_there() -> None:
    its_pod = pod("p", "Running", containerStatuses=[{"name": "main"}])
    with pytest.raises(NoSuchContainer) as raised:
        check_containers([its_pod], LogOptions(run="x", containers=("sidecar",)))
    assert str(raised.value) == "no container sidecar; its containers: main"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"span": "dya"}, "parameter span: 'dya'; expected one of day, week; did you mean \"day\"?"),
        ({"span": "x"}, "parameter span: 'x'; expected one of day, week; give another value: --set span=VALUE"),
        ({"spam": "day"}, 'parameter spam: not declared by the workflow; expected one of span; did you mean "span"?'),
        ({"other": "1"}, "parameter other: not declared by the workflow; expected one of span"),
        ({}, "parameter span: no value; expected one of day, week; give one: --set span=VALUE"),
    ],
)
def test_a_parameter_that_is_wrong(given: dict[str, str], said: str) -> None:
    span = Parameter(name="span", type=ParameterType.CHOICE, choices=("day", "week"), required=True)
    with pytest.raises(InvalidParameter) as raised:
        resolve([span], given)
    assert str(raised.value) == said


def test_a_folder_without_a_manifest_has_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (found, *_) = read(tmp_path, (), plain.read).findings
    assert str(found) == "the folder . holds no manifest, expected a .yaml, .yml or .json file"


def test_the_run_of_a_job_is_named_as_people_know_it() -> None:
    mine = Metadata(name="a", labels={names.RUN: "btgz"}, owner_references=(OwnerReference(kind="ConfigMap", name="mix-btgz", uid="u"),))
    assert run_name(Job(metadata=mine)) == "mix-btgz"
    assert run_name(Job(metadata=Metadata(name="a", labels={names.RUN: "btgz"}))) == "btgz"
    assert run_name(Job(metadata=Metadata(name="a"))) == ""


def test_no_local_cluster_is_one_sentence() -> None:
    why = "no local cluster is running; `jobyard local start` starts one"
    assert str(NoLocalCluster(why=why)) == why
