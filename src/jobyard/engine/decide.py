"""What to do next for a run: a pure function from what is observed, and the time, to a decision.

Read it as four questions. Where does each step stand (`_stands`)? May the run go on, or is it halted (`_halt`)? Which steps are due, and
is there room (`_start`)? Has it ended, and what is to be recorded? `wake_at` is how a timeout or a back-off asks to be looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from jobyard.engine.decision import Action, Attempt, Create, Decision, Delete, Kill, Observed, Slot, Stop, Write
from jobyard.model.back_off import Tries
from jobyard.model.cause import Cause
from jobyard.model.run import Reason, Role, State, StepResult, StepView
from jobyard.model.workflow import Cleanup, OnFailure, Retry, Step, When, Workflow

RECORD_AFTER = timedelta(seconds=1)
"""How long a step's news may wait to be recorded, so that a busy run writes once a second. Until then the Job itself is the record."""

PATIENCE_WITH: Mapping[str, timedelta] = {Cause.CONTAINER_CONFIG: timedelta(minutes=1)}
"""How long after its creation a Job may have such a start error: a Secret that it needs may be on its way."""

START_OF_TIME = datetime.min.replace(tzinfo=UTC)


def decide(workflow: Workflow, observed: Observed, now: datetime) -> Decision:
    """The next actions of a run. Deterministic; the same observation at the same time gives the same decision."""
    return _Look(workflow, observed, now).decide()


