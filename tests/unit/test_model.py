"""The nouns: reading and rendering Jobs, names, durations, parameters, placeholders, the order of steps, the record."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.engine import home
from jobyard.engine import record as records
from jobyard.engine.decision import Write
from jobyard.model import duration, names
from jobyard.model.errors import InvalidParameter, PlaceholderUnknown
from jobyard.model.finding import did_you_mean
from jobyard.model.job import outputs, owner_reference, read, render
from jobyard.model.objects import ConfigMap, Job, Pod
from jobyard.model.parameters import Parameter, ParameterType, resolve
from jobyard.model.run import Role, RunRequest, State, StepResult
from jobyard.model.template import Template, is_whole, lookup
from jobyard.model.workflow import Retry, Step, Workflow, find_cycle, order

# --- Jobs ---


def job(*conditions: tuple[str, str], annotations: dict[str, str] | None = None, **status: Any) -> Job:
    listed = [{"type": kind, "status": value} for kind, value in conditions]
    suspend = status.pop("suspend", False)
    return msgspec.convert(
        {"metadata": {"annotations": annotations or {}}, "spec": {"suspend": suspend}, "status": {"conditions": listed, **status}}, Job
    )


@pytest.mark.parametrize(
    ("given_job", "state"),
    [
        (job(), State.PENDING),
        (job(active=1), State.PENDING),
        (job(active=1, ready=1), State.RUNNING),
        (job(("SuccessCriteriaMet", "True")), State.PENDING),
        (job(("SuccessCriteriaMet", "True"), ("Complete", "True")), State.SUCCEEDED),
        (job(("Complete", "False"), succeeded=1), State.RUNNING),
        (job(("Complete", "False"), failed=1), State.PENDING),
        (job(("FailureTarget", "True"), active=1, failed=1), State.RUNNING),
        (job(("FailureTarget", "True"), ("Failed", "True")), State.FAILED),
        (job(("Suspended", "True"), suspend=True), State.PENDING),
        (job(("Suspended", "True"), suspend=True, annotations={names.STOP: "Cancelled"}), State.CANCELLED),
        (job(("Suspended", "True"), suspend=True, annotations={names.STOP: "Timeout"}), State.FAILED),
        (job(("Suspended", "True"), suspend=True, terminating=1, annotations={names.STOP: "Timeout"}), State.PENDING),
        (job(("Suspended", "True"), ("Complete", "True"), suspend=True, annotations={names.STOP: "Cancelled"}), State.SUCCEEDED),
    ],
)
def test_conditions_become_states(given_job: Job, state: State) -> None:
    assert read(given_job).state is state


MANIFEST = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "x", "generateName": "x-", "labels": {"app": "y"}, "unknown": 1},
    "spec": {
        "ttlSecondsAfterFinished": 5,
        "unknownField": {"kept": [1, 2]},
        "template": {"spec": {"containers": [{"name": "c", "env": [{"name": "OWN", "value": "1"}]}], "initContainers": [{"name": "i"}]}},
    },
}


def test_rendering_adds_and_takes_away_only_what_it_says() -> None:
    before = copy.deepcopy(MANIFEST)
    env = [{"name": "JOBYARD_PARAM_A", "value": "v"}, {"name": "OWN", "value": "never"}]
    labels = home.job_labels("r-1", "cli", Role.STEP, "load it", 2)
    made = render(
        MANIFEST,
        name="load-it-2",
        labels=labels,
        annotations={names.STEP: "load it"},
        pod_labels=labels,
        owner=owner_reference("r-1", "u"),
        env=env,
        owns_retries=True,
    )
    assert before == MANIFEST, "the author's tree is not touched"
    assert made["metadata"]["name"] == "load-it-2"
    assert "generateName" not in made["metadata"]
    assert made["metadata"]["labels"] == {**made["spec"]["template"]["metadata"]["labels"], "app": "y"}
    assert made["metadata"]["annotations"] == {names.STEP: "load it", names.TTL: "5"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert made["metadata"]["unknown"] == 1
    assert made["spec"]["unknownField"] == {"kept": [1, 2]}
    assert "ttlSecondsAfterFinished" not in made["spec"]
    assert made["spec"]["backoffLimit"] == 0
    pod = made["spec"]["template"]["spec"]
    assert pod["containers"][0]["env"] == [{"name": "JOBYARD_PARAM_A", "value": "v"}, {"name": "OWN", "value": "1"}]
    assert pod["initContainers"][0]["env"] == env


@pytest.mark.parametrize("owner", [None, owner_reference("r-1", "u")], ids=["the Job home", "the ConfigMap home"])
def test_a_job_goes_with_its_run_and_with_nobody_else(owner: dict[str, Any] | None) -> None:
    """An owner that the manifest names (it was copied from a CronJob's) would take the Job with it while its run goes on."""
    stranger = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "c", "controller": True}
    written = {**MANIFEST, "metadata": {"name": "x", "ownerReferences": [stranger]}}
    made = render(written, name="x", labels={}, annotations={}, pod_labels={}, owner=owner)
    assert made["metadata"].get("ownerReferences") == ([owner] if owner else None)
    assert written["metadata"] == {"name": "x", "ownerReferences": [stranger]}, "the author's tree is not touched"


