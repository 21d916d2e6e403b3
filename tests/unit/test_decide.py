"""The decision: for random graphs, limits, failures and retries; and the cases that people will ask about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.engine.decide import decide
from jobyard.engine.decision import Attempt, Create, Decision, Delete, Kill, Observed, Refusal, Slot, Stop, Write
from jobyard.model.back_off import Tries
from jobyard.model.run import Reason, Role, State, StepResult
from jobyard.model.template import Template
from jobyard.model.workflow import Cleanup, OnFailure, Retry, Step, When, Workflow

START = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Template({"apiVersion": "batch/v1", "kind": "Job", "spec": {}})
SECOND = timedelta(seconds=1)


def step(
    name: str, *needs: str, when: When = When.SUCCEEDED, retries: int = 0, revert: bool = False, gate: bool = False, timeout: int = 0
) -> Step:
    return Step(
        name=name,
        job=None if gate else JOB,
        needs=needs,
        when=when,
        retry=Retry(limit=retries, backoff=5 * SECOND),
        revert=JOB if revert else None,
        timeout=timedelta(seconds=timeout) if timeout else None,
    )


def test_a_pod_that_cannot_start_ends_its_attempt_where_the_step_says_so_and_a_missing_secret_has_a_minute() -> None:
    for reason, seconds in (("ImagePullBackOff", 0), ("CreateContainerConfigError", 60)):
        attempt = Attempt(
            role=Role.STEP,
            step="a",
            attempt=1,
            job="j",
            state=State.PENDING,
            reason=Reason.WAITING_FOR_POD,
            created=START,
            start_error=reason,
        )
        observed = Observed(created=START, begun=START, attempts={(Role.STEP, "a"): (attempt,)})
        patient = decide(Workflow(name="w", steps=(step("a"),)), observed, START + 3600 * SECOND)
        assert not any(isinstance(each, Stop) for each in patient.actions)
        strict = Workflow(name="w", steps=(replace(step("a"), stops_on_start_error=True),))
        if seconds:
            early = decide(strict, observed, START + (seconds - 1) * SECOND)
            assert not any(isinstance(each, Stop) for each in early.actions)
            assert early.wake_at == START + seconds * SECOND
        assert Stop(job="j", reason=reason) in decide(strict, observed, START + seconds * SECOND).actions


class World:
    """What a cluster would do with our actions, as plain values: Jobs begin pending, and end when the test says so."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.now = START
        self.observed = Observed(created=START, begun=START)
        self.created: list[tuple[Role, str, int]] = []
        self.completed: list[tuple[Role, str]] = []

    def look(self) -> Decision:
        decision = decide(self.workflow, self.observed, self.now)
        for action in decision.actions:
            match action:
                case Create():
                    self._create(action)
                case Stop():
                    self._change(
                        action.job,
                        state=State.CANCELLED if action.reason is Reason.CANCELLED else State.FAILED,
                        reason=str(action.reason),
                        stopping=action.reason,
                    )
                case Write():
                    known = {**self.observed.recorded, **action.results}
                    self.observed = replace(self.observed, recorded=known)
                    if action.state:
                        self.observed = replace(self.observed, state=action.state, reason=action.reason, finished=action.finished)
                case Delete():
                    kept = {
                        slot: tuple(a for a in attempts if a.job not in action.jobs) for slot, attempts in self.observed.attempts.items()
                    }
                    self.observed = replace(self.observed, attempts={slot: attempts for slot, attempts in kept.items() if attempts})
        return decision

    def _create(self, action: Create) -> None:
        slot: Slot = (action.role, action.step)
        attempts = self.observed.attempts.get(slot, ())
        assert action.attempt == len(attempts) + 1, "attempts are counted without gaps, and none is made twice"
        job = f"{action.role}-{action.step}-{action.attempt}"
        attempt = Attempt(role=action.role, step=action.step, attempt=action.attempt, job=job, state=State.PENDING, created=self.now)
        self.observed = replace(self.observed, attempts={**self.observed.attempts, slot: (*attempts, attempt)})
        self.created.append((action.role, action.step, action.attempt))

    def _change(self, job: str, *, state: State, reason: str = "", stopping: str = "") -> None:
        changed = {}
        for slot, attempts in self.observed.attempts.items():
            changed[slot] = tuple(
                replace(a, state=state, reason=reason, stopping=stopping, finished=self.now) if a.job == job else a for a in attempts
            )
        self.observed = replace(self.observed, attempts=changed)

    def finish(self, slot: Slot, state: State) -> None:
        attempt = self.observed.attempts[slot][-1]
        self._change(attempt.job, state=state, reason="" if state is State.SUCCEEDED else "BackoffLimitExceeded")
        if state is State.SUCCEEDED:
            self.completed.append(slot)

    def active(self) -> list[Slot]:
        return [slot for slot, attempts in self.observed.attempts.items() if not attempts[-1].state.is_end]

    def state(self, decision: Decision, name: str) -> State:
        return next(view.state for view in decision.steps if view.name == name and view.role is Role.STEP)

    def run(self, failing: frozenset[str] = frozenset()) -> Decision:
        """Lets everything end, in the order in which it began; what is `failing` fails each time."""
        for _ in range(1000):
            decision = self.look()
            if decision.state.is_end:
                return decision
            active = self.active()
            if active:
                role, name = active[0]
                self.now += SECOND
                self.finish((role, name), State.FAILED if (name if role is Role.STEP else f"revert {name}") in failing else State.SUCCEEDED)
            else:
                assert decision.wake_at is not None, "nothing runs, so something must be waited for"
                self.now = max(self.now, decision.wake_at)
        raise AssertionError("the run does not end")


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    count = draw(st.integers(1, 9))
    steps = []
    for index in range(count):
        names = [f"s{each}" for each in range(index)]
        needs = tuple(draw(st.lists(st.sampled_from(names), unique=True, max_size=3))) if names else ()
        gate = bool(needs) and draw(st.integers(0, 5)) == 0
        when = When.SUCCEEDED if gate or not needs else draw(st.sampled_from(list(When)))
        retries = 0 if gate else draw(st.integers(0, 2))
        steps.append(step(f"s{index}", *needs, when=when, retries=retries, revert=draw(st.booleans()), gate=gate))
    shuffled = draw(st.permutations(steps))
    return Workflow(
        name="w",
        steps=tuple(shuffled),
        parallelism=draw(st.integers(0, 3)),
        on_failure=draw(st.sampled_from(list(OnFailure))),
        cleanup=draw(st.sampled_from(list(Cleanup))),
        timeout=draw(st.sampled_from([None, timedelta(seconds=20)])),
    )


