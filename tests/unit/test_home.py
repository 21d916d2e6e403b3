"""The two homes of a run's record: which runs are one Job, what that Job bears, and what is read of it, whoever has been at it."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.engine import home, job_home
from jobyard.engine import record as records
from jobyard.model import names
from jobyard.model.job import hand_back_ttl, outputs
from jobyard.model.objects import ConfigMap, Job, Manifest, Metadata, Other, Pod
from jobyard.model.parameters import Parameter
from jobyard.model.run import Role, RunRequest, State, StepResult
from jobyard.model.template import Template
from jobyard.model.workflow import Cleanup, Retry, When
from tests.unit.samples import COMPLETE, NOW, SECOND, changed, flow, job_record, manifest, map_record, request, served, stopped

RUN = request().run_id
SECRET = f"payload-{RUN}"


def with_step(**changes: Any) -> RunRequest:
    asked = request()
    return replace(asked, workflow=replace(asked.workflow, steps=(replace(asked.workflow.steps[0], **changes),)))


def secret(name: str = SECRET, kind: str = "Secret", **more: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **more}


def beside(thing: Manifest, **pod: Any) -> RunRequest:
    return request(workflow=flow(manifest(**pod)), objects=(thing,))


def variable(name: str = SECRET, **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "main", "env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": name, "key": "v", **more}}}]}]}


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


# --- which home ---


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        with_step(timeout=timedelta(hours=1), start_timeout=timedelta(minutes=1)),
        request(workflow=flow(timeout=timedelta(hours=1), max_runs=3, limits=("gpu",), retention=timedelta(days=1))),
        with_step(when=When.ALWAYS),
        with_step(job=Template(manifest({"name": "A", "value": "{{ params.day }}"}), literal=True)),
        beside(secret(), **variable()),
        beside(secret(), **volume(secret={"secretName": SECRET})),
        beside(secret(), **volume(projected={"sources": [{"secret": {"name": SECRET}}]})),
        beside(secret(), containers=[{"name": "main", "envFrom": [{"secretRef": {"name": SECRET}}]}]),
        beside(secret(kind="ConfigMap"), **volume(configMap={"name": SECRET})),
    ],
)
def test_one_step_that_starts_at_once_is_one_job(asked: RunRequest) -> None:
    assert job_home.is_plain(asked)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(request(workflow=flow(manifest(), manifest())), id="two steps"),
        pytest.param(with_step(job=None), id="a gate"),
        pytest.param(with_step(retry=Retry(limit=1)), id="retry"),
        pytest.param(with_step(revert=Template(manifest())), id="revert"),
        pytest.param(with_step(when=When.FAILED), id="when failed"),
        pytest.param(with_step(limits=("gpu",)), id="a limit of the step"),
        pytest.param(with_step(job=Template(manifest({"name": "A", "value": "{{ params.day }}"}))), id="placeholders"),
        pytest.param(request(workflow=flow(parameters=(Parameter(name="day"),))), id="parameters"),
        pytest.param(request(carried={(Role.STEP, "s0"): StepResult(state=State.SUCCEEDED)}), id="carried"),
        pytest.param(request(held=True), id="held"),
        pytest.param(request(workflow=flow(keeps_names=True)), id="keeps names"),
        pytest.param(request(workflow=flow(look_every=SECOND)), id="look every"),
        pytest.param(request(workflow=flow(cleanup=Cleanup.SUCCEEDED)), id="cleanup when succeeded"),
        pytest.param(request(workflow=flow(cleanup=Cleanup.ALWAYS)), id="cleanup always"),
        pytest.param(beside(secret("payload"), **variable("payload")), id="a name that may be another's"),
        pytest.param(beside(secret()), id="no pod waits for it"),
        pytest.param(beside(secret(), **variable(optional=True)), id="a pod needs it only if it is there"),
        pytest.param(beside(secret(), **volume(secret={"secretName": SECRET, "optional": True})), id="a volume that may be empty"),
        pytest.param(beside(secret(kind="ConfigMap"), **variable()), id="another kind of the same name"),
        pytest.param(beside(secret(kind="Service"), **variable()), id="a kind that no pod waits for"),
        pytest.param(beside(secret(apiVersion="example.com/v1"), **variable()), id="another group's Secret"),
        pytest.param(beside(secret(), imagePullSecrets=[{"name": SECRET}]), id="what only the pull needs"),
    ],
)
def test_everything_else_has_a_config_map(asked: RunRequest) -> None:
    assert not job_home.is_plain(asked)


# --- what is written ---


def test_literals_are_in_the_job_and_hidden_in_what_is_remembered_of_it() -> None:
    asked = request(
        workflow=flow(manifest({"name": "PAYLOAD", "value": "canary"})),
        literals=(("spec", "template", "spec", "containers", 0, "env", 0, "value"), ("spec", "nowhere", 3)),
    )
    made = job_home.write_job(asked, asked.run_id)
    assert made is not None
    assert made["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "PAYLOAD", "value": "canary"}]
    assert "canary" not in str(made["metadata"])
    stored = job_home.stored(job_record(asked))
    assert stored is not None
    (step,) = stored.workflow.steps
    assert step.job is not None
    assert step.job.manifest["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "PAYLOAD", "value": job_home.HIDDEN}]


def test_what_a_job_remembers_is_what_was_asked() -> None:
    asked = request(workflow=flow(timeout=timedelta(hours=1), retention=timedelta(days=2)), origin={"queue": "orders"})
    seen = job_record(asked)
    stored = job_home.stored(seen)
    assert stored is not None
    assert stored.workflow == asked.workflow
    run = home.read(seen, "n")
    assert (run.id, run.name, run.trigger, run.key, run.workflow) == (asked.run_id, f"etl-{asked.run_id}", "amqp", "k", "etl")
    assert (run.origin, run.state, run.released, home.retention(seen)) == ({"queue": "orders"}, State.PENDING, False, timedelta(days=2))
    assert home.same_request(seen, asked)
    assert not home.same_request(seen, request("other"))


def test_both_homes_say_the_same_in_the_same_words() -> None:
    asked = request(workflow=flow(max_runs=1))
    job, config_map = job_record(asked, "u"), map_record(asked, "u")
    assert home.read(job, "n") == replace(home.read(config_map, "n"), reason="WaitingForPod")
    assert home.scopes(job) == home.scopes(config_map) == ["namespace", "workflow/etl"]


def test_a_job_that_would_have_to_bear_too_much_is_no_record() -> None:
    def sized(size: int) -> RunRequest:
        return request(workflow=flow(manifest({"name": "A", "value": "x" * size})))

    assert job_home.write_job(sized(90_000), RUN) is not None
    assert job_home.write_job(sized(100_000), RUN) is None
    heavy = manifest()
    heavy["metadata"]["annotations"] = {"author": "ä" * 49_000}
    assert job_home.write_job(request(workflow=flow(heavy)), RUN) is None, "the author's own annotations count, by their bytes"


def test_the_ids_that_are_tried_are_apart_and_found_in_names() -> None:
    tried = home.ids(request())
    assert (tried[0], tried[1], len(set(tried))) == (RUN, f"{RUN}-2", home.SUFFIXES)
    assert all(names.read_run(names.record("etl", each)) == each for each in tried)


# --- state, end, release ---


def patched(seen: Any, change: Manifest) -> Any:
    """The object after a merge patch of its metadata."""
    metadata = change["metadata"]
    return changed(seen, labels=metadata.get("labels"), annotations=metadata.get("annotations"))


def test_a_job_that_is_not_released_stands_as_its_own_status_says() -> None:
    forged = changed(job_record(request()), labels={names.STATE: "failed"}, annotations={names.FINISHED: NOW.isoformat()})
    assert home.end(forged) is None
    done = job_record(request(), status=COMPLETE)
    assert home.end(done) == home.End(state=State.SUCCEEDED, finished=NOW)
    assert home.read(done, "n").state is State.SUCCEEDED


def test_a_release_keeps_the_end_whatever_becomes_of_the_job() -> None:
    for done in (job_record(request(), status=COMPLETE), map_record(request())):
        end = home.End(state=State.SUCCEEDED, finished=NOW)
        seen = patched(done, home.release(done, end, NOW + timedelta(hours=30)))
        assert names.OPEN not in seen.metadata.labels
        assert (seen.metadata.labels[names.ENDED], seen.metadata.labels[names.STATE]) == ("2026-01-01", "succeeded")
        assert home.end(seen) == end
        assert home.read(seen, "n").released
        assert home.end(Other(metadata=seen.metadata)) == end, "by metadata alone"


def test_the_ttl_is_handed_back_counted_from_the_release() -> None:
    done = job_record(request(workflow=flow(manifest(spec={"ttlSecondsAfterFinished": 60}))), status=COMPLETE)
    assert done.metadata.annotations[names.TTL] == "60"
    late = NOW + timedelta(hours=1, milliseconds=1)
    change = home.release(done, home.End(state=State.SUCCEEDED, finished=NOW), late)
    assert change["spec"] == {"ttlSecondsAfterFinished": 3601 + 60}
    assert change["metadata"]["annotations"][names.TTL] is None
    assert names.EXPIRING not in change["metadata"]["labels"]
    early = home.release(done, home.End(state=State.SUCCEEDED, finished=NOW), NOW - timedelta(minutes=5))
    assert early["spec"] == {"ttlSecondsAfterFinished": 60}, "a clock that is behind takes nothing away"
    assert "spec" not in home.release(job_record(request(), status=COMPLETE), home.End(state=State.SUCCEEDED, finished=NOW), late)


def test_a_job_that_we_stopped_is_ours_to_delete_when_its_ttl_is_over() -> None:
    job = job_record(request(workflow=flow(manifest(spec={"ttlSecondsAfterFinished": 60}))))
    ended = stopped(job, "Timeout", 2)
    end = home.end(ended)
    assert end == home.End(state=State.FAILED, reason="Timeout", finished=NOW)
    change = home.release(ended, end, NOW + timedelta(hours=1))
    assert "spec" not in change
    assert change["metadata"]["labels"][names.EXPIRING] == "true"
    seen = patched(ended, change)
    assert seen.metadata.annotations[names.DELETE_AT] == (NOW + timedelta(hours=1, seconds=60)).isoformat()
    assert names.TTL not in seen.metadata.annotations
    assert home.end(seen) == end


# --- what others have been at ---


def test_a_copy_that_somebody_made_under_another_name_is_no_record() -> None:
    for record in (job_record(request()), map_record(request())):
        assert home.is_record(record)
        for name in (f"{record.metadata.name}-copy", f"copy-{record.metadata.name}", f"other-{RUN}", f"{record.metadata.name}-2", "x", ""):
            assert not home.is_record(changed(record, name=name, uid="copy")), name
        assert not home.is_record(changed(record, labels={names.RUN: None}))
        assert not home.is_record(changed(record, labels={names.ROLE: "step"}))


SPELLED = [value for key, value in vars(names).items() if key.isupper() and isinstance(value, str) and value.startswith("jobyard.dev/")]
TIMES = ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2026-01-01", "2026-01-01T00:00:00+25:00"]
TEXTS = st.one_of(st.text(), st.sampled_from([*TIMES, "²", "9" * 30, "-1", "{", "[]", "null", "succeeded", RUN, "true", "{}", '{"a": 1}']))
BY_HAND = st.dictionaries(st.one_of(st.sampled_from(SPELLED), st.text()), TEXTS)


@given(BY_HAND, BY_HAND, st.booleans())
def test_whatever_stands_in_labels_and_annotations_is_read_without_a_fault(labels: Any, annotations: Any, own: bool) -> None:
    metadata = Metadata(name=f"etl-{RUN}", uid="u", labels=labels, annotations=annotations)
    stop = msgspec.convert(served({"metadata": {}, "spec": {"suspend": own}}, "u"), Job)
    seen: list[Any] = [ConfigMap(metadata=metadata), Other(metadata=metadata), msgspec.structs.replace(stop, metadata=metadata)]
    for each in seen:
        home.is_record(each)
        home.scopes(each)
        home.retention(each)
        home.same_request(each, request())
        run = home.read(each, "n")
        assert (home.end(each) is not None) == run.state.is_end
        if isinstance(each, Job):
            job_home.stored(each)
            hand_back_ttl(each, run.finished, NOW)
        if not isinstance(each, Other):
            home.release(each, home.end(each) or home.End(state=State.FAILED), NOW)


@pytest.mark.parametrize("text", ["²", "-1", "1.5", "", "9" * 12, "1e3"])
def test_a_retention_or_a_ttl_that_is_no_number_is_none(text: str) -> None:
    seen = changed(job_record(request(), status=COMPLETE), annotations={names.RETENTION: text, names.TTL: text})
    assert home.retention(seen) is None
    assert hand_back_ttl(seen, NOW, NOW) is None


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"workflow": 1}'])
def test_what_a_job_was_asked_is_unknown_when_somebody_has_damaged_it(text: str | None) -> None:
    assert job_home.stored(changed(job_record(request()), annotations={names.REQUEST: text})) is None


def nested(text: str, depth: int) -> str:
    return text.replace("DEEP", "[" * depth + "]" * depth)


@pytest.mark.parametrize("depth", [2_000, 40_000])
def test_what_is_nested_deeper_than_anybody_means_is_damaged(depth: int) -> None:
    """Also what a pod tells: any program may write that."""
    job = nested('{"workflow": {"name": "w", "steps": [{"name": "s", "job": {"manifest": {"spec": DEEP}}}]}}', depth)
    assert job_home.stored(changed(job_record(request()), annotations={names.REQUEST: job})) is None
    record = map_record(request())
    packed = base64.b64encode(gzip.compress(job.encode())).decode()
    assert records.stored(msgspec.structs.replace(record, binary_data={"workflow": packed})) is None
    result = '{"step": "s", "result": {"state": "succeeded", "outputs": {"o": DEEP}}}'
    data = {"step.s": nested(result, depth), "step.t": nested(result, 1).replace('"s"', '"t"')}
    assert set(records.results(msgspec.structs.replace(record, data=data))) == {(Role.STEP, "t")}
    told = {"terminated": {"exitCode": 0, "message": nested('{"o": DEEP}', depth)}}
    pod = {"metadata": {}, "status": {"phase": "Succeeded", "containerStatuses": [{"name": "c", "state": told}]}}
    assert outputs([msgspec.convert(pod, Pod)]) is None
