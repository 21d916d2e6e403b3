"""A run that is one Job once more: what its record hides is taken from the Job itself."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from jobyard.engine import home
from jobyard.engine.rerun import reveal
from jobyard.model.errors import CannotRerun
from jobyard.model.objects import Manifest
from jobyard.model.template import Path
from jobyard.model.workflow import Workflow
from tests.unit.samples import flow, job_record, manifest, request

ENV: Path = ("spec", "template", "spec", "containers", 0, "env", 1, "value")
ARGUMENT: Path = ("spec", "template", "spec", "containers", 0, "args", 1)
WRITTEN = manifest(
    containers=[
        {"name": "main", "args": ["--token", "canary-2"], "env": [{"name": "PLAIN", "value": "p"}, {"name": "PAYLOAD", "value": "canary"}]}
    ]
)


def remembered() -> tuple[Workflow, Manifest]:
    """What the record of such a run says, and its live Job's specification."""
    asked = request(workflow=flow(WRITTEN), literals=(ENV, ARGUMENT))
    stored, made = home.stored(job_record(asked)), home.write_job(asked, asked.run_id)
    assert stored is not None
    assert made is not None
    return stored.workflow, copy.deepcopy(made["spec"])


def pod(spec: Manifest) -> Any:
    return spec["template"]["spec"]


def test_hidden_values_are_taken_from_the_live_job() -> None:
    workflow, spec = remembered()
    assert "canary" not in str(workflow)
    found, literals = reveal(workflow, spec, "etl-1")
    assert found == flow(WRITTEN)
    assert set(literals) == {ENV, ARGUMENT}, "the new run hides them again"
    assert "canary" not in str(workflow), "the old one is not touched"


def test_hidden_values_are_found_when_others_were_put_before_them() -> None:
    workflow, spec = remembered()
    pod(spec)["containers"].insert(0, {"name": "sidecar", "args": ["x", "y"], "env": [{"name": "PAYLOAD", "value": "wrong"}]})
    pod(spec)["containers"][1]["env"].insert(0, {"name": "INJECTED", "value": "wrong"})
    assert reveal(workflow, spec, "etl-1")[0] == flow(WRITTEN)


def without(spec: Manifest, *path: Any) -> Manifest:
    tree = spec
    for part in path[:-1]:
        tree = tree[part]
    del tree[path[-1]]
    return spec


@pytest.mark.parametrize(
    "path",
    [
        ("template",),
        ("template", "spec", "containers", 0),
        ("template", "spec", "containers", 0, "env"),
        ("template", "spec", "containers", 0, "env", 1),
        ("template", "spec", "containers", 0, "env", 1, "value"),
        ("template", "spec", "containers", 0, "args", 1),
    ],
)
def test_a_run_whose_hidden_values_are_gone_cannot_be_run_again(path: tuple[Any, ...]) -> None:
    workflow, spec = remembered()
    with pytest.raises(CannotRerun, match=r"run etl-1 .* is gone\. Send the message again"):
        reveal(workflow, without(spec, *path), "etl-1")


def test_another_variables_value_is_never_taken_for_one_that_is_gone() -> None:
    workflow, spec = remembered()
    pod(spec)["containers"][0]["env"][1] = {"name": "OTHER", "value": "wrong"}
    with pytest.raises(CannotRerun):
        reveal(workflow, spec, "etl-1")


def test_a_value_that_the_live_job_hides_too_is_gone() -> None:
    workflow, spec = remembered()
    pod(spec)["containers"][0]["env"][1]["value"] = home.HIDDEN
    with pytest.raises(CannotRerun):
        reveal(workflow, spec, "etl-1")


def test_a_run_that_hides_nothing_is_run_again_as_it_was_asked() -> None:
    assert reveal(flow(WRITTEN), {}, "etl-1") == (flow(WRITTEN), ())
