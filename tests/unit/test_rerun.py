"""A run once more: from where it failed; and of one that is a Job, what its record hides is taken from the Job itself."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from jobyard.engine import job_home
from jobyard.engine.home import StoredRequest
from jobyard.engine.rerun import rerun, reveal
from jobyard.model.errors import CannotRerun, NothingFailed
from jobyard.model.objects import Manifest
from jobyard.model.run import Reason, Role, RunView, State, StepView
from jobyard.model.template import Path, Template
from jobyard.model.workflow import Step, When, Workflow
from tests.unit.samples import NOW, flow, job_record, manifest, request

ENV: Path = ("spec", "template", "spec", "containers", 0, "env", 1, "value")
ARGUMENT: Path = ("spec", "template", "spec", "containers", 0, "args", 1)
WRITTEN = manifest(
    containers=[
        {"name": "main", "args": ["--token", "canary-2"], "env": [{"name": "PLAIN", "value": "p"}, {"name": "PAYLOAD", "value": "canary"}]}
    ]
)


def remembered(written: Manifest = WRITTEN, *literals: Path) -> tuple[StoredRequest, Manifest]:
    """What the record of such a run says, and its live Job's specification."""
    asked = request(workflow=flow(written), literals=literals or (ENV, ARGUMENT))
    stored, made = job_home.stored(job_record(asked)), job_home.write_job(asked, asked.run_id)
    assert stored is not None
    assert made is not None
    return stored, copy.deepcopy(made["spec"])


def revealed(stored: StoredRequest, spec: Manifest) -> Workflow:
    return reveal(stored.workflow, stored.literals, spec, "etl-1")


def pod(spec: Manifest) -> Any:
    return spec["template"]["spec"]


def test_hidden_values_are_taken_from_the_live_job() -> None:
    stored, spec = remembered()
    assert "canary" not in str(stored)
    assert revealed(stored, spec) == flow(WRITTEN)
    assert stored.literals == (ENV, ARGUMENT), "the new run hides them again"
    assert "canary" not in str(stored), "the old one is not touched"


def test_hidden_values_are_found_when_others_were_put_before_them() -> None:
    stored, spec = remembered()
    pod(spec)["containers"].insert(0, {"name": "sidecar", "args": ["x", "y"], "env": [{"name": "PAYLOAD", "value": "wrong"}]})
    pod(spec)["containers"][1]["env"].insert(0, {"name": "INJECTED", "value": "wrong"})
    assert revealed(stored, spec) == flow(WRITTEN)


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
    stored, spec = remembered()
    with pytest.raises(CannotRerun, match=r"run etl-1 .* are gone\. Send the message again"):
        revealed(stored, without(spec, *path))


def test_another_variables_value_is_never_taken_for_one_that_is_gone() -> None:
    stored, spec = remembered()
    pod(spec)["containers"][0]["env"][1] = {"name": "OTHER", "value": "wrong"}
    with pytest.raises(CannotRerun):
        revealed(stored, spec)


STARS = manifest({"name": "PATTERN", "value": job_home.HIDDEN}, {"name": "PAYLOAD", "value": "canary"})
STARS["metadata"] |= {"annotations": {"note": job_home.HIDDEN}}
PAYLOAD: Path = ("spec", "template", "spec", "containers", 0, "env", 1, "value")


def test_an_authors_own_stars_are_what_he_wrote() -> None:
    """The API server, or whoever mutates Jobs, may keep them where we would not look for them."""
    stored, spec = remembered(STARS, PAYLOAD)
    del pod(spec)["containers"][0]["env"][0]
    assert stored.literals == (PAYLOAD,)
    assert revealed(stored, spec) == flow(STARS)


def test_a_message_of_stars_is_a_message() -> None:
    written = manifest({"name": "PATTERN", "value": "p"}, {"name": "PAYLOAD", "value": job_home.HIDDEN})
    assert revealed(*remembered(written, PAYLOAD)) == flow(written)


def test_a_hidden_value_beside_the_template_is_taken_from_the_specification_too() -> None:
    written = manifest(spec={"managedBy": "canary.example/x"})
    stored, spec = remembered(written, ("spec", "managedBy"))
    assert "canary" not in str(stored)
    assert revealed(stored, spec) == flow(written)


