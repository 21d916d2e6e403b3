"""Workflow, Step, what they need, cycles, order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from jobyard.model.parameters import Parameter
from jobyard.model.template import Template


class When(StrEnum):
    """When a step's turn has come, once all that it needs has ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ALWAYS = "always"


class OnFailure(StrEnum):
    """What a failed step means for the rest of the run."""

    STOP = "stop"
    """Nothing new starts; what runs may end."""
    FINISH = "finish"
    """Steps that don't need the failed one go on."""
    REVERT = "revert"
    """As stop; then the revert Jobs of the steps that succeeded run, the last to complete first."""


class Cleanup(StrEnum):
    """After which ends a run's Jobs are deleted."""

    NEVER = "never"
    SUCCEEDED = "succeeded"
    ALWAYS = "always"


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a failed step is tried again, and how long after: the back-off doubles each time, up to `longest`."""

    limit: int = 0
    backoff: timedelta = timedelta(seconds=10)
    longest: timedelta = timedelta(minutes=10)

    def delay(self, failures: int) -> timedelta:
        """How long to wait after the `failures`-th failure, counted from 1."""
        if self.backoff >= self.longest:
            return self.backoff
        doubled: timedelta = self.backoff * 2 ** min(failures - 1, 30)
        return min(doubled, self.longest)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A node of a workflow. Each attempt of it is one Job.

    A step without a Job is a gate: it has ended as soon as what it needs has. A phase's barrier and a folder's name are gates, so that
    N steps that wait for M others take N + M needs, not N times M.
    """

    name: str
    job: Template | None
    needs: tuple[str, ...] = ()
    when: When = When.SUCCEEDED
    retry: Retry = Retry()
    timeout: timedelta | None = None
    start_timeout: timedelta | None = None
    """How long an attempt may wait for a pod of its to run."""
    stops_on_start_error: bool = False
    """An attempt whose pod can't start (image, configuration, crash loop) is stopped, with that as the reason, instead of waiting on."""
    limits: tuple[str, ...] = ()
    """Named limits that each of its Jobs counts for."""
    revert: Template | None = None

    @property
    def is_gate(self) -> bool:
        return self.job is None


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """Named steps and what they need. A lone Job manifest is a workflow of one step."""

    name: str
    steps: tuple[Step, ...]
    parameters: tuple[Parameter, ...] = ()
    parallelism: int = 0
    """How many Jobs of a run may be active at once; 0 means no limit."""
    timeout: timedelta | None = None
    max_runs: int = 0
    """How many runs of this workflow may be active at once in a namespace; 0 means no limit."""
    limits: tuple[str, ...] = ()
    """Named limits that a run of it counts for."""
    retention: timedelta | None = None
    """How long after its end a run is kept; None: as long as nobody sweeps it."""
    on_failure: OnFailure = OnFailure.STOP
    cleanup: Cleanup = Cleanup.NEVER
    namespace: str | None = None
    """Where the file itself says that it wants to run; None when it does not say."""
    keeps_names: bool = False
    """Its Jobs bear their manifests' own names, as their source promises; a finished one of an earlier run of that source makes room."""
    could_be_job: bool = False
    """A run of it, which has a record of its own, might have been its only Job: that Job then has the name that it would have there, so that of
    two that ask for the same run in one moment only one gets a Job."""
    look_every: timedelta | None = None
    """Look at a run at least this often, though nothing changed (Jobernetes' refresh_time)."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The parameters' values, once a run has them."""

    @cached_property
    def by_name(self) -> dict[str, Step]:
        return {step.name: step for step in self.steps}

    @cached_property
    def position(self) -> dict[str, int]:
        """Where each step stands in the file, counted from 0."""
        return {step.name: index for index, step in enumerate(self.steps)}

    @cached_property
    def ordered(self) -> tuple[Step, ...]:
        """The steps so that each stands after what it needs, else as in the file."""
        return tuple(self.by_name[name] for name in order({step.name: step.needs for step in self.steps}))

    @cached_property
    def jobs(self) -> tuple[Step, ...]:
        """The steps that have a Job, as in the file."""
        return tuple(step for step in self.steps if not step.is_gate)


