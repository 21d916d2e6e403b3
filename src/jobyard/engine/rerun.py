"""A finished run once more: all of it, or from where it failed. Pure."""

from __future__ import annotations

from jobyard.model.errors import NotEnded, NothingFailed
from jobyard.model.run import Reason, Role, Run, RunRequest, RunView, State, StepResult


def rerun(run: Run, view: RunView, key: str, *, failed_only: bool, trigger: str = "cli") -> RunRequest:
    """The request for a new run of the same workflow with the same values. Raises NotEnded, NothingFailed.

    With `failed_only`, steps that succeeded are carried over with their outputs, unless their revert Job undid them.
    """
    if not view.state.is_end:
        raise NotEnded(run=run.id, state=view.state)
    carried: dict[tuple[Role, str], StepResult] = {}
    if failed_only:
        undone = {step.name for step in view.steps if step.role is Role.REVERT and step.job}
        for step in view.steps:
            if step.role is Role.STEP and step.state is State.SUCCEEDED and step.name not in undone:
                carried[Role.STEP, step.name] = StepResult(
                    state=State.SUCCEEDED,
                    reason=Reason.REUSED,
                    message=f"It succeeded in run {run.id}.",
                    attempt=step.attempt,
                    started=step.started,
                    finished=step.finished,
                    outputs=step.outputs,
                )
        if len(carried) == len(run.workflow.jobs):
            raise NothingFailed(run=run.id)
    return RunRequest(trigger=trigger, key=key, workflow=run.workflow, inputs=run.workflow.values, carried=carried, waits=False)