def test_a_hidden_value_outside_the_specification_is_not_to_be_had() -> None:
    stored, spec = remembered(STARS, ("metadata", "annotations", "note"))
    with pytest.raises(CannotRerun, match="are gone"):
        revealed(stored, spec)


def test_a_literal_that_the_manifest_has_no_place_for_is_none() -> None:
    assert remembered(WRITTEN, ENV, ("spec", "nowhere", 3), (*ENV[:-2], 9))[0].literals == (ENV,)


@pytest.mark.parametrize("path", [(), ("spec",), ("spec", "nowhere"), (*ENV[:-2], -1, "value"), (*ENV[:-2], 9, "value"), (*ENV, "x"), (0,)])
def test_literals_that_somebody_wrote_into_the_annotation_end_in_a_sentence(path: Path) -> None:
    stored, spec = remembered()
    with pytest.raises(CannotRerun):
        revealed(msgspec.structs.replace(stored, literals=(path,)), spec)


def test_a_run_that_hides_nothing_is_run_again_as_it_was_asked() -> None:
    assert reveal(flow(WRITTEN), (), {}, "etl-1") == flow(WRITTEN)


# --- from where it failed ---


def node(name: str, *needs: str, when: When = When.SUCCEEDED, gate: bool = False) -> Step:
    return Step(name=name, job=None if gate else Template(manifest()), needs=needs, when=when)


def reused(steps: list[Step], ended: dict[str, str], *reverted: str) -> set[str]:
    """Which steps' results a run from where it failed takes over. `ended`: each step's end, or why it was skipped."""

    def view(name: str, end: str) -> StepView:
        state = State(end) if end in list(State) else State.SKIPPED
        return StepView(name=name, state=state, reason=end if state is State.SKIPPED else "")

    views = [view(name, end) for name, end in ended.items()]
    views += [StepView(name=name, role=Role.REVERT, state=State.SUCCEEDED, job="j") for name in reverted]
    seen = RunView(id="i", name="etl-i", workflow="etl", namespace="n", trigger="cli", state=State.FAILED, started=NOW, steps=tuple(views))
    return {name for _, name in rerun(Workflow(name="etl", steps=tuple(steps)), seen, "k", failed_only=True).carried}


ALARM = node("alarm", "load", when=When.FAILED)


def test_an_alarm_is_raised_anew_when_what_it_watches_runs_anew() -> None:
    steps = [node("extract"), node("load", "extract"), ALARM, node("tidy", "load", "extract", when=When.ALWAYS)]
    assert reused(steps, {"extract": "succeeded", "load": "failed", "alarm": "succeeded", "tidy": "succeeded"}) == {"extract"}


def test_what_comes_after_an_alarm_or_a_gate_runs_anew_with_it() -> None:
    steps = [node("load"), node("part/a", "load", when=When.ALWAYS), node("part", "part/a", gate=True), node("tell", "part")]
    assert reused(steps, {"load": "failed", "part/a": "succeeded", "tell": "succeeded"}) == set()


def test_an_alarm_that_watches_what_stands_is_not_raised_again() -> None:
    steps = [node("load"), ALARM, node("tidy", "load", "alarm", when=When.ALWAYS), node("other")]
    ended = {"load": "succeeded", "alarm": Reason.NOT_NEEDED, "tidy": "succeeded", "other": "failed"}
    assert reused(steps, ended) == {"load", "tidy"}


def test_what_was_reverted_runs_anew_and_so_does_what_needs_it() -> None:
    steps = [node("make"), node("fill", "make"), node("all/a"), node("all/b"), node("all", "all/a", "all/b", gate=True), node("bad")]
    ended = dict.fromkeys(("make", "fill", "all/a", "all/b"), "succeeded") | {"bad": "failed"}
    assert reused(steps, ended, "make") == {"all/a", "all/b"}
    assert reused(steps, ended, "all") == {"make", "fill"}, "a folder is reverted as a whole"


def test_there_is_nothing_to_run_again_where_each_step_succeeded_or_had_no_turn() -> None:
    with pytest.raises(NothingFailed):
        reused([node("load"), ALARM], {"load": "succeeded", "alarm": Reason.NOT_NEEDED})
