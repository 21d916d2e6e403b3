"""The JSON of what is told: the same shapes from every face. Pure.

One rule for all of them: each key is always there, and what there is nothing to say of is null, never an empty text. Times are RFC 3339, in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobyard.model import names
from jobyard.model.back_off import Tries
from jobyard.model.diagnosis import Diagnosis
from jobyard.model.finding import Finding
from jobyard.model.objects import Job
from jobyard.model.run import Role, Run, RunView, StepView
from jobyard.service.reasons import Answer, reason_of
from jobyard.supervise import Stage

if TYPE_CHECKING:
    from jobyard.files.objects import SideObject
    from jobyard.model.workflow import Workflow
    from jobyard.service.board import Level, Notes
    from jobyard.triggers.git.history import Standing, Transition
    from jobyard.triggers.git.moves import Move

Shape = dict[str, Any]
NOT_SERVED = "not served"
"""The state of a trigger that somebody paused and that the service's settings don't name (any more)."""


def time(moment: datetime | None) -> str | None:
    """RFC 3339, in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def shape(**facts: Any) -> Shape:
    """An object of these facts, with null for what is empty."""
    return {name: None if fact == "" else time(fact) if isinstance(fact, datetime) else fact for name, fact in facts.items()}


def trigger_json(name: str, notes: Notes, leader: str | None) -> Shape:
    """A service's trigger, as its leader said last. `leader`: who leads just now, as far as a Lease tells."""
    standing, pause = notes.standing(name), notes.pauses.get(name)
    return shape(
        trigger=name,
        service=notes.service,
        state=standing.state if standing else NOT_SERVED,
        since=standing.since if standing else None,
        why=standing.error if standing and standing.state != Stage.RUNNING else None,
        until=standing.until if standing else None,
        failures=standing.failures if standing else 0,
        paused=shape(by=pause.by, at=pause.at) if pause else None,
        process=standing.by if standing else None,
        said=standing.said if standing else None,
        led=None if leader is None else bool(leader),
        queues=[_level_json(each) for each in standing.queues] if standing and standing.queues else None,
    )


def _level_json(level: Level) -> Shape:
    """A queue that a trigger serves."""
    return shape(
        queue=level.queue,
        waiting=level.waiting,
        more=level.more,
        oldest=level.oldest,
        runs=level.runs,
        waits=level.waits,
        until=level.until,
    )


def listed_json(run: Run) -> Shape:
    """A run in a list: what its record says without its workflow being read."""
    return _run_json(run, run.created)


def run_json(view: RunView) -> Shape:
    """A run as one JSON object: the same shape in `run` and `show`."""
    return {**_run_json(view, view.started), "steps": [step_json(step) for step in view.steps]}


def _run_json(run: Run | RunView, started: datetime) -> Shape:
    return shape(
        id=run.id,
        name=run.name,
        workflow=run.workflow,
        namespace=run.namespace,
        trigger=run.trigger,
        origin=dict(run.origin) or None,
        state=run.state,
        reason=run.reason,
        started=started,
        finished=run.finished,
    )


def step_json(step: StepView) -> Shape:
    """A step of a run, or what reverts one."""
    return shape(
        name=step.name,
        reverts=step.role is Role.REVERT,
        state=step.state,
        reason=reason_of(step),
        message=step.message,
        attempt=step.attempt,
        job=step.job,
        started=step.started,
        finished=step.finished,
        needs=list(step.needs),
        outputs=dict(step.outputs) if step.outputs is not None else None,
        **_why(step),
    )


def job_json(job: Job, stands: StepView) -> Shape:
    """A Job by itself, whoever made it. `run` and `step`: of which it is, where it is one of ours."""
    return shape(
        job=job.metadata.name,
        namespace=job.metadata.namespace,
        run=job.metadata.labels.get(names.RUN),
        step=job.metadata.annotations.get(names.STEP),
        state=stands.state,
        reason=reason_of(stands),
        message=stands.message,
        started=stands.started,
        finished=stands.finished,
        pods={"active": job.status.active or 0, "succeeded": job.status.succeeded or 0, "failed": job.status.failed or 0},
        **_why(stands),
    )


def _why(told: StepView | Answer) -> Shape:
    """What is known of why something does not run, or failed. `lastLines` are fetched where one looks at few steps."""
    return shape(diagnosis=diagnosis_json(told.diagnosis), tries=_tries(told.tries), lastLines=list(told.last_lines) or None)


def _tries(tries: Tries | None) -> Shape | None:
    """Between two tries; null else, and for `of` where nothing bounds them, for `next` where nobody knows when it comes."""
    if tries is None:
        return None
    return shape(failed=tries.failed, of=tries.of, by=tries.by, next=tries.again, part=tries.index)


def diagnosis_json(diagnosis: Diagnosis | None) -> Shape | None:
    """Why a Job is not running, or failed; null where there is nothing to explain."""
    if diagnosis is None:
        return None
    return shape(
        reason=diagnosis.reason,
        sentence=diagnosis.sentence,
        detail=diagnosis.detail,
        remedy=diagnosis.remedy,
        pod=diagnosis.pod,
        container=diagnosis.container,
        exitCode=diagnosis.exit_code,
    )


def answer_json(answer: Answer) -> Shape:
    """The answer to "why?"."""
    return shape(
        about=answer.about,
        sentence=answer.sentence,
        detail=answer.detail,
        remedy=answer.remedy,
        **_why(answer),
    )


def workflow_json(workflow: Workflow, objects: Iterable[SideObject]) -> Shape:
    """A workflow as its file says it: what `graph` draws."""
    return shape(
        workflow=workflow.name,
        namespace=workflow.namespace,
        parallelism=workflow.parallelism or None,
        steps=[
            shape(name=step.name, needs=list(step.needs), when=step.when, retries=step.retry.limit, reverts=step.revert is not None)
            for step in workflow.ordered
            if not step.is_gate
        ],
        objects=[object_json(each) for each in objects],
    )


def object_json(side: SideObject) -> Shape:
    """An object that a run makes before its Jobs. Not what it holds: it may be a Secret."""
    return shape(apiVersion=side.api_version, kind=side.kind, name=side.name, belonging=str(side.belonging))


def finding_json(finding: Finding) -> Shape:
    """A mistake in a file, or a warning, with its place."""
    return shape(
        file=finding.position.file,
        line=finding.position.line,
        column=finding.position.column,
        severity="error" if finding.is_error else "warning",
        what=finding.what,
        expected=finding.expected,
        remedy=finding.remedy,
    )


def move_json(move: Move) -> Shape:
    """A transition of a file in Git, as it is made."""
    facts: Mapping[str, Any] = {"file": move.name, "from": move.file.place, "to": move.target}
    return shape(**facts, run=move.run, namespace=move.namespace, reason=move.reason)


def transition_json(transition: Transition) -> Shape:
    """A transition of a file in Git, as its history tells it."""
    return shape(
        at=transition.at,
        commit=transition.commit,
        file=transition.file,
        state=transition.state,
        run=transition.run,
        namespace=transition.namespace,
        reason=transition.reason,
    )


def standing_json(standing: Standing) -> Shape:
    """Where a file of a repository lies, since when, and which run it is."""
    return shape(
        file=standing.file,
        state=standing.state,
        since=standing.at,
        run=standing.run,
        namespace=standing.namespace,
        reason=standing.reason,
    )
