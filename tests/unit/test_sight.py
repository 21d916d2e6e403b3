"""What the watches have seen: the same in whatever order it is told, nothing of what is over, and nothing of what is others'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.engine import home, limits
from jobyard.engine import record as records
from jobyard.engine.home import End
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import EARLY_LIMIT, GONE_LIMIT, Seen, Sight
from jobyard.model import names
from jobyard.model.job import owner_reference, render
from jobyard.model.objects import (
    ConfigMap,
    Event,
    Job,
    Metadata,
    ObjectReference,
    OwnerReference,
    Pod,
    PodStatus,
    PodTemplate,
    PodTemplateSpec,
)
from jobyard.model.run import Role, State, StepResult
from tests.unit.samples import COMPLETE, NOW, changed, flow, job_record, manifest, map_record, request, served

ASKED = request(workflow=flow(manifest(), manifest(), max_runs=2))
RUN = ASKED.run_id


def attempt(uid: str = "job-0", *, step: str = "s0", number: int = 1, owner: str = "record", version: int = 2, **more: Any) -> Job:
    """The Job of a step, as the engine makes it."""
    labels = home.job_labels(RUN, "amqp", Role.STEP, step, number)
    made = render(
        manifest(),
        name=more.pop("name", names.job_name(RUN, Role.STEP, step, number)),
        labels=labels,
        annotations={names.STEP: step},
        pod_labels=labels,
        owner=owner_reference(f"etl-{RUN}", owner),
    )
    return msgspec.convert(served(made, uid, version, more.pop("status", None)), Job)


def pod(uid: str = "pod", job: str = "job-0", version: int = 3, phase: str = "Running") -> Pod:
    owner = OwnerReference(kind="Job", name="j", uid=job, controller=True)
    metadata = Metadata(name=f"name-of-{uid}", uid=uid, resource_version=str(version), owner_references=(owner,))
    return Pod(metadata=metadata, status=PodStatus(phase=phase))


def warning(uid: str, about: str) -> Event:
    metadata = Metadata(name=f"name-of-{uid}", uid=uid, resource_version="4")
    return Event(metadata=metadata, involved_object=ObjectReference(uid=about), type="Warning", reason="Failed", last_timestamp=NOW)


def spread() -> list[Seen]:
    """A run whose record goes on in a part and a page, with a Job, its pod, and warnings about both."""
    (packed,) = records.pack(ASKED)
    tree = records.write(ASKED, RUN, [packed[:100], packed[100:]])
    tree["metadata"]["annotations"][names.PAGES] = "1"
    record = msgspec.convert(served(tree, "record"), ConfigMap)
    done = {(Role.STEP, "s1"): StepResult(state=State.SUCCEEDED, attempt=1, job="j", finished=NOW)}
    ((name, data),) = records.pages(done, record, ASKED.workflow).items()
    part = msgspec.convert(served(records.part(record, 1, packed[100:]), "part"), ConfigMap)
    page = msgspec.convert(served(records.page(record, name, data), "page"), ConfigMap)
    return [record, part, page, attempt(), pod(), warning("event-1", "pod"), warning("event-2", "job-0")]


def alone() -> list[Seen]:
    """A run that is one Job, with its pod and warnings about both."""
    record = job_record(request(workflow=flow(max_runs=2)), "job-0")
    return [record, pod(), warning("event-1", "pod"), warning("event-2", "job-0")]


def shown(run: RunSight) -> Any:
    return run.observe({}), run.owned, run.jobs, run.pods, run.events, run.missing, sorted(run.uids())


def told(objects: Sequence[Seen]) -> Sight:
    sight = Sight()
    for each in objects:
        left(sight, sight.see(each))
    return sight


def left(sight: Sight, run: RunSight | None) -> None:
    """What a namespace does with a run that nobody drives."""
    if run is not None and run.is_gone:
        sight.drop(run)


def kept(sight: Sight) -> dict[str, Any]:
    """All that is not empty, but for the memory of what is gone."""
    return {name: value for name, value in vars(sight).items() if name not in ("_gone", "over", "freed") and value}


@pytest.mark.parametrize("make", [spread, alone])
@given(data=st.data())
def test_the_same_is_seen_in_whatever_order_it_is_told(make: Any, data: st.DataObject) -> None:
    objects = make()
    (wanted,) = told(objects).runs.values()
    sight = told(data.draw(st.permutations(objects)))
    (run,) = sight.runs.values()
    assert shown(run) == shown(wanted)
    assert run.workflow == wanted.workflow is not None
    assert {uid for uid in run.uids() if sight.of(uid) is run} == {each.metadata.uid for each in objects}
    assert list(sight.active("workflow/etl")) == [run.uid]
    assert not sight._early
    assert sight._early_count == 0


@pytest.mark.parametrize("make", [spread, alone])
@given(data=st.data())
def test_nothing_is_kept_of_what_came_and_went_in_whatever_order(make: Any, data: st.DataObject) -> None:
    sight, objects = Sight(), make()
    here: set[int] = set()
    for number in data.draw(st.permutations([*range(len(objects)), *range(len(objects))])):
        if number in here:
            left(sight, sight.forget(objects[number].metadata.uid))
        else:
            here.add(number)
            left(sight, sight.see(objects[number]))
    assert kept(sight) == {}
    for each in objects:  # an answer to a call of ours that comes late
        left(sight, sight.see(each))
    assert kept(sight) == {}


@pytest.mark.parametrize("make", [spread, alone])
def test_a_run_is_back_whose_label_somebody_took_off_and_put_on_again(make: Any) -> None:
    record, *rest = make()
    sight = told([record, *rest])
    (before,) = sight.runs.values()
    left(sight, sight.forget(record.metadata.uid, "9"))
    left(sight, sight.see(changed(record, version=8)))  # an answer to a call of ours that comes late
    for each in rest:
        left(sight, sight.see(each))
    assert kept(sight) == {}
    run = sight.see(changed(record, version=10))
    assert run is not None
    assert run is not before
    for each in rest:  # asked for by name
        sight.see(each)
    assert (run.observe({}), run.pods, sorted(run.uids())) == (before.observe({}), before.pods, sorted(before.uids()))
    assert {sight.of(each.metadata.uid) for each in rest} == {run}
    left(sight, sight.forget(record.metadata.uid))
    left(sight, sight.see(changed(record, version=11)))
    assert kept(sight) == {}, "it was deleted by us: for good"


@pytest.mark.parametrize("make", [job_record, map_record])
def test_one_that_was_released_since_its_label_came_back_is_over(make: Any) -> None:
    record = make(request())
    sight = told([record])
    (run,) = sight.runs.values()
    sight.forget(record.metadata.uid, "7")
    run.see_record(changed(record, version=7))  # its driver asked for it by name
    run.is_gone = False
    left(sight, sight.see(changed(record, version=9, **home.release(record, End(state=State.SUCCEEDED, finished=NOW), NOW)["metadata"])))
    left(sight, sight.see(changed(record, version=8)))  # an answer to a call of ours that comes late
    assert kept(sight) == {}


def test_a_job_and_its_pod_are_back_with_its_label() -> None:
    sight = told(spread())
    (run,) = sight.runs.values()
    sight.forget("job-0", "9")
    assert sight.see(attempt(version=9)) is None
    assert sight.see(attempt(version=10)) is run
    assert sight.see(pod()) is run
    assert not run.missing


def test_what_kept_a_pod_from_running_is_told_of_its_job_once_the_pod_is_gone() -> None:
    sight = told(alone())
    (run,) = sight.runs.values()
    sight.forget("pod")
    assert set(run.events["job-0"]) == {"name-of-event-1", "name-of-event-2"}
    sight.forget("event-1")
    assert set(run.events["job-0"]) == {"name-of-event-2"}


def test_what_belongs_to_nothing_that_is_open_is_kept_in_bounds() -> None:
    sight = Sight()
    for number in range(EARLY_LIMIT + 500):
        sight.see(warning(f"event-{number}", f"foreign-{number % 700}"))
    assert sum(map(len, sight._early.values())) == sight._early_count <= EARLY_LIMIT
    for number in range(GONE_LIMIT + 500):
        sight.forget(f"gone-{number}")
    assert len(sight._gone) == GONE_LIMIT
    assert not sight.runs
    assert not sight._run_of


def test_an_old_records_end_does_not_touch_the_new_record_of_the_same_run() -> None:
    for make in (job_record, map_record):
        sight = Sight()
        old, new = make(ASKED if make is map_record else request(), "old", 1), make(ASKED if make is map_record else request(), "new", 5)
        first = sight.see(old)
        assert first is not None
        assert sight.forget("old") is first
        second = sight.see(new)  # the driver of the first is still at it
        assert second is not None
        assert second is not first
        assert sight.see(changed(old, version=3)) is not second, "late news of the old one"
        assert sight.forget("old") is first
        sight.drop(first)
        assert (sight.runs, second.is_gone, sight.of("new")) == ({second.id: second}, False, second)
        assert sight.see(changed(new, version=6)) is second


def test_a_new_record_of_the_same_name_says_that_the_old_one_is_gone() -> None:
    sight = Sight()
    first = sight.see(map_record(ASKED, "old", 1))
    second = sight.see(map_record(ASKED, "new", 5))
    assert first is not None
    assert second is not None
    assert (first.is_gone, second.is_gone, sight.runs[RUN]) == (True, False, second)
    assert sight.see(map_record(ASKED, "older", 3)) is None, "an answer that comes late"
    assert sight.runs[RUN] is second
    sight.drop(first)
    assert list(sight.active("workflow/etl")) == ["new"]


def test_a_second_record_of_a_run_in_the_other_home_is_not_the_run() -> None:
    sight = told([map_record(ASKED, "first")])
    assert sight.see(job_record(request(), "second", 9)) is None
    assert sight.runs[RUN].uid == "first"


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param(attempt("x", owner="another record"), id="another owner"),
        pytest.param(attempt("x", name="s0-copy"), id="a copy, owner included"),
        pytest.param(changed(attempt("x"), labels={names.ATTEMPT: "²"}), id="an attempt that is no number"),
        pytest.param(changed(attempt("x"), labels={names.ATTEMPT: "2"}), id="another attempt's name"),
        pytest.param(changed(attempt("x"), labels={names.ROLE: "boss"}), id="a role that there is not"),
        pytest.param(changed(attempt("x"), annotations={names.STEP: "s9"}), id="a step that there is not"),
        pytest.param(changed(attempt("x"), annotations={names.STEP: None}), id="no step"),
    ],
)
def test_a_job_that_the_run_would_not_have_made_is_no_attempt_of_it(stranger: Job) -> None:
    sight = told([map_record(ASKED), msgspec.structs.replace(stranger, status=attempt(status=COMPLETE).status)])
    (run,) = sight.runs.values()
    assert run.observe({}).attempts == {}
    assert run.unexplained() == []
    sight.forget("x")
    assert run.observe({}).vanished == {}
    for missing in list(run.missing.values()):
        run.lose(missing)
    assert run.observe({}).vanished == {}


def test_a_job_that_bears_no_owner_is_nobodys() -> None:
    sight = told([job_record(request(), "first")])
    copy = changed(job_record(request(), "copy"), name="copy")
    assert sight.see(copy) is None
    assert list(sight.runs[request().run_id].jobs.values()) == [job_record(request(), "first")]


def test_a_record_that_is_released_drops_out() -> None:
    for make, asked in ((job_record, request(workflow=flow(max_runs=2))), (map_record, ASKED)):
        record = make(asked, "u")
        released = changed(record, version=9, **home.release(record, home.End(state=State.SUCCEEDED, finished=NOW), NOW)["metadata"])
        sight = told([record])
        run = sight.see(released)
        assert run is not None
        assert run.is_gone
        assert run.run("n").state is State.SUCCEEDED
        left(sight, run)
        assert kept(sight) == {}
        assert asked.run_id in sight.over
        assert told([released]).runs == {}, "seen for the first time when it was over"


def test_what_is_older_than_what_is_known_is_not_taken_in() -> None:
    objects = [changed(each, version=20) for each in spread()]
    sight = told(objects)
    (run,) = sight.runs.values()
    before = shown(run)
    for each in objects[:5]:
        sight.see(changed(each, version=9, labels={"late": "yes"}))
    assert shown(run) == before
    later: Any = changed(objects[3], version=100, labels={"late": "no"})
    assert sight.see(later) is run
    assert "late" in run.jobs[later.metadata.name].metadata.labels


def test_a_run_counts_for_its_limits_until_it_has_ended() -> None:
    asked = request(workflow=flow(max_runs=2))
    sight = told([job_record(asked)])
    assert list(sight.active("workflow/etl")) == list(sight.active("namespace")) == ["job"]
    assert sight.freed == set()
    sight.see(job_record(asked, version=2, status=COMPLETE))
    assert list(sight.active("workflow/etl")) == []
    assert sight.freed == {"workflow/etl", "namespace"}


def test_a_run_whose_limits_somebody_rewrites_counts_for_what_it_says_now_and_leaves_nothing_behind() -> None:
    record = job_record(request(workflow=flow(max_runs=2)))
    sight = told([record])
    sight.see(changed(record, version=2, annotations={names.SCOPES: "other"}))
    assert list(sight.active("workflow/etl")) == []
    assert list(sight.active("other")) == ["job"]
    left(sight, sight.forget("job"))
    assert kept(sight) == {}


def test_places_and_limits_are_seen_and_forgotten() -> None:
    claim = limits.Claim(scope="gpu", limit=1, holder="a")
    places = msgspec.convert(served(limits.write(claim, {}), "places"), ConfigMap)
    numbers = ConfigMap(metadata=Metadata(name=limits.LIMITS, uid="limits", resource_version="1"), data={"gpu": "1"})
    sight = told([places, numbers])
    assert sight.places == {claim.object_name: places}
    assert limits.numbers(sight.limits) == {"gpu": 1}
    sight.forget("places")
    sight.forget("limits")
    assert kept(sight) == {}


def test_limits_that_a_run_brought_are_none_of_the_namespaces() -> None:
    brought = Metadata(name=limits.LIMITS, uid="limits", labels={names.ROLE: "object", names.RUN: RUN})
    assert told([ConfigMap(metadata=brought, data={"namespace": "0"})]).limits is None


@pytest.mark.parametrize("grace", [10**12, -(10**12), 2**63 - 1])
@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "2999-12-31T23:59:59Z", NOW.isoformat(), "²"])
def test_a_stop_at_any_time_with_any_grace_period_is_no_more_than_late(at: str, grace: int) -> None:
    stopped = changed(attempt("x"), annotations={names.STOP: "Cancelled", names.STOPPED_AT: at})
    spec = msgspec.structs.replace(stopped.spec, template=PodTemplate(spec=PodTemplateSpec(termination_grace_period_seconds=grace)))
    (run,) = told([map_record(ASKED), msgspec.structs.replace(stopped, spec=spec)]).runs.values()
    ((found,),) = run.observe({}).attempts.values()
    assert found.stopping == "Cancelled"


@pytest.mark.parametrize("make", [spread, alone])
def test_what_is_known_already_is_nobodys_news(make: Any) -> None:
    """The watch tells again what a call of ours was answered with: nobody need look for that."""
    sight, objects = Sight(), make()
    for each in objects:
        sight.see(each)
    assert not any(sight.see(each) for each in objects if not isinstance(each, Event))


@pytest.mark.parametrize(
    "owners",
    [(), (OwnerReference(kind="Job", name="j", uid="job-0"),), (OwnerReference(kind="ConfigMap", name="r", uid="job-0", controller=True),)],
)
def test_a_pod_that_no_job_controls_is_nobody_s(owners: tuple[OwnerReference, ...]) -> None:
    record, *_ = alone()
    sight = told([record])
    made = Metadata(name="forged", uid="forged", labels=record.metadata.labels, owner_references=owners)
    assert sight.see(Pod(metadata=made, status=PodStatus(phase="Succeeded"))) is None
    assert not any(run.pods for run in sight.runs.values())
    assert sight._early_count == 0