@settings(max_examples=300, deadline=None)
@given(workflows(), st.data())
def test_any_run_keeps_its_order_and_its_limits_and_comes_to_an_end(workflow: Workflow, data: st.DataObject) -> None:
    world = World(workflow)
    ended: dict[str, State] = {}
    cancel_at = data.draw(st.one_of(st.none(), st.integers(0, 20)), label="cancel at look")
    for look in range(300):
        if cancel_at == look:
            world.observed = replace(world.observed, cancelled=True)
        before = len(world.created)
        decision = world.look()
        for role, name, attempt in world.created[before:]:
            if role is Role.STEP and attempt == 1:
                for need in workflow.by_name[name].needs:
                    state = next((v.state for v in decision.steps if v.name == need and v.role is Role.STEP), None)
                    assert state is None or state.is_end, f"{name} started before {need} had ended"
            assert not world.observed.cancelled, "a cancelled run starts nothing"
        if workflow.parallelism:
            assert len(world.active()) <= workflow.parallelism
        for view in decision.steps:
            if view.role is Role.STEP and view.name in ended:
                assert view.state is ended[view.name], "an end never changes"
            if view.role is Role.STEP and view.state.is_end:
                ended[view.name] = view.state
        if decision.state.is_end:
            break
        active = world.active()
        nothing_else = decision.wake_at is None or decision.wake_at <= world.now
        if active and (nothing_else or data.draw(st.booleans(), label="a Job ends")):
            slot = data.draw(st.sampled_from(active), label="who ends")
            world.now += SECOND
            world.finish(slot, data.draw(st.sampled_from([State.SUCCEEDED, State.SUCCEEDED, State.FAILED]), label="how"))
        elif decision.wake_at is not None:
            world.now = max(world.now, decision.wake_at)
        else:
            assert active or decision.actions, "with nothing active, nothing done and nothing to wait for, the run would hang"
    else:
        raise AssertionError("the run does not end")
    assert {view.name for view in decision.steps if view.role is Role.STEP} == {s.name for s in workflow.jobs}, "none is forgotten"
    assert all(view.state.is_end for view in decision.steps)
    reverted = [name for role, name, _ in world.created if role is Role.REVERT]
    completed = [name for role, name in world.completed if role is Role.STEP]
    # Gates complete with the last of what they close, so only steps with Jobs can be held against the order of completion.
    with_jobs = [name for name in reverted if not workflow.by_name[name].is_gate]
    assert with_jobs == [name for name in reversed(completed) if name in with_jobs], "the last to complete is the first to be reverted"
    again = world.look()
    assert again.state is decision.state
    assert again.reason == decision.reason, "what has ended stays as it ended"
    assert not any(isinstance(action, Create | Stop | Write) for action in again.actions)


