"""A step, or a Job by itself, with all that is known of why it stands where it stands: the same for a run as for a lone Job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobyard.model.back_off import between_tries
from jobyard.model.diagnosis import diagnose
from jobyard.model.objects import Event, Job, Pod
from jobyard.model.run import Reason, State, StepView
from jobyard.model.standing import stands


def explained(view: StepView, job: Job, pods: Sequence[Pod], events: Sequence[Event]) -> StepView:
    """The step of this Job with its diagnosis and its tries, where there is something to explain."""
    if view.state in (State.SUCCEEDED, State.SKIPPED):
        return view
    diagnosis = diagnose(job, pods, events)
    # What is wrong is more than who is waited for.
    message = "" if diagnosis and view.reason == Reason.WAITING_FOR_POD else view.message
    tries = view.tries or (between_tries(job, pods) if view.reason == Reason.RETRY_BACK_OFF else None)
    return replace(view, diagnosis=diagnosis, message=message, tries=tries)


def lone(job: Job, pods: Sequence[Pod], events: Sequence[Event]) -> StepView:
    """Any Job as it stands, ours or not, as if it were a step of its own name."""
    name = job.metadata.name
    return explained(StepView(name=name, **stands(job, pods).facts() | {"job": name}), job, pods, events)
