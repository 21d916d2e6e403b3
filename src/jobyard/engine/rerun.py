"""A finished run once more: all of it, or from where it failed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jobyard.engine.job_home import is_there, put
from jobyard.model.errors import CannotRerun, NotEnded, NothingFailed
from jobyard.model.objects import Manifest
from jobyard.model.run import Reason, Role, RunRequest, RunView, State, StepResult, StepView
from jobyard.model.template import Path
from jobyard.model.workflow import Workflow


def rerun(workflow: Workflow, view: RunView, key: str, *, failed_only: bool, trigger: str = "cli") -> RunRequest:
    """The request for a new run of the same workflow with the same values. Raises NotEnded, NothingFailed.

    With `failed_only`, steps that succeeded are carried over with their outputs, unless their revert Job undid them, or something that
    they need runs anew.
    """
    if not view.state.is_end:
        raise NotEnded(run=view.name, state=view.state)
    carried: dict[tuple[Role, str], StepResult] = {}
    if failed_only:
        stands = _stands(workflow, view)
        if len(stands) == len(workflow.steps):
            raise NothingFailed(run=view.name)
        for step in stands.values():
            if step is not None and step.state is State.SUCCEEDED:
                message = f"It succeeded in run {view.name}."
                told = StepResult(**{**step.facts(), "reason": Reason.REUSED, "message": message, "job": ""})
                carried[Role.STEP, step.name] = told
    return RunRequest(
        trigger=trigger,
        key=key,
        workflow=workflow,
        namespace=view.namespace,
        inputs=workflow.values,
        carried=carried,
        waits=False,
        key_names_workflow=True,
    )


def _stands(workflow: Workflow, view: RunView) -> dict[str, StepView | None]:
    """The steps (and gates, as None) that would end as they did, and so need not run: those that succeeded or had no turn, as long as the
    same holds for all that they need."""
    ended = {step.name: step for step in view.steps if step.role is Role.STEP}
    undone = {step.name for step in view.steps if step.role is Role.REVERT and step.job}
    undone |= {need for step in workflow.steps if step.is_gate and step.name in undone for need in step.needs}
    stands: dict[str, StepView | None] = {}
    for step in workflow.ordered:
        known = ended.get(step.name)
        if step.name in undone or any(need not in stands for need in step.needs):
            continue
        if step.is_gate or (known is not None and (known.state is State.SUCCEEDED or known.reason == Reason.NOT_NEEDED)):
            stands[step.name] = None if step.is_gate else known
    return stands


def reveal(workflow: Workflow, literals: Sequence[Path], spec: Mapping[str, Any], run: str) -> Workflow:
    """The workflow of a run that is one Job, with what its record hides at `literals` taken from the Job's own specification. Raises
    CannotRerun where it is not to be had there: outside the specification (metadata of a Job are anybody's to change), or gone."""
    step = workflow.steps[0]
    if step.job is None:
        return workflow
    manifest = step.job.manifest
    for path in literals:
        manifest = put(manifest, path, _value(manifest, {"spec": spec}, path, run))
    return replace(workflow, steps=(replace(step, job=replace(step.job, manifest=manifest)), *workflow.steps[1:]))


def _value(manifest: Manifest, live: Any, path: Path, run: str) -> str:
    """What stands at a path in the live Job. Lists are followed by the names of what is in them: something may have been put before it."""
    mine: Any = manifest if is_there(manifest, path) else None
    for part in path:
        mine = mine[part] if mine is not None else None
        if isinstance(part, int) and isinstance(live, list):
            same = [each for each in live if isinstance(each, dict) and each.get("name") == mine["name"]] if _has_name(mine) else live
            live = same[0] if _has_name(mine) and len(same) == 1 else live[part] if same and part < len(live) else None
        else:
            live = live.get(part) if isinstance(live, dict) else None
    if mine is None or not isinstance(live, str):
        why = "the values that its trigger put in are stored nowhere else and are gone"
        raise CannotRerun(run=run, why=why, remedy="Send the message again.")
    return live


def _has_name(tree: Any) -> bool:
    return isinstance(tree, dict) and "name" in tree
