"""The JSON of what is told: the same shapes from every face. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobyard.model.diagnosis import Diagnosis
from jobyard.model.finding import Finding
from jobyard.model.run import Role, Run, RunView, StepView
from jobyard.service.reasons import Answer

if TYPE_CHECKING:
    from jobyard.triggers.git.history import Transition
    from jobyard.triggers.git.moves import Move


def time(moment: datetime | None) -> str | None:
    """RFC 3339, in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def listed_json(run: Run) -> dict[str, Any]:
    """A run in a list: what its record says without its workflow being read."""
    return _run_json(run, run.created)


def run_json(view: RunView) -> dict[str, Any]:
    """A run as one JSON object: the same shape in `run` and `show`."""
    return {**_run_json(view, view.started), "steps": [step_json(step) for step in view.steps]}


def _run_json(run: Run | RunView, started: datetime) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "workflow": run.workflow,
        "namespace": run.namespace,
        "trigger": run.trigger,
        **({"origin": dict(run.origin)} if run.origin else {}),
        "state": run.state,
        "reason": run.reason,
        "started": time(started),
        "finished": time(run.finished),
    }


def step_json(step: StepView) -> dict[str, Any]:
    """A step of a run; `reverts` stands only where it is one that reverts."""
    found: dict[str, Any] = {
        "name": step.name,
        "state": step.state,
        "reason": step.reason,
        "message": step.message,
        "attempt": step.attempt,
        "job": step.job,
        "started": time(step.started),
        "finished": time(step.finished),
        "needs": list(step.needs),
        "outputs": dict(step.outputs) if step.outputs is not None else None,
        "diagnosis": diagnosis_json(step.diagnosis) if step.diagnosis else None,
    }
    if step.role is Role.REVERT:
        found["reverts"] = True
    return found


def diagnosis_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Why a Job is not running, or failed."""
    return {
        "reason": diagnosis.reason,
        "sentence": diagnosis.sentence,
        "detail": diagnosis.detail,
        "remedy": diagnosis.remedy,
        "pod": diagnosis.pod,
        "container": diagnosis.container,
        "exitCode": diagnosis.exit_code,
    }


def answer_json(answer: Answer) -> dict[str, Any]:
    """The answer to "why?"; `diagnosis` stands only where there is one."""
    found: dict[str, Any] = {"about": answer.about, "sentence": answer.sentence, "detail": answer.detail, "remedy": answer.remedy}
    if answer.diagnosis:
        found["diagnosis"] = diagnosis_json(answer.diagnosis)
    return found


def finding_json(finding: Finding) -> dict[str, Any]:
    """A mistake in a file, or a warning, with its place."""
    return {
        "file": finding.position.file,
        "line": finding.position.line,
        "column": finding.position.column,
        "severity": "error" if finding.is_error else "warning",
        "what": finding.what,
        "expected": finding.expected,
        "remedy": finding.remedy,
    }


def move_json(move: Move) -> dict[str, Any]:
    """A transition of a file in Git, as it is made."""
    facts = {"file": move.name, "from": move.file.place, "to": move.target, "run": move.run, "namespace": move.namespace}
    return {**facts, "reason": move.reason}


def transition_json(transition: Transition) -> dict[str, Any]:
    """A transition of a file in Git, as its history tells it."""
    return {
        "at": transition.at.isoformat(),
        "commit": transition.commit,
        "file": transition.file,
        "state": transition.state,
        "run": transition.run,
        "namespace": transition.namespace,
        "reason": transition.reason,
    }