def pod(message: str, phase: str = "Succeeded", finished: str = "2026-01-01T00:00:00Z") -> Pod:
    state = {"terminated": {"exitCode": 0, "message": message, "finishedAt": finished}}
    return msgspec.convert({"metadata": {}, "status": {"phase": phase, "containerStatuses": [{"name": "c", "state": state}]}}, Pod)


def test_outputs_are_the_json_object_of_the_last_pod_that_succeeded() -> None:
    assert outputs([pod('{"a": 1}'), pod('{"a": 2}', finished="2026-01-02T00:00:00Z"), pod('{"a": 3}', phase="Failed")]) == {"a": 2}
    assert outputs([pod("done"), pod("[1]"), pod("{broken"), pod("")]) is None


# --- names ---


@given(st.text(min_size=1, max_size=300), st.text(max_size=300), st.integers(1, 100))
def test_names_are_always_valid_short_enough_and_apart(run: str, step: str, attempt: int) -> None:
    name = names.job_name(run, "step", step, attempt)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= names.JOB_NAME_LIMIT
    assert (
        len(
            {
                name,
                names.job_name(run, "revert", step, attempt),
                names.job_name(run, "step", step, attempt + 1),
                names.job_name(run, "step", step + "x", attempt),
            }
        )
        == 4
    )
    assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", names.label_value(step))
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", names.record_key("step", step))


def test_the_same_key_gives_the_same_names_also_tomorrow() -> None:
    assert names.run_id("git", "k") == "itmvwtdlahzi6q4x"
    assert names.run_id("git", "k") != names.run_id("amqp", "k")
    assert names.run_id("a", "bc") != names.run_id("ab", "c")
    assert names.key_sha256("a", "bc") != names.key_sha256("ab", "c")


def test_a_run_is_the_same_whatever_its_workflow_is_called() -> None:
    one, other = (RunRequest(trigger="git", key="k", workflow=Workflow(name=name, steps=())) for name in ("etl", "renamed"))
    assert one.run_id == other.run_id
    assert one.prefix != other.prefix


@given(st.text(max_size=100), st.text(max_size=100), st.text(max_size=100))
def test_a_run_is_known_by_its_id_and_by_the_name_of_its_record(workflow: str, trigger: str, key: str) -> None:
    run = names.run_id(trigger, key)
    assert re.fullmatch(r"[a-z2-7]{16}", run)
    for each in (run, f"{run}-2"):
        name = names.record(names.prefix(workflow), each)
        assert len(name) <= names.JOB_NAME_LIMIT
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
        assert names.read_run(name) == names.read_run(each) == each


@pytest.mark.parametrize(
    "text",
    [
        "",
        "etl",
        "a" * 15,
        "a" * 16 + "-123",
        "7edpc5y6mzzj5ci1",
        "etl_7edpc5y6mzzj5cib",
        "-7edpc5y6mzzj5cib",
        "etl-7edpc5y6mzzj5cib\n",
        "../7edpc5y6mzzj5cib",
        "ETL-7edpc5y6mzzj5cib",
        "x" * 100_000 + "-7edpc5y6mzzj5cib",
        "a,b=c-7edpc5y6mzzj5cib",
        "é-7edpc5y6mzzj5cib",
    ],
)
def test_what_is_no_run_is_asked_of_nobody(text: str) -> None:
    assert names.read_run(text) is None
    assert len(names.shown(text)) < 110
    assert names.shown(text).isprintable()


def test_triggers_whose_names_look_alike_do_not_share_a_label() -> None:
    assert names.label_value("orders-eu") == "orders-eu"
    assert names.label_value("orders/eu") not in ("orders-eu", names.label_value("orders eu"))