@settings(max_examples=100, deadline=None)
@given(workflows())
def test_a_look_is_repeatable_and_a_crash_between_looks_changes_nothing(workflow: Workflow) -> None:
    world = World(workflow)
    for _ in range(5):
        first = decide(workflow, world.observed, world.now)
        assert decide(workflow, world.observed, world.now) == first
        world.look()


def test_a_diamond_runs_in_order() -> None:
    world = World(Workflow(name="w", steps=(step("d", "b", "c"), step("b", "a"), step("c", "a"), step("a"))))
    decision = world.run()
    assert decision.state is State.SUCCEEDED
    assert [name for _, name, _ in world.created] == ["a", "b", "c", "d"]


def test_a_failed_step_stops_the_run_and_says_so_of_each_step() -> None:
    world = World(
        Workflow(name="w", steps=(step("a"), step("b", "a"), step("cleanup", "b", when=When.ALWAYS), step("alarm", "b", when=When.FAILED)))
    )
    decision = world.run(failing=frozenset({"a"}))
    assert (decision.state, decision.reason) == (State.FAILED, Reason.STEP_FAILED)
    states = {view.name: view.state for view in decision.steps}
    assert states == {"a": State.FAILED, "b": State.SKIPPED, "cleanup": State.SUCCEEDED, "alarm": State.SUCCEEDED}


def test_on_failure_finish_goes_on_with_what_does_not_need_it() -> None:
    steps = (step("a"), step("x"), step("b", "a"), step("y", "x"))
    for policy, y in ((OnFailure.STOP, State.SKIPPED), (OnFailure.FINISH, State.SUCCEEDED)):
        world = World(Workflow(name="w", steps=steps, on_failure=policy, parallelism=1))
        assert world.state(world.run(failing=frozenset({"a"})), "y") is y


def test_retries_wait_longer_each_time_and_then_give_up() -> None:
    world = World(Workflow(name="w", steps=(step("a", retries=2),)))
    decision = world.run(failing=frozenset({"a"}))
    assert decision.state is State.FAILED
    assert [attempt for _, _, attempt in world.created] == [1, 2, 3]
    created = [attempt.created for attempt in world.observed.attempts[Role.STEP, "a"]]
    waits = [later - earlier - SECOND for earlier, later in pairwise(created)]
    assert waits == [5 * SECOND, 10 * SECOND]