def order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """The names so that each stands after what it needs, otherwise as given. Names in a cycle are left out."""
    position = {name: index for index, name in enumerate(needs)}
    missing = {name: len({need for need in wanted if need in position}) for name, wanted in needs.items()}
    dependents: dict[str, list[str]] = {name: [] for name in needs}
    for name, wanted in needs.items():
        for need in dict.fromkeys(wanted):
            if need in dependents:
                dependents[need].append(name)
    ready = deque(name for name in needs if missing[name] == 0)
    done: list[str] = []
    while ready:
        name = ready.popleft()
        done.append(name)
        for dependent in dependents[name]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                ready.append(dependent)
    return done


def find_cycle(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """One cycle, in order, its first name repeated at the end: `[a, b, a]` says that a needs b and b needs a. Empty when there is none."""
    stuck = set(needs) - set(order(needs))
    if not stuck:
        return []
    # Whoever is stuck needs somebody who is stuck: following that leads into a cycle.
    seen: dict[str, int] = {}
    path: list[str] = []
    name = next(each for each in needs if each in stuck)
    while name not in seen:
        seen[name] = len(path)
        path.append(name)
        name = next(need for need in needs[name] if need in stuck)
    return [*path[seen[name] :], name]


def contradictions(steps: Mapping[str, Step]) -> Iterator[tuple[str, str]]:
    """Each step that can never run, and why; also each that wants a failure, with "" where it can. `steps`: without a cycle.

    A contradiction begins where a step wants another to fail: it is met by those that need both of them to succeed.
    """
    wanted: dict[str, list[str]] = {}
    for step in steps.values():
        if step.when is When.SUCCEEDED:
            for need in step.needs:
                wanted.setdefault(need, []).append(step.name)
    told: set[str] = set()
    for step in steps.values():
        if step.when is not When.FAILED:
            continue
        yield step.name, "" if step.needs else _contradiction(steps, step.name)
        if len(step.needs) == 1:
            for name in sorted((_behind(step.name, wanted) & _behind(step.needs[0], wanted)) - told):
                told.add(name)
                yield name, _contradiction(steps, name)


def _behind(name: str, wanted: Mapping[str, Sequence[str]]) -> set[str]:
    """Every step that needs this one to succeed, directly or not. `wanted`: who does directly."""
    found: set[str] = set()
    todo = [name]
    while todo:
        more = [each for each in wanted.get(todo.pop(), ()) if each not in found]
        found.update(more)
        todo += more
    return found


def _contradiction(steps: Mapping[str, Step], name: str) -> str:
    """Why step `name` can never run, or an empty string.

    Sound, not complete: it speaks only of what must hold for the step to run (a step with one need, and every need of a step that
    wants success), so no step that could run is ever refused.
    """
    step = steps[name]
    if step.when is When.FAILED and not step.needs:
        return "it runs when something that it needs failed, but it needs nothing"
    must: dict[str, tuple[When, str]] = {}
    todo: list[tuple[str, When, str]] = []

    def demand(of: Step) -> None:
        if of.when is When.SUCCEEDED:
            todo.extend((need, When.SUCCEEDED, of.name) for need in of.needs)
        elif of.when is When.FAILED and len(of.needs) == 1:
            todo.append((of.needs[0], When.FAILED, of.name))

    demand(step)
    while todo:
        need, wanted, by = todo.pop()
        if need not in steps:
            continue
        other = must.get(need)
        if other is not None:
            if other[0] is not wanted:
                failed_for, succeeded_for = (by, other[1]) if wanted is When.FAILED else (other[1], by)
                return f"it would need {need} both to succeed (for {succeeded_for}) and to fail (for {failed_for})"
            continue
        must[need] = (wanted, by)
        # A failure is said of skipped steps too, so only success tells something about what stands before.
        if wanted is When.SUCCEEDED:
            demand(steps[need])
    return ""
