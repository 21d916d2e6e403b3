"""The answer to "why?": one plain sentence for a run, a step or a Job, and what to do. Pure.

`now`: the moment in which a person reads it, to whom a time that is near is told as the seconds until then. Without, it is told as a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from jobyard.model.back_off import Tries
from jobyard.model.cause import LOG_TELLS_MORE, Cause, Diagnosis
from jobyard.model.explained import is_held_up
from jobyard.model.run import Reason, Role, RunView, State, StepView
from jobyard.model.words import STATES, clause, words


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A sentence about something, and what is behind it."""

    about: str
    sentence: str
    remedy: str = ""
    detail: str = ""
    diagnosis: Diagnosis | None = None
    tries: Tries | None = None
    """Between two tries: how often it failed, and when it is tried again."""
    name: str = ""
    """Of the run or the Job, as one would type it."""
    step: str = ""
    """The step that it is about, as it is printed."""
    last_lines: tuple[str, ...] = ()
    """The end of its log, where somebody fetched it."""

    @property
    def has_log(self) -> bool:
        return self.diagnosis is not None and self.diagnosis.has_log


def title(step: StepView) -> str:
    """The step's name as a person reads it."""
    return f"{step.name} (revert)" if step.role is Role.REVERT else step.name


def reason_of(step: StepView) -> str:
    """In one word why a step stands as it does, the same in text and JSON: what is wrong comes before what it waits for."""
    if step.diagnosis and step.state is not State.RUNNING and not step.tries:
        return step.diagnosis.reason
    return str(step.reason)


def told(step: StepView, now: datetime | None = None) -> str:
    """Why a step or a Job stands as it does, in sentences without their subject; '' where there is nothing to say."""
    found = step.diagnosis
    if step.tries:
        often = failed_so_often(step.tries, found)
        return f"{often[:1].upper()}{often[1:]}; {next_try(step.tries, now)}."
    if found:
        return found.sentence
    if step.reason == Reason.WAITING_FOR_LIMIT and step.state is State.PENDING:
        known = step.message or "as many Jobs of this run are active as its parallelism allows."
        return f"{words(step.reason)}: {known[:1].lower()}{known[1:]}"
    if step.reason == Reason.WAITING_FOR_POD and step.message:
        return step.message
    return f"{words(step.reason)}." if step.reason else ""


def as_text(answer: Answer) -> list[str]:
    """The answer in lines: the sentence, what to do; then the words of whoever said so. That its log tells more comes last, and not at all
    where the lines themselves follow."""
    says_more = answer.remedy == LOG_TELLS_MORE
    parts = (answer.detail, "" if answer.last_lines else answer.remedy) if says_more else (answer.remedy, answer.detail)
    return [answer.sentence, *(f"  {line}" for part in parts for line in part.splitlines() if line.strip())]


def discreet(answer: Answer) -> Answer:
    """The answer for a log that more people may read than the run's own: without what its program said, which may be secret."""
    return replace(answer, detail="", last_lines=()) if answer.has_log else answer


# --- a run ---


def of_run(view: RunView, now: datetime | None = None) -> list[Answer]:
    """Why a run stands where it stands: the steps that matter, or a word that all is well. It never tells less than `of_job` of its Jobs."""
    telling = [_of_step(step, view, now) for step in view.steps if _is_telling(step, view)]
    if telling:
        return telling
    if view.state is State.SUCCEEDED:
        return [Answer(about=view.name, sentence=f"Run {view.name} succeeded: all its steps did.")]
    if view.state is State.CANCELLED:
        return [Answer(about=view.name, sentence=f"Run {view.name} was cancelled.", remedy="Run the workflow again to start over.")]
    if view.state.is_end:
        why = f" {words(view.reason)}." if view.reason else ""
        return [Answer(about=view.name, sentence=f"Run {view.name} {_is(view.state)}.{why}")]
    if view.reason in (Reason.HELD, Reason.INCOMPLETE):
        sentence = f"Run {view.name} {_is(view.state)}. {words(view.reason)}."
        return [Answer(about=view.name, sentence=sentence, remedy=_REMEDIES.get(view.reason, ""))]
    running = [step for step in view.steps if step.state is State.RUNNING]
    if running:
        names = ", ".join(title(step) for step in running[:5]) + (f" and {len(running) - 5} more" if len(running) > 5 else "")
        return [Answer(about=view.name, sentence=f"Run {view.name} is running: {names}.")]
    waiting = [step for step in view.steps if step.state is State.PENDING]
    return [_of_step(step, view, now) for step in waiting[:1]] or [
        Answer(about=view.name, sentence=f"Run {view.name} has only just begun.")
    ]


def _is_telling(step: StepView, view: RunView) -> bool:
    """Whether there is more to say of the step than that it runs, or waits as it should."""
    if step.state in (State.FAILED, State.LOST):
        return True
    if view.state.is_end:
        return False
    waits_for_pod = step.reason == Reason.WAITING_FOR_POD and bool(step.message)
    return is_held_up(step) or waits_for_pod or (step.state is State.RUNNING and step.diagnosis is not None)


