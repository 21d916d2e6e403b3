"""A run file: a workflow by its path, and the values that it is run with; each mistake with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from jobyard.files.reading import Reading
from jobyard.files.workflow_schema import json_schema
from jobyard.model.errors import InvalidFiles
from jobyard.service.reading import read_file
from jobyard.triggers.git.hiding import secrets
from jobyard.triggers.git.manifests import Unread, read_queued
from jobyard.triggers.git.materials import Text, named, needs_others
from jobyard.triggers.git.policy import Policy
from tests.manifests import job, step, workflow

PARAMETERS = [
    {"name": "day", "type": "date", "required": True, "description": "which day"},
    {"name": "size", "type": "choice", "choices": ["small", "large"], "default": "small"},
    {"name": "rows", "type": "integer", "default": 5},
    {"name": "label"},
]
GOOD = """apiVersion: jobyard.dev/v1
kind: Run
workflow: ../flows/etl.yaml
parameters:
  day: 2026-02-03
  rows: 7
"""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flows/jobs").mkdir(parents=True)
    Path("queued").mkdir()
    Path("flows/jobs/load.yaml").write_text(yaml.safe_dump(job("load", "echo {{ params.day }}")))
    write("flows/etl.yaml", workflow("etl", {"name": "load", "manifest": "jobs/load.yaml"}, parameters=PARAMETERS))


def write(path: str, tree: Any) -> None:
    Path(path).write_text(yaml.safe_dump(tree, sort_keys=False))


def read(text: str = GOOD, name: str = "queued/r.yaml") -> Reading:
    Path(name).write_text(text)
    return read_file(Path(name))


def told(text: str) -> list[str]:
    return [str(finding) for finding in read(text).findings]


def test_it_is_its_workflow_with_these_values() -> None:
    reading = read()
    assert (told(GOOD), reading.require().name) == ([], "etl")
    assert reading.inputs == {"day": "2026-02-03", "rows": 7}
    assert read(GOOD.replace("etl.yaml", "")).errors, "a folder without a workflow of that name"
    write("flows/workflow.yaml", workflow("whole", step("a")))
    assert read("apiVersion: jobyard.dev/v1\nkind: Run\nworkflow: ../flows\n").require().name == "whole"
    assert read(json.dumps(yaml.safe_load(GOOD.replace("2026-02-03", "'2026-02-03'"))), "queued/r.json").inputs["rows"] == 7


def test_it_says_where_it_runs() -> None:
    assert read(GOOD + "metadata: {namespace: night}\n").require().namespace == "night"
    assert read().require().namespace is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  rows: 7", "  rows: many", 'queued/r.yaml:6:9: the text "many" as parameter rows, expected an integer of 64 bits such as 42'),
        ("  rows: 7", "  rows: [7]", "queued/r.yaml:6:9: a list as parameter rows, expected an integer of 64 bits such as 42"),
        ("  rows: 7", "  rows:", "queued/r.yaml:6:8: nothing as parameter rows, expected an integer of 64 bits such as 42"),
        ("  rows: 7", "  label: {a: b}", "queued/r.yaml:6:10: a mapping as parameter label, expected a string"),
        (
            "  rows: 7",
            "  size: lage",
            'queued/r.yaml:6:9: the text "lage" as parameter size, expected one of small, large; did you mean "large"?',
        ),
        ("  rows: 7", "  row: 7", 'queued/r.yaml:6:3: parameter row, which workflow etl does not declare; did you mean "rows"?'),
        (
            "  day: 2026-02-03",
            "  size: large",
            "queued/r.yaml:4:1: no value for parameter day (which day), expected a date such as 2026-11-21; add it",
        ),
        ("kind: Run", "kind: Rum", 'queued/r.yaml:2:7: the text "Rum" as kind, expected Run; did you mean "Run"?'),
        ("parameters:", "params:", 'queued/r.yaml:4:1: unknown key "params" in the run; did you mean "parameters"?'),
        ("workflow: ../flows/etl.yaml", "workflow: etl.yaml", "queued/r.yaml:3:11: etl.yaml does not exist, expected a workflow file"),
        ("workflow: ../flows/etl.yaml", "metadata: {}", "queued/r.yaml:1:1: workflow is missing; add it"),
        (
            "../flows/etl.yaml",
            "../flows/jobs/load.yaml",
            "queued/r.yaml:3:11: ../flows/jobs/load.yaml holds no workflow, expected a workflow file, or a folder with one",
        ),
        ("../flows/etl.yaml", "r.yaml", "queued/r.yaml:3:11: r.yaml holds no workflow, expected a workflow file, or a folder with one"),
    ],
)
def test_a_mistake_is_told_with_its_place(old: str, new: str, expected: str) -> None:
    found = told(GOOD.replace(old, new))
    assert any(each.startswith(expected) for each in found), found


def test_mistakes_of_the_workflow_are_told_where_they_stand() -> None:
    write("flows/etl.yaml", workflow("etl", step("b"), {**step("a"), "need": ["b"]}, parameters=PARAMETERS))
    (found,) = told(GOOD.replace("rows: 7", "rows: 8"))
    assert found.startswith("flows/etl.yaml:")
    assert 'unknown key "need"' in found
    both = told(GOOD.replace("kind: Run", "kind: Rum"))
    assert [each.split(":")[0] for each in both] == ["flows/etl.yaml", "queued/r.yaml"]


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", "loop.yaml", "/", "~", "%s"])
def test_a_path_that_leads_nowhere_is_a_mistake_like_others(path: str) -> None:
    Path("queued/loop.yaml").symlink_to("loop.yaml")
    (found, *_) = told(GOOD.replace("../flows/etl.yaml", json.dumps(path)))
    assert found.startswith("queued/r.yaml:3:11: ")


def test_jobyard_s_own_labels_are_refused_here_too() -> None:
    assert any("only Jobyard writes" in each for each in told(GOOD + "metadata: {labels: {jobyard.dev/run: x}}\n"))


def test_a_second_document_is_refused() -> None:
    assert any("a second document" in each for each in told(GOOD + "---\nkind: Run\n"))


def test_a_run_of_another_tool_is_not_ours() -> None:
    assert any("holds no Job, only a Run" in each for each in told("apiVersion: tekton.dev/v1\nkind: Run\nmetadata: {name: x}\n"))


def queued(text: str) -> Any:
    Path("queued/r.yaml").write_text(text)
    return judged("queued/r.yaml")


def judged(file: str) -> Any:
    """What a queued file asks for. Raises InvalidFiles."""
    verdict = read_queued(Unread(path=str(Path(file).resolve()), root=str(Path.cwd()), policy=Policy(default_namespace="jobs")))
    if verdict.bundle is None:
        raise InvalidFiles(verdict.mistakes)
    return verdict.bundle


def test_git_reads_it_within_the_repository() -> None:
    bundle = queued(GOOD)
    assert (bundle.workflow.name, bundle.workflow.namespace, bundle.inputs) == ("etl", "jobs", {"day": "2026-02-03", "rows": 7})
    for path in ("../../etc/passwd", "/etc/passwd", "../.."):
        with pytest.raises(InvalidFiles) as refused:
            queued(GOOD.replace("../flows/etl.yaml", path))
        assert "leads out of the repository" in str(refused.value.findings[0])


def test_git_says_how_a_required_parameter_gets_a_value() -> None:
    write("queued/etl.yaml", workflow("etl", step("a"), parameters=PARAMETERS))
    with pytest.raises(InvalidFiles) as refused:
        judged("queued/etl.yaml")
    (found,) = refused.value.findings
    assert str(found).startswith("queued/etl.yaml:7:5: parameter day has no value, expected a date")
    assert "queue a file of kind Run" in str(found)
    assert "--set" not in str(found)


def test_git_knows_that_it_names_other_files_and_keeps_passwords_out_of_commits() -> None:
    assert needs_others(GOOD.encode())
    assert named([Text(path="queued/r.yaml", content=GOOD.encode())]) == ["flows/etl.yaml"]
    given = yaml.safe_load(GOOD) | {"parameters": {"db_password": "hunter2", "day": "2026-02-03"}}
    assert secrets([given]) == ["hunter2"]


def test_the_schema_for_editors_knows_both_kinds() -> None:
    validator = jsonschema_rs.validator_for(json_schema())
    good = yaml.safe_load(GOOD.replace("2026-02-03", "'2026-02-03'"))
    flow = workflow("etl", step("a"), parameters=PARAMETERS)
    assert validator.is_valid(good)
    assert validator.is_valid(flow)
    for wrong in (good | {"spec": {}}, good | {"parameters": {"a": []}}, flow | {"workflow": "x"}, {**flow, "kind": "Flow"}):
        assert not validator.is_valid(wrong)
