"""What was tried of each step, and the pods that did it: whose logs there are. Pure.

A try is a Job where the step's `retry` owns the retries; where Kubernetes does (`backoffLimit`), each pod of the only Job is one, as long as
the Job runs one pod at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobyard.engine.logs import created
from jobyard.engine.run_sight import RunSight
from jobyard.model.objects import Job, Pod
from jobyard.model.run import Role, RunView

INDEX = "batch.kubernetes.io/job-completion-index"
"""Annotation of a pod of an indexed Job: which of its parts it does."""


@dataclass(frozen=True, kw_only=True)
class Try:
    """One attempt at a step, by number from 1."""

    step: str
    role: Role = Role.STEP
    number: int
    job: str
    by_pod: bool = False
    """Kubernetes makes the next one: another pod of the same Job."""
    pods: tuple[Pod, ...] = ()
    """The oldest first."""

    @property
    def title(self) -> str:
        """The step's name as a person reads it, and types it."""
        return f"{self.step} (revert)" if self.role is Role.REVERT else self.step

    @property
    def newest(self) -> tuple[Pod, ...]:
        """Its pods without those that another has replaced, as far as that can be told: in an indexed Job."""
        by_index = {pod.metadata.annotations.get(INDEX, pod.metadata.uid): pod for pod in self.pods}
        return tuple(by_index.values())


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What a person named, a run or a Job, and what was tried of it."""

    name: str
    view: RunView | None = None
    """None for a Job that is of no run."""
    tries: tuple[Try, ...] = ()
    job: str = ""
    """The Job that was named, in a run or of none; then the tries are those of that Job alone."""


def of_run(seen: RunSight) -> list[Try]:
    """The tries of all steps of a run, each step's in order. Jobs that are deleted have none."""
    workflow = seen.workflow
    found: list[Try] = []
    for (role, name), attempts in seen.observe({}).attempts.items():
        step = workflow.by_name.get(name) if workflow else None
        retried = len(attempts) > 1 or (step is not None and step.retry.limit > 0)
        for attempt in attempts:
            job = seen.jobs[attempt.job]
            pods = seen.pods.get(job.metadata.uid, {}).values()
            found += of_job(job, pods, name, role, None if not retried else attempt.attempt)
    return found


def of_job(job: Job, pods: Iterable[Pod], step: str = "", role: Role = Role.STEP, number: int | None = None) -> list[Try]:
    """The tries of one Job. With `number`, the Job is that try of its step."""
    name, ordered = job.metadata.name, sorted(pods, key=created)
    step = step or name
    if number is not None or not _one_at_a_time(job) or not ordered:
        return [Try(step=step, role=role, number=number or 1, job=name, pods=tuple(ordered))]
    status = job.status
    before = max((status.active or 0) + (status.succeeded or 0) + (status.failed or 0) - len(ordered), 0)  # whose pods are deleted
    return [
        Try(step=step, role=role, number=before + place, job=name, by_pod=True, pods=(pod,)) for place, pod in enumerate(ordered, start=1)
    ]


def _one_at_a_time(job: Job) -> bool:
    return job.spec.parallelism in (None, 1) and job.spec.completions in (None, 1)


def newest(tries: Sequence[Try]) -> list[Try]:
    """The last try of each step."""
    by_title: defaultdict[str, list[Try]] = defaultdict(list)
    for each in tries:
        by_title[each.title].append(each)
    return [max(each, key=lambda one: one.number) for each in by_title.values()]