def test_revert_runs_in_reverse_order_of_completion_and_reports_its_own_failures() -> None:
    steps = (step("a", revert=True), step("b", "a", revert=True), step("c", "b"))
    world = World(Workflow(name="w", steps=steps, on_failure=OnFailure.REVERT))
    decision = world.run(failing=frozenset({"c", "revert b"}))
    assert decision.state is State.FAILED
    assert [name for role, name, _ in world.created if role is Role.REVERT] == ["b", "a"]
    assert {view.name: view.state for view in decision.steps if view.role is Role.REVERT} == {"b": State.FAILED, "a": State.SUCCEEDED}


def test_revert_keeps_its_order_when_all_completed_within_one_second() -> None:
    steps = tuple(step(f"s{i}", *([f"s{i - 1}"] if i else []), revert=True) for i in range(4))
    recorded = {
        (Role.STEP, each.name): StepResult(state=State.SUCCEEDED, attempt=1, job="j", started=START, finished=START) for each in steps[:3]
    }
    recorded[Role.STEP, "s3"] = StepResult(state=State.FAILED, attempt=1, job="j", finished=START)
    world = World(Workflow(name="w", steps=steps, on_failure=OnFailure.REVERT))
    world.observed = replace(world.observed, recorded=recorded)
    world.run()
    assert [name for _, name, _ in world.created] == ["s2", "s1", "s0"]


def test_a_job_that_vanishes_is_lost_and_never_made_again() -> None:
    world = World(Workflow(name="w", steps=(step("a"),)))
    world.look()
    world.now += 2 * SECOND
    world.look()  # recorded: it was made
    assert world.observed.recorded[Role.STEP, "a"].state is State.RUNNING
    world.observed = replace(world.observed, attempts={})
    decision = world.look()
    assert (decision.state, decision.steps[0].state, decision.steps[0].reason) == (State.FAILED, State.LOST, Reason.JOB_VANISHED)
    assert len(world.created) == 1


def test_a_job_that_vanishes_after_its_end_was_recorded_keeps_its_end() -> None:
    result = StepResult(state=State.SUCCEEDED, attempt=1, job="j", finished=START)
    workflow = Workflow(name="w", steps=(step("a"), step("b", "a")))
    decision = decide(workflow, Observed(created=START, begun=START, recorded={(Role.STEP, "a"): result}), START)
    assert [action.step for action in decision.actions if isinstance(action, Create)] == ["b"]


def test_cancel_stops_what_runs_and_starts_nothing() -> None:
    world = World(Workflow(name="w", steps=(step("a"), step("b", "a"), step("c", when=When.ALWAYS))))
    world.look()
    world.observed = replace(world.observed, cancelled=True)
    world.look()
    decision = world.look()
    assert (decision.state, {view.state for view in decision.steps}) == (State.CANCELLED, {State.CANCELLED})


def test_a_step_timeout_stops_its_job_and_counts_as_a_failure() -> None:
    world = World(Workflow(name="w", steps=(step("a", timeout=30, retries=1),)))
    world.look()
    assert world.look().wake_at is not None
    world.now += 30 * SECOND
    decision = world.look()
    assert [action for action in decision.actions if isinstance(action, Stop)] == [Stop(job="step-a-1", reason=Reason.TIMEOUT)]
    assert world.look().steps[0].reason == Reason.RETRY_BACK_OFF


def test_the_run_timeout_ends_the_run() -> None:
    world = World(Workflow(name="w", steps=(step("a", retries=3), step("b", "a")), timeout=timedelta(minutes=1)))
    world.look()
    world.now += timedelta(minutes=1)
    world.look()
    decision = world.look()
    assert (decision.state, decision.reason) == (State.FAILED, Reason.TIMEOUT)
    assert world.state(decision, "b") is State.SKIPPED


