"""The two homes of a run's record, and what both say alike. Pure.

A run of one plain Job that starts at once *is* that Job (`job_home`): its labels and annotations say what a ConfigMap would. Every other
run has a ConfigMap (`record`), which owns its Jobs. Who asks about a run (which key, how it stands, when it ended, what it counts for) asks its
labels and annotations, which are spelled the same in both homes: `read` is the one place that reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from jobyard.engine import limits
from jobyard.model import names
from jobyard.model.job import hand_back_ttl
from jobyard.model.job import read as read_job
from jobyard.model.objects import ConfigMap, Job, Manifest, Metadata, Other
from jobyard.model.run import Reason, Role, Run, RunRequest, State, StepResult
from jobyard.model.template import Path
from jobyard.model.workflow import Workflow
from jobyard.model.written import moment, whole

Record = ConfigMap | Job
"""The object that remembers a run."""

ORIGIN_LIMIT = 20_000
MESSAGE_LIMIT = 1000
"""Characters of a message that a record keeps."""
SUFFIXES = 9
"""How many ids are tried for a request whose name another request, or somebody else's object, has."""
_EPOCH = datetime.fromtimestamp(0, UTC)


class StoredResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step's result as a record keeps it, with the slot that it belongs to."""

    role: Role = Role.STEP
    step: str
    result: StepResult


class StoredRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run was asked to do, as its record keeps it; it never changes."""

    workflow: Workflow
    carried: tuple[StoredResult, ...] = ()
    literals: tuple[Path, ...] = ()
    """Where in the manifest of its only Job `***` stands for what its trigger put there. An author's own `***` is no literal."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run's Jobs that are due are not made: what who drives it noted for others."""

    reason: str
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class End:
    """How a run ended."""

    state: State
    reason: str = ""
    finished: datetime | None = None


# --- what is written ---


def ids(request: RunRequest) -> list[str]:
    """The ids that the request's run may have, in the order in which they are tried. All but the first are for names that are taken."""
    return [request.run_id, *(f"{request.run_id}-{number}" for number in range(2, SUFFIXES + 1))]


def record_labels(request: RunRequest, run: str) -> dict[str, str]:
    """The labels of a record, in both homes."""
    return {
        names.MANAGED_BY: names.JOBYARD,
        names.ROLE: "run",
        names.RUN: run,
        names.TRIGGER: names.label_value(request.trigger),
        names.PREFIX: request.prefix,
        names.OPEN: "true",
        **({names.SERVICE: request.service} if request.service else {}),
    }


def record_annotations(request: RunRequest) -> dict[str, str]:
    """The annotations of a record, in both homes."""
    flow = request.workflow
    found = {
        names.TRIGGER: request.trigger,
        names.KEY: request.key[: names.KEY_SHOWN],
        names.KEY_SHA256: names.key_sha256(request.trigger, request.key),
        names.WORKFLOW: flow.name,
        names.SCOPES: ",".join(limits.scopes(flow)),
    }
    origin = msgspec.json.encode(dict(request.origin)).decode() if request.origin else ""
    if 0 < len(origin) <= ORIGIN_LIMIT:
        found[names.ORIGIN] = origin
    if request.objects:
        found[names.OBJECTS] = ",".join(f"{each['kind']}/{each['metadata']['name']}" for each in request.objects)[:ORIGIN_LIMIT]
    if flow.retention is not None:
        found[names.RETENTION] = str(int(flow.retention.total_seconds()))
    return found


def job_labels(run: str, trigger: str, role: str, step: str, attempt: int) -> dict[str, str]:
    """The labels of a Job of a run, and of its pods."""
    return {
        names.MANAGED_BY: names.JOBYARD,
        names.RUN: run,
        names.STEP: names.label_value(step),
        names.ATTEMPT: str(attempt),
        names.ROLE: role,
        names.TRIGGER: names.label_value(trigger),
    }


def release(record: Record, end: End, now: datetime) -> Manifest:
    """The merge patch by which the source lets go of a run that has ended: the TTL handed back, the record open no more."""
    labels = {names.OPEN: None, names.STATE: str(end.state), names.ENDED: _day(end, now)}
    annotations = {names.RELEASED: now.isoformat(), names.REASON: end.reason, names.FINISHED: (end.finished or now).isoformat()}
    change: Manifest = {"metadata": {"labels": labels, "annotations": annotations}}
    back = hand_back_ttl(record, end.finished, now) if isinstance(record, Job) else None
    if back is None:
        return change
    labels |= back["metadata"].get("labels") or {}
    annotations |= back["metadata"]["annotations"]
    return change | ({"spec": back["spec"]} if "spec" in back else {})


def release_job(job: Job, end: End, now: datetime) -> Manifest | None:
    """The merge patch by which a Job that a released run owns gets its TTL back; it leaves the watch in the same write. None where it has
    none: that is worth no write."""
    change = hand_back_ttl(job, read_job(job).finished or end.finished, now)
    if change is not None:
        change["metadata"].setdefault("labels", {})[names.ENDED] = _day(end, now)
    return change