class _Look:
    """One look at a run: gathers actions and the earliest time to look again."""

    def __init__(self, workflow: Workflow, observed: Observed, now: datetime) -> None:
        self.workflow = workflow
        self.observed = observed
        self.now = now
        self.actions: list[Action] = []
        self.wakes: list[datetime] = []
        self.views: dict[Slot, StepView] = {}
        self.failures = 0
        """How many of the views tell of a failure: asked for each step, so counted as they come."""

    def decide(self) -> Decision:
        if self.observed.state.is_end:
            return self._over()
        for step in self.workflow.ordered:
            self._stands(step)
        if self.observed.waits and not self.observed.cancelled:
            return self._decision(State.PENDING, self.observed.waits, None)
        halt = self._halt()
        self._stop_what_must(halt)
        self._start(halt)
        self._revert(halt)
        state, reason = self._conclude(halt)
        finished = self._finished() if state.is_end else None
        if state.is_end and not self.observed.keeps:  # the run is its Job, and has no other reason
            reason = next((view.reason for view in self.views.values()), reason)
        if self.observed.keeps:
            self._write(state, reason, finished)
        if state.is_end:
            self._clean(state)
        elif self.workflow.look_every:
            self.wakes.append(self.now + self.workflow.look_every)
        return self._decision(state, reason, finished)

    def _decision(self, state: State, reason: str, finished: datetime | None) -> Decision:
        shown = [self.views[Role.STEP, step.name] for step in self.workflow.jobs]
        shown += [view for slot, view in self.views.items() if slot[0] is Role.REVERT]
        return Decision(
            actions=tuple(self.actions),
            state=state,
            reason=reason,
            finished=finished,
            steps=tuple(shown),
            wake_at=min(self.wakes, default=None),
        )

    # --- a run that is over: what its record says; at most there is something left to clean ---

    def _over(self) -> Decision:
        for step in self.workflow.steps:
            for role in (Role.STEP, Role.REVERT):
                result = self.observed.recorded.get((role, step.name))
                if result is not None:
                    self._show((role, step.name), _view(step, role, result))
            self.views.setdefault((Role.STEP, step.name), StepView(name=step.name, state=State.SKIPPED, needs=step.needs))
        self._clean(self.observed.state)
        return self._decision(self.observed.state, self.observed.reason, self.observed.finished)

    def _clean(self, state: State) -> None:
        wanted = self.workflow.cleanup
        if wanted is Cleanup.ALWAYS or (wanted is Cleanup.SUCCEEDED and state is State.SUCCEEDED):
            jobs = [attempt.job for attempts in self.observed.attempts.values() for attempt in attempts if not attempt.deleting]
            if jobs:
                self.actions.append(Delete(jobs=tuple(jobs)))

    # --- where each step stands ---

    def _show(self, slot: Slot, view: StepView) -> None:
        before = self.views.get(slot)
        self.failures += _failed(view) - (before is not None and _failed(before))
        self.views[slot] = view

    def _stands(self, step: Step) -> None:
        view = self._gate(step) if step.is_gate else self._observe(step, Role.STEP)
        self._show(
            (Role.STEP, step.name), view or StepView(name=step.name, state=State.PENDING, reason=Reason.WAITING_FOR_STEP, needs=step.needs)
        )

    def _observe(self, step: Step, role: Role) -> StepView | None:
        """The step by its recorded end, else by its newest Job; None when it has not begun."""
        slot = (role, step.name)
        recorded = self.observed.recorded.get(slot)
        if recorded and recorded.state.is_end:
            return _view(step, role, recorded)
        attempts = self.observed.attempts.get(slot, ())
        newest = self._by_force(attempts[-1]) if attempts else None
        known = max(recorded.attempt if recorded else 0, self.observed.vanished.get(slot, 0))
        if known > (newest.attempt if newest else 0):
            job = recorded.job if recorded and recorded.attempt == known else ""
            message = f"Its Job {job or 'of attempt ' + str(known)} is gone, and nobody saw it end."
            begun = recorded or StepResult(state=State.RUNNING)
            lost = replace(begun, state=State.LOST, reason=Reason.JOB_VANISHED, message=message, attempt=known, job=job, finished=self.now)
            return _view(step, role, lost)
        next_number = (newest.attempt if newest else 0) + 1
        refusal = self.observed.refusals.get((role, step.name, next_number))
        if refusal and refusal.until is None:
            return _view(step, role, StepResult(state=State.FAILED, reason=refusal.reason, message=refusal.message, attempt=next_number))
        if newest is None:
            return None
        view = StepView(name=step.name, role=role, needs=step.needs, **newest.facts())
        finished = newest.finished or (self.now if newest.state.is_end else None)
        outputs = newest.outputs if newest.state is State.SUCCEEDED else None
        view = replace(view, started=attempts[0].started or attempts[0].created, finished=finished, outputs=outputs)
        if newest.state is State.FAILED and newest.attempt <= step.retry.limit:
            due = (newest.finished or newest.created) + step.retry.delay(len(attempts))
            tries = Tries(failed=newest.attempt, of=step.retry.limit + 1, by="Jobyard", again=due)
            return replace(view, state=State.PENDING, reason=Reason.RETRY_BACK_OFF, tries=tries)
        return view

    def _by_force(self, attempt: Attempt) -> Attempt:
        """The attempt; one that was stopped and whose pods outlived their time counts as ended, and they are deleted by force."""
        if attempt.state.is_end or attempt.stop_deadline is None:
            return attempt
        if self.now < attempt.stop_deadline:
            self.wakes.append(attempt.stop_deadline)
            return attempt
        self.actions.append(Kill(job=attempt.job))
        state = State.CANCELLED if self.observed.cancelled else State.FAILED
        reason = Reason.CANCELLED if self.observed.cancelled else Reason.TIMEOUT
        message = (
            "It was stopped, and its pods did not end in time: they were force-deleted, and may still run if their node can't be reached."
        )
        return replace(attempt, state=state, reason=reason, message=message, finished=self.now)

    def _gate(self, step: Step) -> StepView:
        needs = [self.views[Role.STEP, need] for need in step.needs]
        view = StepView(name=step.name, state=State.PENDING, reason=Reason.WAITING_FOR_STEP, needs=step.needs)
        if any(not need.state.is_end for need in needs):
            return view
        bad = next((need for need in needs if need.state is not State.SUCCEEDED), None)
        if bad:
            reason = Reason.NEEDS_FAILED if _counts_as_failure(bad) else bad.reason
            return replace(view, state=State.SKIPPED, reason=reason)
        return replace(view, state=State.SUCCEEDED, reason="", finished=max((n.finished for n in needs if n.finished), default=None))

    # --- may the run go on? ---

    def _halt(self) -> Reason | None:
        """Why nothing new may start, if so."""
        if self.observed.cancelled:
            return Reason.CANCELLED
        if self.workflow.timeout is not None:
            if (begun := self.observed.begun) is None:
                return Reason.RUN_FAILED if self._has_failed() else None
            if self.now >= begun + self.workflow.timeout:
                return Reason.TIMEOUT
            self.wakes.append(begun + self.workflow.timeout)
        return Reason.RUN_FAILED if self._has_failed() else None

    def _has_failed(self) -> bool:
        """Whether a step has failed so that nothing new may start."""
        return self.workflow.on_failure is not OnFailure.FINISH and self.failures > 0

    def _stop_what_must(self, halt: Reason | None) -> None:
        for (role, name), attempts in self.observed.attempts.items():
            newest = attempts[-1]
            if newest.resumed:  # ours to stop until its run is released, whoever resumed it
                self.actions.append(Stop(job=newest.job, reason=newest.stopping))
            if newest.state.is_end or newest.stopping:
                continue
            if halt is Reason.CANCELLED or (halt is Reason.TIMEOUT and role is Role.STEP):
                self.actions.append(Stop(job=newest.job, reason=halt))
                continue
            if role is not Role.STEP:
                continue
            step = self.workflow.by_name[name]
            if step.stops_on_start_error and newest.start_error:
                given_up = newest.created + PATIENCE_WITH.get(newest.start_error, timedelta(0))
                if self.now >= given_up:
                    self.actions.append(Stop(job=newest.job, reason=newest.start_error))
                    continue
                self.wakes.append(given_up)
            waits = newest.state is State.PENDING and not newest.has_run  # between two tries it is pending too
            for allowed, reason in ((step.timeout, Reason.TIMEOUT), (step.start_timeout if waits else None, Reason.START_TIMEOUT)):
                if allowed is None:
                    continue
                if self.now >= newest.created + allowed:
                    self.actions.append(Stop(job=newest.job, reason=reason))
                    break
                self.wakes.append(newest.created + allowed)

    # --- what is due ---

    def _start(self, halt: Reason | None) -> None:
        limit = self.workflow.parallelism
        room = limit - self._active() if limit else None
        for step in self.workflow.ordered:
            slot = (Role.STEP, step.name)
            view = self.views[slot]
            if view.state.is_end or (view.state is State.RUNNING) or self._has_live_job(slot):
                continue
            if step.is_gate:
                self._show(slot, self._gate(step))
                continue
            verdict = self._turn(step, view, halt)
            if verdict is not None:
                self._show(slot, verdict)
                continue
            if room is not None and room <= 0:
                self._show(slot, replace(view, state=State.PENDING, reason=Reason.WAITING_FOR_LIMIT, tries=None))
                continue
            if self._create(Role.STEP, step, view) and room is not None:
                room -= 1

    def _turn(self, step: Step, view: StepView, halt: Reason | None) -> StepView | None:
        """The step as it stands when it may not start now; None when it is due."""
        if view.reason == Reason.RETRY_BACK_OFF:
            if halt:  # the retry will not come: the last attempt's end is the step's
                return self._last_attempt(step)
            if view.tries and view.tries.again and view.tries.again > self.now:
                self.wakes.append(view.tries.again)
                return view
            return None
        needs = [self.views[Role.STEP, need] for need in step.needs]
        # What its needs say comes before a cancel or a timeout: a step that was skipped stays so, whatever comes later.
        skip = self._skip(step, needs)
        if skip:
            return replace(view, state=State.SKIPPED, reason=skip)
        if halt is Reason.CANCELLED:
            return replace(view, state=State.CANCELLED, reason=halt)
        if halt is Reason.TIMEOUT:
            return replace(view, state=State.SKIPPED, reason=halt)
        if any(not need.state.is_end for need in needs):
            return replace(view, reason=Reason.WAITING_FOR_STEP)
        return None

    def _skip(self, step: Step, needs: list[StepView]) -> Reason | None:
        """Why the step's turn will never come, if so."""
        failed = any(_counts_as_failure(need) for need in needs)
        if step.when is When.SUCCEEDED:
            if failed:
                return Reason.NEEDS_FAILED
            if any(need.state is State.SKIPPED and need.reason != Reason.TIMEOUT for need in needs):
                return Reason.NOT_NEEDED
            return Reason.RUN_FAILED if self._has_failed() else None
        if step.when is When.FAILED and not failed and all(need.state in (State.SUCCEEDED, State.SKIPPED) for need in needs):
            return Reason.NOT_NEEDED
        return None

    def _last_attempt(self, step: Step) -> StepView:
        once = replace(step, retry=Retry())
        view = self._observe(once, Role.STEP)
        return view if view is not None else self.views[Role.STEP, step.name]

    def _create(self, role: Role, step: Step, view: StepView | None) -> bool:
        """Asks for the step's next Job, unless the cluster said to wait."""
        number = (view.attempt if view else 0) + 1
        refusal = self.observed.refusals.get((role, step.name, number))
        base = view or StepView(name=step.name, role=role, state=State.PENDING, needs=step.needs)
        if refusal and refusal.until and refusal.until > self.now:
            self.wakes.append(refusal.until)
            self._show((role, step.name), replace(base, state=State.PENDING, reason=refusal.reason, message=refusal.message, tries=None))
            return False
        self.actions.append(Create(role=role, step=step.name, attempt=number))
        if not base.tries:
            self._show((role, step.name), replace(base, state=State.PENDING, reason=Reason.WAITING_FOR_POD))
        return True

    def _has_live_job(self, slot: Slot) -> bool:
        attempts = self.observed.attempts.get(slot, ())
        return bool(attempts) and not attempts[-1].state.is_end

    def _active(self) -> int:
        return sum(not attempts[-1].state.is_end for attempts in self.observed.attempts.values())

    # --- revert: one at a time, the last to complete first ---

    def _revert(self, halt: Reason | None) -> None:
        if self.workflow.on_failure is not OnFailure.REVERT:
            return
        steps = [view for (role, _), view in self.views.items() if role is Role.STEP]
        wanted = halt is not Reason.CANCELLED and all(view.state.is_end for view in steps) and any(_failed(view) for view in steps)
        done = [view for view in steps if view.state is State.SUCCEEDED and self.workflow.by_name[view.name].revert]
        # Kubernetes tells times to the second: within one, who is needed by another completed before it.
        place = {step.name: index for index, step in enumerate(self.workflow.ordered)}
        done.sort(key=lambda view: (view.finished or self.observed.created, place[view.name]), reverse=True)
        waiting = False
        for finished in done:
            step = replace(self.workflow.by_name[finished.name], needs=(), retry=Retry())
            view = self._observe(step, Role.REVERT)
            if view is None and not wanted:
                continue
            slot = (Role.REVERT, step.name)
            self._show(slot, view or StepView(name=step.name, role=Role.REVERT, state=State.PENDING, reason=Reason.WAITING_FOR_STEP))
            if view is None and not waiting:
                self._create(Role.REVERT, step, None)
            waiting = waiting or not self.views[slot].state.is_end

    # --- the end ---

    def _conclude(self, halt: Reason | None) -> tuple[State, str]:
        views = self.views.values()
        if all(view.state.is_end for view in views):
            if halt is Reason.CANCELLED and any(view.state is State.CANCELLED for view in views):
                return State.CANCELLED, Reason.CANCELLED
            if halt is Reason.TIMEOUT and any(view.state is not State.SUCCEEDED for view in views):
                return State.FAILED, Reason.TIMEOUT
            if any(view.state is State.CANCELLED for view in views):
                return State.CANCELLED, Reason.CANCELLED
            if any(_failed(view) for view in views):
                return State.FAILED, Reason.STEP_FAILED
            return State.SUCCEEDED, ""
        if any(view.state is State.RUNNING or (view.state.is_end and view.state is not State.SKIPPED) for view in views):
            return State.RUNNING, ""
        reasons = [view.reason for view in views if view.reason and view.reason != Reason.WAITING_FOR_STEP]
        return State.PENDING, reasons[0] if reasons else ""

    def _finished(self) -> datetime:
        """When the run ended: with its last step, where each step has an end of its own; else it ends by this decision."""
        ends = [view.finished for view in self.views.values()]
        known = [end for end in ends if end is not None]
        return max(known) if ends and len(known) == len(ends) else self.now

    def _write(self, state: State, reason: str, finished: datetime | None) -> None:
        news: dict[Slot, StepResult] = {}
        due = self.now
        for slot, view in self.views.items():
            if self.workflow.by_name[view.name].is_gate:
                continue
            result = _result(view)
            known = self.observed.recorded.get(slot)
            if result is None or (known and (known.state, known.attempt) == (result.state, result.attempt)):
                continue
            news[slot] = result
            # What a Job tells can wait: the Job is there to tell it again. What we decided (skipped, cancelled before it began) is known
            # nowhere else, and could be decided otherwise at the next look.
            due = min(due, view.finished or view.started or self.now) if result.job else START_OF_TIME
        if state.is_end:
            self.actions.append(Write(results=news, state=state, reason=reason, finished=finished))
        elif news:
            if due + RECORD_AFTER <= self.now:
                self.actions.append(Write(results=news))
            else:
                self.wakes.append(due + RECORD_AFTER)


def _failed(view: StepView) -> bool:
    return view.state in (State.FAILED, State.LOST)


def _counts_as_failure(view: StepView) -> bool:
    """Whether a step that needs this one, `when: failed`, has its turn: this failed, or was skipped because another did."""
    return _failed(view) or (view.state is State.SKIPPED and view.reason in (Reason.NEEDS_FAILED, Reason.RUN_FAILED))


def _view(step: Step, role: Role, result: StepResult) -> StepView:
    return StepView(name=step.name, role=role, needs=step.needs if role is Role.STEP else (), **result.facts())


def _result(view: StepView) -> StepResult | None:
    """What the record keeps of a step; None when it has nothing to tell yet."""
    if not view.job and not view.state.is_end:
        return None
    kept = StepResult(**view.facts())
    return kept if view.state.is_end else replace(kept, state=State.RUNNING, reason="", message="", finished=None)