def test_a_refused_create_fails_the_step_and_a_full_quota_waits() -> None:
    workflow = Workflow(name="w", steps=(step("a"),))
    refused = {(Role.STEP, "a", 1): Refusal(reason="Refused", message="no")}
    decision = decide(workflow, Observed(created=START, begun=START, refusals=refused), START)
    assert (decision.state, decision.steps[0].message) == (State.FAILED, "no")
    full = {(Role.STEP, "a", 1): Refusal(reason=Reason.QUOTA_EXCEEDED, message="full", until=START + 5 * SECOND)}
    waiting = decide(workflow, Observed(created=START, begun=START, refusals=full), START)
    assert (waiting.state, waiting.reason, waiting.wake_at) == (State.PENDING, Reason.QUOTA_EXCEEDED, START + 5 * SECOND)
    assert [
        type(action) for action in decide(workflow, Observed(created=START, begun=START, refusals=full), START + 5 * SECOND).actions
    ] == [Create]


def test_a_limit_is_waited_for_and_said() -> None:
    world = World(Workflow(name="w", steps=(step("a"), step("b"), step("c")), parallelism=2))
    assert [view.reason for view in world.look().steps] == [Reason.WAITING_FOR_POD, Reason.WAITING_FOR_POD, Reason.WAITING_FOR_LIMIT]


def test_cleanup_deletes_the_jobs_once_the_end_is_recorded() -> None:
    for cleanup, failing, deleted in (
        (Cleanup.SUCCEEDED, False, True),
        (Cleanup.SUCCEEDED, True, False),
        (Cleanup.ALWAYS, True, True),
        (Cleanup.NEVER, False, False),
    ):
        world = World(Workflow(name="w", steps=(step("a"),), cleanup=cleanup))
        decision = world.run(failing=frozenset({"a"} if failing else ()))
        kinds = [type(action) for action in decision.actions]
        assert (Delete in kinds) is deleted
        assert not deleted or kinds.index(Write) < kinds.index(Delete)


def test_phases_are_barriers_by_gates() -> None:
    steps = (step("a"), step("b"), step("one", "a", "b", gate=True), step("c", "one"), step("two", "c", gate=True))
    world = World(Workflow(name="w", steps=steps))
    assert [action.step for action in world.look().actions if isinstance(action, Create)] == ["a", "b"]
    world.finish((Role.STEP, "a"), State.SUCCEEDED)
    assert not [action for action in world.look().actions if isinstance(action, Create)]
    world.finish((Role.STEP, "b"), State.SUCCEEDED)
    assert [action.step for action in world.look().actions if isinstance(action, Create)] == ["c"]


def test_pods_that_outlive_a_stop_are_deleted_by_force_and_the_run_ends() -> None:
    stuck = Attempt(
        role=Role.STEP,
        step="a",
        attempt=1,
        job="a-1",
        state=State.RUNNING,
        created=START,
        stopping=Reason.CANCELLED,
        stop_deadline=START + 90 * SECOND,
    )
    observed = Observed(created=START, begun=START, cancelled=True, attempts={(Role.STEP, "a"): (stuck,)})
    flow = Workflow(name="w", steps=(step("a"), step("b", "a")))
    early = decide(flow, observed, START + 89 * SECOND)
    assert early.wake_at == START + 90 * SECOND
    assert not any(isinstance(action, Kill) for action in early.actions)
    late = decide(flow, observed, START + 90 * SECOND)
    assert Kill(job=stuck.job) in late.actions
    assert late.state is State.CANCELLED
    assert "force-deleted" in late.steps[0].message
    assert late.steps[1].state is State.CANCELLED


def test_a_step_that_has_not_started_in_time_is_stopped_and_one_that_runs_is_not() -> None:
    flow = Workflow(name="w", steps=(replace(step("a"), start_timeout=10 * SECOND),))
    waiting = Attempt(role=Role.STEP, step="a", attempt=1, job="a-1", state=State.PENDING, created=START)

    def look(attempt: Attempt, seconds: int) -> Decision:
        return decide(flow, Observed(created=START, begun=START, attempts={(Role.STEP, "a"): (attempt,)}), START + seconds * SECOND)

    assert look(waiting, 9).wake_at == START + 10 * SECOND
    assert look(waiting, 10).actions[0] == Stop(job="a-1", reason=Reason.START_TIMEOUT)
    assert not any(isinstance(action, Stop) for action in look(replace(waiting, state=State.RUNNING), 10).actions)
    again = replace(waiting, reason=Reason.RETRY_BACK_OFF, has_run=True)
    assert not any(isinstance(action, Stop) for action in look(again, 10).actions), "between two tries it has long started"