def _day(end: End, now: datetime) -> str:
    return (end.finished or now).astimezone(UTC).date().isoformat()


# --- what is read ---


def is_record(seen: ConfigMap | Job | Other) -> bool:
    """Whether this is a run's record by its labels and its whole name: a copy of one that somebody made has another name."""
    labels = seen.metadata.labels
    run = labels.get(names.RUN, "")
    return labels.get(names.ROLE) == "run" and bool(run) and seen.metadata.name == names.record(labels.get(names.PREFIX, ""), run)


def is_anothers(seen: ConfigMap | Job | Other, service: str) -> bool:
    """Whether a record bears the name of another service than this one, which then drives it, lets go of it and deletes it: it alone knows what
    it still serves. To who is no service ('', a person) all are alike."""
    return bool(service) and seen.metadata.labels.get(names.SERVICE, service) != service


def read(seen: ConfigMap | Job | Other, namespace: str, *, existed: bool = True) -> Run:
    """What a record's labels and annotations say of its run; of a Job that is not released yet, its status too."""
    metadata = seen.metadata
    annotations = metadata.annotations
    found, going = end(seen), _going(seen)
    return Run(
        id=metadata.labels.get(names.RUN, ""),
        name=metadata.name,
        uid=metadata.uid,
        namespace=namespace,
        trigger=annotations.get(names.TRIGGER) or metadata.labels.get(names.TRIGGER, ""),
        key=annotations.get(names.KEY, ""),
        workflow=annotations.get(names.WORKFLOW, ""),
        created=metadata.creation_timestamp or _EPOCH,
        state=found.state if found else going.state,
        reason=found.reason if found else going.reason,
        finished=found.finished if found else None,
        held=names.HELD in annotations,
        released=names.ENDED in metadata.labels,
        origin=origin(metadata),
        existed=existed,
    )


def _going(seen: ConfigMap | Job | Other) -> StepResult:
    """How a run stands that has not ended, as far as its record says."""
    if isinstance(seen, Job):
        return read_job(seen)
    annotations = seen.metadata.annotations
    if seen.metadata.labels.get(names.STATE) == State.RUNNING:
        return StepResult(state=State.RUNNING)
    if names.HELD in annotations or names.INCOMPLETE in annotations:
        return StepResult(state=State.PENDING, reason=Reason.HELD if names.HELD in annotations else Reason.INCOMPLETE)
    noted = waiting(seen)
    return StepResult(state=State.PENDING, reason=noted.reason if noted else "")


def end(seen: ConfigMap | Job | Other) -> End | None:
    """How the run ended, if it has: by the record's labels; of a Job that is not released yet, by its own status."""
    metadata = seen.metadata
    finished = moment(metadata.annotations.get(names.FINISHED))
    try:
        state = State(metadata.labels.get(names.STATE, ""))
    except ValueError:
        state = State.PENDING
    if state.is_end and finished is not None and (names.ENDED in metadata.labels or not isinstance(seen, Job)):
        return End(state=state, reason=metadata.annotations.get(names.REASON, ""), finished=finished)
    if isinstance(seen, Job) and (result := read_job(seen)).state.is_end:
        return End(state=result.state, reason=result.reason, finished=result.finished)
    return None


def waiting(seen: ConfigMap | Job | Other) -> Waiting | None:
    """Why its Jobs that are due were not made, as its driver noted last; None where it noted nothing."""
    try:
        return msgspec.json.decode(seen.metadata.annotations.get(names.WAITS, ""), type=Waiting)
    except (msgspec.MsgspecError, RecursionError):
        return None


def note_waiting(reason: str, message: str) -> Manifest:
    """The merge patch that notes it."""
    text = msgspec.json.encode(Waiting(reason=reason, message=message[:MESSAGE_LIMIT])).decode()
    return {"metadata": {"annotations": {names.WAITS: text}}}


def origin(metadata: Metadata) -> Mapping[str, str]:
    """Where the run comes from."""
    try:
        return msgspec.json.decode(metadata.annotations.get(names.ORIGIN, "{}"), type=dict[str, str])
    except (msgspec.MsgspecError, RecursionError):
        return {}


def scopes(seen: ConfigMap | Job | Other) -> list[str]:
    """The scopes of the limits that the run counts for."""
    return [each for each in seen.metadata.annotations.get(names.SCOPES, "").split(",") if each]


def retention(seen: ConfigMap | Job | Other) -> timedelta | None:
    """How long after its end the run is kept, where its workflow says so."""
    seconds = whole(seen.metadata.annotations.get(names.RETENTION, ""), 10**11)
    return None if seconds is None else timedelta(seconds=seconds)


def same_request(seen: ConfigMap | Job | Other, request: RunRequest) -> bool:
    """Whether an object that has the name of a request's record is that record."""
    return is_record(seen) and key_of(seen) == names.key_sha256(request.trigger, request.key)


def key_of(record: ConfigMap | Job | Other) -> str | None:
    """What tells a record's request from every other."""
    return record.metadata.annotations.get(names.KEY_SHA256)