def held_up(view: RunView, now: datetime | None = None) -> list[Answer]:
    """What keeps steps from running that nothing in the run itself keeps: images, quotas, rights, names, failures before another try. As told by
    who drives the run."""
    return [_about_step(step, view, now) for step in view.steps if is_held_up(step)]


def _about_step(step: StepView, view: RunView, now: datetime | None) -> Answer:
    return replace(_explain(step, f"Step {title(step)}", now), about=f"{view.name}/{step.name}", name=view.name, step=title(step))


def _of_step(step: StepView, view: RunView, now: datetime | None) -> Answer:
    answer = _about_step(step, view, now)
    if step.state is not State.PENDING or answer.remedy or (step.reason == Reason.WAITING_FOR_POD and step.job):
        return answer
    if step.reason == Reason.WAITING_FOR_POD:
        answer = replace(answer, sentence=f"Step {title(step)} may start, but its Job has not been created yet.")
    if step.reason == Reason.WAITING_FOR_STEP:
        unfinished = [need for need in step.needs if any(each.name == need and not each.state.is_end for each in view.steps)]
        answer = replace(answer, sentence=f"Step {title(step)} waits for {', '.join(unfinished or step.needs) or 'another step'}.")
    return replace(answer, remedy=f"If nothing drives the run any more: `jobyard run --resume {view.name}`")


# --- a Job by itself ---


def of_job(job: StepView, now: datetime | None = None) -> Answer:
    """Why a Job of any origin stands where it stands."""
    return _explain(job, f"Job {job.name}", now)


# --- both ---


def _explain(step: StepView, head: str, now: datetime | None) -> Answer:
    found = step.diagnosis
    common = Answer(
        about=step.name,
        name=step.name,
        sentence="",
        remedy=(found.remedy if found else "") or _REMEDIES.get(step.reason, ""),
        detail=found.detail if found else "",
        diagnosis=found,
        tries=step.tries,
        last_lines=step.last_lines,
    )
    said = told(step, now)
    if step.tries:
        return replace(common, sentence=f"{head} {said[:1].lower()}{said[1:]}")
    if step.state is State.RUNNING:
        return replace(common, sentence=f"{head} is running, but not all is well. {said}" if found else f"{head} is running.")
    if step.state in (State.SUCCEEDED, State.CANCELLED):
        return replace(common, sentence=f"{head} {_is(step.state)}.")
    detail = common.detail or (step.message if step.message.lower() not in said.lower() else "")
    return replace(common, sentence=f"{head} {_is(step.state)}. {said}".rstrip(), detail=detail)


def _is(state: State) -> str:
    """A state as a sentence goes on with it."""
    match state:
        case State.PENDING:
            return "is not running"
        case State.CANCELLED:
            return "was cancelled"
        case State.LOST | State.RUNNING:
            return f"is {STATES[state]}"
        case State.SKIPPED:
            return f"was {STATES[state]}"
    return STATES[state]


def failed_so_often(tries: Tries, found: Diagnosis | None) -> str:
    """How often something failed, and why the last time."""
    part = f" in part {tries.index}" if tries.index else ""
    often = f"failed {tries.failed} of {tries.of} times" if tries.of is not None else f"failed {tries.failed} times"
    return f"{often}{part}" + (f": {short(found)}" if found else "")


def short(found: Diagnosis) -> str:
    """A cause within a sentence, as short as it can be without saying less."""
    if found.reason == Cause.EXIT_CODE and found.exit_code is not None:
        return f"exit code {found.exit_code}"
    told = found.sentence.removesuffix(".")
    own = words(found.reason)
    return clause(found.reason) + told.removeprefix(own) if told.startswith(own) else told


def next_try(tries: Tries, now: datetime | None = None) -> str:
    """Who tries again, and when."""
    if tries.begins:
        return "its next try is about to run"
    return f"{tries.by} tries again {_when(tries.again, now) if tries.again else 'soon'}"


NEAR = timedelta(minutes=2)
"""What is nearer than that is told in seconds."""


def _when(moment: datetime, now: datetime | None) -> str:
    if now is None or not timedelta() <= moment - now < NEAR:
        return "now" if now is not None and moment < now else f"about {moment.astimezone().strftime('%H:%M')}"
    return f"in {math.ceil((moment - now).total_seconds())} s"


_REMEDIES: dict[str, str] = {
    Reason.NAME_TAKEN: "Delete or rename the other Job, then run the workflow again.",
    Reason.REFUSED: "Correct the manifest; `jobyard check FILE` asks the cluster beforehand.",
    Reason.OUTPUT_MISSING: "Write a JSON object with that key to /dev/termination-log in the step that is asked.",
    Reason.JOB_VANISHED: "Run the workflow again.",
    Reason.INCOMPLETE: "Submitting the same request again completes it.",
}