def test_a_step_that_is_tried_again_says_how_often_it_failed_and_when_it_is_tried_again() -> None:
    world = World(Workflow(name="w", steps=(step("a", retries=2),)))
    world.look()
    for failures, seconds in ((1, 5), (2, 10)):
        world.finish((Role.STEP, "a"), State.FAILED)
        (view,) = world.look().steps
        due = world.now + seconds * SECOND
        assert (view.state, view.reason) == (State.PENDING, Reason.RETRY_BACK_OFF)
        assert view.tries == Tries(failed=failures, of=3, by="Jobyard", again=due)
        world.now = due
        assert world.look().steps[0].tries, "until its next Job is there"
        assert world.look().steps[0].tries is None
    world.finish((Role.STEP, "a"), State.FAILED)
    assert (world.look().steps[0].state, world.look().steps[0].tries) == (State.FAILED, None)


def test_a_job_that_was_seen_to_vanish_is_lost_though_nothing_was_recorded() -> None:
    flow = Workflow(name="w", steps=(step("a", retries=3),))
    decision = decide(flow, Observed(created=START, begun=START, vanished={(Role.STEP, "a"): 1}), START)
    assert (decision.state, decision.steps[0].state, decision.steps[0].reason) == (State.FAILED, State.LOST, Reason.JOB_VANISHED)
    assert not any(isinstance(action, Create) for action in decision.actions)


def test_the_timeout_of_a_run_counts_from_when_it_may_begin() -> None:
    flow = Workflow(name="w", steps=(step("a"),), timeout=timedelta(minutes=1))
    late = START + timedelta(hours=1)
    for begun in (None, late):
        decision = decide(flow, Observed(created=START, begun=begun), late)
        assert decision.state is State.PENDING
        assert [type(action) for action in decision.actions] == [Create]
    assert decide(flow, Observed(created=START, begun=START), late).reason == Reason.TIMEOUT


def test_a_run_that_is_held_or_incomplete_starts_nothing_but_can_be_cancelled() -> None:
    flow = Workflow(name="w", steps=(step("a"),), timeout=timedelta(minutes=1))
    late = START + timedelta(hours=1)
    for why in (Reason.HELD, Reason.INCOMPLETE):
        observed = Observed(created=START, begun=START, waits=why)
        decision = decide(flow, observed, late)
        assert (decision.state, decision.reason, decision.actions) == (State.PENDING, why, ())
        assert decide(flow, replace(observed, cancelled=True), late).state is State.CANCELLED


def test_a_job_that_we_stopped_and_somebody_resumed_is_stopped_again() -> None:
    resumed = Attempt(
        role=Role.STEP, step="a", attempt=1, job="a-1", state=State.RUNNING, created=START, stopping=Reason.TIMEOUT, resumed=True
    )
    observed = Observed(created=START, begun=START, attempts={(Role.STEP, "a"): (resumed,)})
    decision = decide(Workflow(name="w", steps=(step("a"),)), observed, START)
    assert decision.actions == (Stop(job="a-1", reason=Reason.TIMEOUT),)


def test_nothing_is_written_of_a_run_that_is_one_job() -> None:
    done = Attempt(role=Role.STEP, step="a", attempt=1, job="a-1", state=State.SUCCEEDED, created=START, finished=START + SECOND)
    observed = Observed(created=START, begun=START, keeps=False, attempts={(Role.STEP, "a"): (done,)})
    decision = decide(Workflow(name="w", steps=(step("a"),)), observed, START + timedelta(hours=1))
    assert (decision.state, decision.finished, decision.actions) == (State.SUCCEEDED, START + SECOND, ())
