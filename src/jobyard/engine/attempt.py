"""Which Jobs are attempts of a run, and what such a Job tells, with its pods. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from jobyard.engine.decision import Attempt
from jobyard.model import names
from jobyard.model.job import outputs, owned_by, read
from jobyard.model.objects import Job, Pod
from jobyard.model.run import Role, State
from jobyard.model.standing import has_run, stands, start_error
from jobyard.model.workflow import Workflow
from jobyard.model.written import moment, whole

STOP_MARGIN = timedelta(minutes=1)
"""How long after their grace period the pods of a stopped Job may take before they are deleted by force: a node may be dead."""
GRACE_LIMIT = 7 * 86400
"""Seconds of grace beyond which nobody means what the manifest says."""

_EPOCH = datetime.fromtimestamp(0, UTC)


def job_name(workflow: Workflow, run: str, role: Role, step: str, attempt: int) -> str:
    """The name of an attempt's Job: the manifest's own where the workflow keeps names, the record's where it might have been that, else from
    the key."""
    if workflow.could_be_job:
        return names.record(names.prefix(workflow.name), run)
    known = workflow.by_name[step]
    template = known.job if role is Role.STEP else known.revert
    own = (template.manifest.get("metadata") or {}).get("name") if template and workflow.keeps_names else None
    return str(own) if own else names.job_name(run, role, step, attempt)


def read_attempt(job: Job, pods: Collection[Pod], workflow: Workflow, *, run: str, record: str) -> Attempt | None:
    """What the Job tells; None when it is no attempt of this run. `record`: the uid of the run's record, which may be the Job itself."""
    labels, annotations = job.metadata.labels, job.metadata.annotations
    step, number = annotations.get(names.STEP, ""), whole(labels.get(names.ATTEMPT, ""), 10**6)
    is_record = job.metadata.uid == record
    try:
        role = Role.STEP if is_record else Role(labels.get(names.ROLE, ""))
    except ValueError:
        return None
    if number is None or number < 1 or not owned_by(job, record):
        return None
    if not _has_template(workflow, role, step):
        return None
    if not is_record and job.metadata.name != job_name(workflow, run, role, step, number):
        return None  # people copy Jobs, labels and owner included
    its_pods = list(pods)
    result = stands(job, its_pods)
    stopping = annotations.get(names.STOP, "")
    if stopping and not result.state.is_end:
        result = replace(result, state=State.RUNNING, reason=stopping)  # on its way out: its pods get their time
    facts = result.facts() | {"job": job.metadata.name, "attempt": number}
    facts["outputs"] = outputs(its_pods) if result.state is State.SUCCEEDED else None
    return Attempt(
        role=role,
        step=step,
        created=job.metadata.creation_timestamp or _EPOCH,
        has_run=has_run(job, its_pods),
        start_error=start_error(its_pods),
        stopping=stopping,
        resumed=bool(stopping) and job.spec.suspend is not True and read(job).finished is None,
        stop_deadline=_stop_deadline(job),
        deleting=job.metadata.deletion_timestamp is not None,
        **facts,
    )


def _has_template(workflow: Workflow, role: Role, step: str) -> bool:
    known = workflow.by_name.get(step)
    return known is not None and (known.job if role is Role.STEP else known.revert) is not None


def _stop_deadline(job: Job) -> datetime | None:
    """When the pods of a Job that is being stopped must be gone: their grace period and a minute after."""
    asked = moment(job.metadata.annotations.get(names.STOPPED_AT))
    if asked is None:
        return None
    grace = job.spec.template.spec.termination_grace_period_seconds
    return asked + timedelta(seconds=30 if grace is None else max(0, min(grace, GRACE_LIMIT))) + STOP_MARGIN
