"""A step, or a Job by itself, with all that is known of why it stands where it stands: the same for a run as for a lone Job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from jobyard.model.back_off import between_tries, next_begins
from jobyard.model.diagnosis import diagnose
from jobyard.model.objects import Event, Job, Pod
from jobyard.model.run import Reason, State, StepView
from jobyard.model.standing import stands


def explained(view: StepView, job: Job, pods: Sequence[Pod], events: Sequence[Event]) -> StepView:
    """The step of this Job with its diagnosis and its tries, where there is something to explain."""
    if view.state in (State.SUCCEEDED, State.SKIPPED):
        return view
    view = replace(view, diagnosis=diagnose(job, pods, events))
    if view.reason == Reason.RETRY_BACK_OFF:
        return view if view.tries else replace(view, tries=between_tries(job, pods))
    if view.reason != Reason.WAITING_FOR_POD or view.diagnosis is None:
        return view
    if any(pod.metadata.name == view.diagnosis.pod and pod.status.phase == "Failed" for pod in pods) and (tries := next_begins(job)):
        return replace(view, reason=Reason.RETRY_BACK_OFF, message="", tries=tries)  # what was wrong is over; nothing is, with the next try
    return replace(view, message="")  # what is wrong is more than who is waited for


_HELD_UP = (Reason.RETRY_BACK_OFF, Reason.QUOTA_EXCEEDED, Reason.NO_RIGHT, Reason.WAITING_FOR_NAME)


def is_held_up(step: StepView) -> bool:
    """Whether a step does not run for a reason that is not the run's own: an image, a quota, a right, a failure before another try."""
    return step.state is State.PENDING and (bool(step.diagnosis or step.tries) or step.reason in _HELD_UP)


def held_up_by(steps: Iterable[StepView]) -> str:
    """Why of a run that goes on no step runs: the reason, in a word, of the first that is held up; '' where one runs, or none is."""
    held = ""
    for step in steps:
        if step.state is State.RUNNING:
            return ""
        if not held and (is_held_up(step) or (step.state is State.PENDING and step.reason == Reason.WAITING_FOR_LIMIT)):
            held = step.diagnosis.reason if step.diagnosis and not step.tries else step.reason
    return held


_POD = re.compile(r"(.+?)((?:-[0-9]+)?)-[bcdfghjklmnpqrstvwxz2456789]{5}")
"""What the Job controller calls a pod: after its Job; in an indexed Job with its index; and five characters."""


def owner_names(pod: str) -> tuple[str, ...]:
    """The Jobs that a pod of this name may have been of: all that is left to tell by, once it is gone."""
    found = _POD.fullmatch(pod)
    if not found:
        return ()
    return (found[1], found[1] + found[2]) if found[2] else (found[1],)


def after(event: Event, job: Job) -> bool:
    """Whether the event was told while there was this Job, not an earlier one of its name."""
    told, made = event.last_timestamp or event.event_time or event.metadata.creation_timestamp, job.metadata.creation_timestamp
    return told is not None and made is not None and told >= made


def concerns(event: Event, job: Job, pods: Sequence[Pod]) -> bool:
    """Whether an event of the Job's namespace is about it or a pod of its, also one that is gone."""
    about = event.involved_object
    if about.uid and about.uid in (job.metadata.uid, *(pod.metadata.uid for pod in pods)):
        return True
    return about.kind == "Pod" and job.metadata.name in owner_names(about.name) and after(event, job)


def lone(job: Job, pods: Sequence[Pod], events: Sequence[Event]) -> StepView:
    """Any Job as it stands, ours or not, as if it were a step of its own name. `events`: any of its namespace."""
    name = job.metadata.name
    return explained(
        StepView(name=name, **stands(job, pods).facts() | {"job": name}),
        job,
        pods,
        [event for event in events if concerns(event, job, pods)],
    )
