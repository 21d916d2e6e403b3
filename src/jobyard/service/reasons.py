"""The answer to "why?": one plain sentence for a run, a step or a Job, and what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from jobyard.model.diagnosis import Diagnosis
from jobyard.model.job import read
from jobyard.model.objects import Job
from jobyard.model.run import Reason, Role, RunView, State, StepView


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A sentence about something, and what is behind it."""

    about: str
    sentence: str
    remedy: str = ""
    detail: str = ""
    diagnosis: Diagnosis | None = None
    name: str = ""
    """Of the run or the Job, as one would type it."""
    step: str = ""
    """The step that it is about, as it is printed."""

    @property
    def has_log(self) -> bool:
        return self.diagnosis is not None and self.diagnosis.has_log


def title(step: StepView) -> str:
    """The step's name as a person reads it."""
    return f"{step.name} (revert)" if step.role is Role.REVERT else step.name


def reason_of(step: StepView) -> str:
    """In one word why a step stands as it does, the same in text and JSON: what is wrong comes before what it waits for."""
    if step.diagnosis and step.state is not State.RUNNING:
        return step.diagnosis.reason
    return str(step.reason)


def as_text(answer: Answer) -> list[str]:
    """The answer in lines: the sentence, and below it what is known besides."""
    lines = [answer.sentence]
    lines += [f"  {part}" for part in (answer.detail, answer.remedy) if part]
    return lines


def of_run(view: RunView) -> list[Answer]:
    """Why a run stands where it stands: the steps that matter, or a word that all is well."""
    failed = [step for step in view.steps if step.state in (State.FAILED, State.LOST)]
    if failed:
        return [_of_step(step, view) for step in failed]
    if view.state is State.SUCCEEDED:
        return [Answer(about=view.name, sentence=f"Run {view.name} succeeded: all its steps did.")]
    if view.state is State.CANCELLED:
        return [Answer(about=view.name, sentence=f"Run {view.name} was cancelled.", remedy="Run the workflow again to start over.")]
    if view.state is State.FAILED:
        return [Answer(about=view.name, sentence=f"Run {view.name} failed: {_run_reason(view.reason)}.")]
    if stuck := held_up(view):
        return stuck
    running = [step for step in view.steps if step.state is State.RUNNING]
    if running:
        names = ", ".join(title(step) for step in running[:5]) + (f" and {len(running) - 5} more" if len(running) > 5 else "")
        return [Answer(about=view.name, sentence=f"Run {view.name} is running: {names}.")]
    waiting = [step for step in view.steps if step.state is State.PENDING]
    return [_of_step(step, view) for step in waiting[:1]] or [Answer(about=view.name, sentence=f"Run {view.name} has only just begun.")]


def held_up(view: RunView) -> list[Answer]:
    """What keeps steps from running that nothing in the run itself keeps: images, quotas, names."""
    pending = (step for step in view.steps if step.state is State.PENDING)
    return [_of_step(step, view) for step in pending if step.diagnosis or step.reason in (Reason.QUOTA_EXCEEDED, Reason.WAITING_FOR_NAME)]


def _run_reason(reason: str) -> str:
    return "its timeout passed" if reason == Reason.TIMEOUT else reason or "nobody knows why"


def _of_step(step: StepView, view: RunView) -> Answer:
    about = f"{view.name}/{step.name}"
    head = f"Step {title(step)} "
    if step.state in (State.FAILED, State.LOST):
        sentence = step.diagnosis.sentence if step.diagnosis else step.message or f"it is {step.state} ({step.reason})"
        remedy = (step.diagnosis.remedy if step.diagnosis else "") or _REMEDIES.get(step.reason, "")
        detail = step.diagnosis.detail if step.diagnosis else ""
        return Answer(
            about=about,
            sentence=f"{head}failed: {_lower(sentence)}",
            remedy=remedy,
            detail=detail,
            diagnosis=step.diagnosis,
            name=view.name,
            step=title(step),
        )
    if step.diagnosis:
        return Answer(
            about=about,
            sentence=f"{head}is not running: {_lower(step.diagnosis.sentence)}",
            remedy=step.diagnosis.remedy,
            detail=step.diagnosis.detail,
            diagnosis=step.diagnosis,
            name=view.name,
            step=title(step),
        )
    unfinished = [need for need in step.needs if any(each.name == need and not each.state.is_end for each in view.steps)]
    words = {
        Reason.WAITING_FOR_STEP: f"waits for {', '.join(unfinished or step.needs) or 'another step'}.",
        Reason.WAITING_FOR_LIMIT: "waits because as many Jobs of this run are active as its parallelism allows.",
        Reason.WAITING_FOR_POD: "waits for its pod to start.",
        Reason.RETRY_BACK_OFF: f"failed at attempt {step.attempt} and waits before the next.",
        Reason.QUOTA_EXCEEDED: "waits because the namespace's quota has no room for its Job.",
        Reason.WAITING_FOR_NAME: "waits until the name of its Job is free.",
    }
    sentence = (
        head + words.get(Reason(step.reason), f"waits ({step.reason}).") if step.reason in list(Reason) else f"{head}waits ({step.reason})."
    )
    return Answer(
        about=about, sentence=sentence, detail=step.message, remedy=f"If nothing drives the run any more: jobyard run --resume {view.name}"
    )


_REMEDIES: dict[str, str] = {
    Reason.NAME_TAKEN: "Delete or rename the other Job, then run the workflow again.",
    Reason.REFUSED: "Correct the manifest; `jobyard check FILE` asks the cluster beforehand.",
    Reason.OUTPUT_MISSING: "Write a JSON object with that key to /dev/termination-log in the step that is asked.",
    Reason.JOB_VANISHED: "Somebody or something deleted it; run the workflow again.",
}


def of_job(job: Job, diagnosis: Diagnosis | None) -> Answer:
    """Why a Job of any origin stands where it stands."""
    name, ending = job.metadata.name, read(job)
    if diagnosis:
        verb = "failed" if ending.state.is_end else "is not running"
        return Answer(
            about=name,
            sentence=f"Job {name} {verb}: {_lower(diagnosis.sentence)}",
            remedy=diagnosis.remedy,
            detail=diagnosis.detail,
            diagnosis=diagnosis,
            name=name,
        )
    words = {State.SUCCEEDED: "succeeded", State.RUNNING: "is running", State.PENDING: "waits for its pods to start"}
    return Answer(about=name, sentence=f"Job {name} {words.get(ending.state, str(ending.state))}.")


def _lower(sentence: str) -> str:
    """A sentence as it goes on after a colon."""
    first = sentence.split(" ", 1)[0]
    return (
        sentence
        if first.isupper() or first in ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim")
        else sentence[:1].lower() + sentence[1:]
    )