# --- durations, parameters, placeholders ---


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400), ("2 d", 172800), ("250ms", 0.25)])
def test_durations(text: str, seconds: float) -> None:
    assert duration.parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "five minutes", "1w", "-3s", "3s x", "9" * 400 + "d", "36501d", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        duration.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (1.26, "1.3s"), (59.4, "59s"), (185, "3m05s"), (7800, "2h10m"), (273600, "3d4h")]
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert duration.show(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("kind", "given_value", "value"),
    [
        (ParameterType.STRING, 5, "5"),
        (ParameterType.INTEGER, "42", 42),
        (ParameterType.NUMBER, "4.5", 4.5),
        (ParameterType.NUMBER, 3, 3),
        (ParameterType.BOOLEAN, "yes", True),
        (ParameterType.BOOLEAN, "FALSE", False),
        (ParameterType.DATE, "2026-02-28", "2026-02-28"),
        (ParameterType.CHOICE, "b", "b"),
    ],
)
def test_values_are_read_by_type(kind: ParameterType, given_value: object, value: object) -> None:
    assert Parameter(name="p", type=kind, choices=("a", "b")).read(given_value) == value


@pytest.mark.parametrize(
    ("kind", "given_value"),
    [
        (ParameterType.INTEGER, "4.2"),
        (ParameterType.INTEGER, True),
        (ParameterType.INTEGER, "9" * 4000),
        (ParameterType.NUMBER, "nan"),
        (ParameterType.NUMBER, "x"),
        (ParameterType.BOOLEAN, "maybe"),
        (ParameterType.DATE, "2026-02-30"),
        (ParameterType.CHOICE, "c"),
    ],
)
def test_wrong_values_are_refused(kind: ParameterType, given_value: object) -> None:
    with pytest.raises(InvalidParameter):
        Parameter(name="p", type=kind, choices=("a", "b")).read(given_value)


def test_every_parameter_gets_a_value() -> None:
    asked = [Parameter(name="a"), Parameter(name="b", default=3, type=ParameterType.INTEGER), Parameter(name="c", required=True)]
    assert resolve(asked, {"c": "x"}) == {"a": "", "b": 3, "c": "x"}
    with pytest.raises(InvalidParameter, match="parameter c: no value"):
        resolve(asked, {})
    with pytest.raises(InvalidParameter, match="not declared"):
        resolve(asked, {"c": "x", "d": "y"})
    assert Parameter(name="my-day").env_name == "JOBYARD_PARAM_MY_DAY"


def test_placeholders_are_looked_up_and_nothing_is_evaluated() -> None:
    value = lookup({"a": 1, "evil": "{{ params.a }}; rm -rf /"}, {"load": {"rows": [1, {"x": None}]}})
    tree = Template(
        {
            "one": "{{params.a}}",
            "two": "<{{ params.evil }}>",
            "three": ["{{ steps.load.outputs.rows }}"],
            "{{ params.a }}": "{{ other }} {{ .Go }}",
        }
    )
    assert tree.fill(value) == {
        "one": "1",
        "two": "<{{ params.a }}; rm -rf />",
        "three": ['[1,{"x":null}]'],
        "{{ params.a }}": "{{ other }} {{ .Go }}",
    }
    assert Template({"n": "{{ params.a }}"}, (("n",),)).fill(value) == {"n": 1}
    for unknown in ("params.b", "steps.load.outputs.none", "steps.other.outputs.rows", "steps.load.rows"):
        with pytest.raises(PlaceholderUnknown):
            value(unknown)
    assert is_whole(" {{ params.a }} ")
    assert not is_whole("x{{ params.a }}")


# --- order ---


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefgh"), max_size=4), max_size=8))
def test_order_and_cycle_tell_the_same(needs: dict[str, list[str]]) -> None:
    known = {name: [need for need in wanted if need in needs] for name, wanted in needs.items()}
    cycle = find_cycle(known)
    ordered = order(known)
    assert bool(cycle) == (len(ordered) < len(known))
    for name in ordered:
        assert all(ordered.index(need) < ordered.index(name) for need in known[name])
    for earlier, later in pairwise(cycle):
        assert later in known[earlier], "each needs the next"
    assert not cycle or cycle[0] == cycle[-1]


def test_hints() -> None:
    assert did_you_mean("backofLimit", ["backoffLimit", "completions"]) == 'did you mean "backoffLimit"?'
    assert did_you_mean("refreshtime", ["refresh_time"]) == 'did you mean "refresh_time"?'
    assert did_you_mean("xyz", ["abc"]) == ""


# --- the record ---


def _flow(record: ConfigMap, parts: Mapping[str, ConfigMap] | None = None) -> Workflow | None:
    stored = records.stored(record, parts)
    return stored.workflow if stored else None


