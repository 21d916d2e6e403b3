"""Which logs are meant: of what was tried of a run, what was asked for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from jobyard.engine.tries import Tried, Try, newest
from jobyard.model.errors import NoSuchStep, WrongInput
from jobyard.model.finding import did_you_mean
from jobyard.model.objects import ContainerStatus, Pod
from jobyard.model.run import Reason, StepView
from jobyard.service.reasons import title


class NoSuchAttempt(WrongInput):
    """The step is there, the attempt is not, or has no log."""

    sentence = "{what} has no logs of attempt {number}{known}"
    what: str
    number: int
    known: str


class NoSuchContainer(WrongInput):
    """No pod that is meant has a container of this name."""

    sentence = "no container {container}; {hint}"
    container: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What `jobyard logs` was asked."""

    run: str
    step: str | None = None
    attempt: int | None = None
    every: bool = False
    """All attempts, instead of the newest."""
    containers: tuple[str, ...] = ()
    follow: bool = False
    tail: int | None = None
    since: timedelta | None = None
    timestamps: bool = False
    output: str = "text"


def steps(tried: Tried) -> list[str]:
    """The names that may be asked for, as they are printed: each step's, and of those that were reverted `NAME (revert)`."""
    shown = [title(step) for step in tried.view.steps] if tried.view else []
    return list(dict.fromkeys([*shown, *(each.title for each in tried.tries)]))


def wanted(name: str, asked: str | None) -> bool:
    """Whether a step is meant: it, or the folder that it is in."""
    return asked is None or name == asked or name.startswith(f"{asked}/")


def choose(tried: Tried, asked: LogOptions) -> list[Try]:
    """The tries whose logs are meant, in the order in which their steps started. Raises NoSuchStep, NoSuchAttempt."""
    found = [each for each in tried.tries if wanted(each.title, asked.step) or each.job == asked.step]
    known = steps(tried)
    if asked.step is not None and not found and not any(wanted(each, asked.step) for each in known):
        hint = did_you_mean(asked.step, known) or f"it has: {', '.join(known[:12])}"
        raise NoSuchStep(run=tried.name, step=asked.step, hint=hint)
    if asked.attempt is not None:
        numbers = [each.number for each in found]
        found = [each for each in found if each.number == asked.attempt]
        if not found:
            told = f", only of attempts {min(numbers)} to {max(numbers)}" if len(set(numbers)) > 1 else ""
            told = told or (f", only of attempt {numbers[0]}" if numbers else ", and none of any other")
            what = f"step {asked.step} of {tried.name}" if asked.step else tried.name
            raise NoSuchAttempt(what=what, number=asked.attempt, known=told)
    elif not asked.every:
        found = newest(found)
    started = {title(step): str(step.started or "~") for step in tried.view.steps} if tried.view else {}
    places = {name: place for place, name in enumerate(known)}
    return sorted(found, key=lambda each: (started.get(each.title, "~"), places[each.title], each.number))


def statuses(pod: Pod) -> list[ContainerStatus]:
    """What is known of a pod's containers, in the order in which they run."""
    return [*pod.status.init_container_statuses, *pod.status.container_statuses]


def has_started(status: ContainerStatus) -> bool:
    """Whether there is a log of the container."""
    return bool(status.state.running or status.state.terminated or status.last_state.terminated or status.restart_count)


def check_containers(pods: Sequence[Pod], asked: LogOptions) -> None:
    """Raises NoSuchContainer when a container was asked for that no pod has."""
    known = list(dict.fromkeys(status.name for pod in pods for status in statuses(pod)))
    for name in asked.containers:
        if known and name not in known:
            raise NoSuchContainer(container=name, hint=did_you_mean(name, known) or f"its containers: {', '.join(known)}")


def none_yet(tried: Tried, asked: LogOptions) -> str:
    """Why there is no log at all, in a sentence."""
    if tried.view is None:
        return "No logs: no pod of the Job has started, or its pods are deleted."
    meant = [step for step in tried.view.steps if wanted(title(step), asked.step) or step.job == asked.step]
    if meant and all(step.reason == Reason.REUSED for step in meant):
        return f"No logs: {_were(meant)} not run again. {meant[0].message}"
    if meant and all(step.state.is_end and not step.job for step in meant):
        return f"No logs: {_were(meant)} never started."
    if meant and all(step.state.is_end for step in meant):
        return "No logs: the pods are deleted, or none ever started."
    return "No logs yet: no pod has started. `jobyard why` says what it waits for."


def _were(steps: Sequence[StepView]) -> str:
    return f"step {title(steps[0])} was" if len(steps) == 1 else f"{len(steps)} steps were"


def how(pod: Pod) -> str:
    """How a pod ended, or that it goes on, in a few words."""
    codes = [str(each.state.terminated.exit_code) for each in statuses(pod) if each.state.terminated and each.state.terminated.exit_code]
    phase = pod.status.phase.lower()
    return f"{phase}, exit code {', '.join(codes)}" if codes else phase