def test_a_record_says_what_was_written_and_survives_damage() -> None:
    flow = Workflow(
        name="w",
        steps=(Step(name="a b", job=Template({"x": 1}, (("x",),)), retry=Retry(limit=1), timeout=timedelta(seconds=90)),),
        values={"d": "1"},
    )
    request = RunRequest(trigger="cli", key="k", workflow=flow)
    tree = records.write(request, request.run_id, records.pack(request))
    tree["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "u"}
    result = StepResult(state=State.SUCCEEDED, attempt=2, job="j", finished=datetime(2026, 1, 1, tzinfo=UTC), outputs={"n": 1})
    both = {(Role.STEP, "a b"): result, (Role.REVERT, "a b"): result}
    known = msgspec.convert(tree, ConfigMap)
    own = records.pages(both, known, flow)[known.metadata.name]
    end = datetime(2026, 1, 2, tzinfo=UTC)
    patch = records.change(Write(results=both, state=State.FAILED, reason="StepFailed", finished=end), own, known)
    assert patch is not None
    assert patch["metadata"]["resourceVersion"] == known.metadata.resource_version
    tree["data"] = patch["data"]
    tree["metadata"]["labels"] |= patch["metadata"]["labels"]
    tree["metadata"]["annotations"] |= patch["metadata"]["annotations"]
    stored = msgspec.convert(tree, ConfigMap)
    assert _flow(stored) == flow
    assert records.results(stored) == {(Role.STEP, "a b"): result, (Role.REVERT, "a b"): result}
    assert home.end(stored) == home.End(state=State.FAILED, reason="StepFailed", finished=end)
    tree["metadata"]["labels"] |= {names.STATE: "done"}
    damaged = msgspec.convert({**tree, "binaryData": {"workflow": "AAAA"}, "data": {"run": "{", "step.x": "?"}}, ConfigMap)
    assert (_flow(damaged), home.end(damaged), dict(records.results(damaged))) == (None, None, {})


def test_a_thousand_steps_fit_a_record_and_too_many_are_refused() -> None:
    template = Template(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "spec": {"template": {"spec": {"containers": [{"name": "c", "command": ["echo", "x" * 200]}]}}},
        }
    )
    flow = Workflow(name="w", steps=tuple(Step(name=f"s{i}", job=template) for i in range(1000)))
    packed = records.pack(RunRequest(trigger="t", key="k", workflow=flow))
    assert [len(each) < 50_000 for each in packed] == [True]
    import random

    noise = random.Random(1).randbytes(records.PARTS_LIMIT * records.PART_SIZE).hex()
    big = Workflow(name="w", steps=(Step(name="s", job=Template({"x": noise})),))
    with pytest.raises(records.WorkflowTooLarge, match="Split it"):
        records.pack(RunRequest(trigger="t", key="k", workflow=big))


def test_a_record_is_spread_when_it_is_large() -> None:
    import random

    noise = random.Random(1)
    steps = tuple(Step(name=f"s{i}", job=Template({"x": noise.randbytes(1000).hex()})) for i in range(2000))
    flow = Workflow(name="w", steps=steps)
    packed = records.pack(RunRequest(trigger="t", key="k", workflow=flow))
    assert len(packed) > 1
    request = RunRequest(trigger="t", key="k", workflow=flow)
    stamp = {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    tree = records.write(request, request.run_id, packed)
    known = msgspec.convert({**tree, "metadata": tree["metadata"] | stamp}, ConfigMap)
    parts = {
        each["metadata"]["name"]: msgspec.convert(each, ConfigMap)
        for each in (records.part(known, number, part) for number, part in enumerate(packed[1:], start=1))
    }
    assert list(parts) == records.part_names(known)
    assert _flow(known, parts) == flow
    assert _flow(known) is None, "a part is missing"
    result = StepResult(state=State.SUCCEEDED, message="m" * 1000, outputs={"o": "x" * 4000})
    texts = records.pages({(Role.STEP, step.name): result for step in steps}, known, flow)
    assert all(sum(map(len, data.values())) < 1_000_000 for data in texts.values())
    assert sum(map(len, texts.values())) == 2000


def test_a_process_that_is_behind_does_not_call_a_run_running_that_has_ended() -> None:
    """The state is written onto the version that was known, or not at all; results are written in any case."""
    request = RunRequest(trigger="t", key="k", workflow=Workflow(name="w", steps=(Step(name="a", job=Template({})),)))
    tree = records.write(request, request.run_id, records.pack(request))
    tree["metadata"]["resourceVersion"] = "7"
    began = records.change(Write(results={}), {}, msgspec.convert(tree, ConfigMap))
    assert began == {"metadata": {"labels": {names.STATE: "running"}, "resourceVersion": "7"}, "data": {}}
    tree["metadata"]["labels"][names.STATE] = "running"
    running = msgspec.convert(tree, ConfigMap)
    assert records.change(Write(results={}), {"step.a": "{}"}, running) == {"data": {"step.a": "{}"}}
    assert records.change(Write(results={}), {}, running) is None
