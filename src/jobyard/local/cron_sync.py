"""The CronJob controller's decision: from a CronJob, its Jobs and the time to a new status, which Job to make and which to delete. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from jobyard.local import times
from jobyard.local.job_sync import condition, is_finished

Tree = dict[str, Any]

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LONGEST = 1000
"""Characters of a schedule."""
TOO_MANY = 100
"""Starts that were missed after which Kubernetes warns; the newest is made all the same."""


@dataclass
class CronSync:
    """What is to be done for a CronJob."""

    status: Tree
    create: datetime | None = None
    """The scheduled time of the Job to make."""
    delete: list[Tree] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    again: datetime | None = None


def schedule(text: str, zone: str | None, after: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    """The times of a schedule after a moment; with `reverse` those before it, the newest first. Raises ValueError when it is no schedule
    or the zone is none."""
    fields = _MACROS.get(text.strip(), text.strip()).replace("?", "*").split()
    if len(text) > _LONGEST or len(fields) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}")
    try:
        local = after.astimezone(ZoneInfo(zone or "UTC"))
        return CronSim(" ".join(fields), local, reverse=reverse)
    except (CronSimError, ZoneInfoNotFoundError, ValueError, OSError, AssertionError) as error:
        raise ValueError(str(error)) from None


def sync(cron: Tree, jobs: Sequence[Tree], now: datetime) -> CronSync:
    """One look at a CronJob; `jobs` are those it controls."""
    spec, old = cron["spec"], cron.get("status") or {}
    out = CronSync(status={key: value for key, value in old.items() if key != "active"})
    active = _active(out, old.get("active") or [], jobs)
    if not cron["metadata"].get("deletionTimestamp"):
        _clean(out, spec, jobs)
        if not spec.get("suspend"):
            active = _start(out, cron, active, jobs, now)
    if active:
        out.status["active"] = active
    return out


def _active(out: CronSync, known: list[Tree], jobs: Sequence[Tree]) -> list[Tree]:
    """The Jobs still going on; each that has ended since the last look is told once."""
    by_uid = {job["metadata"]["uid"]: job for job in jobs}
    kept = []
    for reference in known:
        job, name = by_uid.get(reference.get("uid", "")), reference.get("name", "")
        if job is None:
            out.events.append(("Normal", "MissingJob", f"Active job went missing: {name}"))
        elif is_finished(job):
            kind = "Complete" if condition(job["status"], "Complete") else "Failed"
            out.events.append(("Normal", "SawCompletedJob", f"Saw completed job: {name}, condition: {kind}"))
        else:
            kept.append(reference)
    ends = [job["status"]["completionTime"] for job in jobs if (job.get("status") or {}).get("completionTime")]
    last = max([*ends, out.status.get("lastSuccessfulTime") or ""])
    if last:
        out.status["lastSuccessfulTime"] = last
    return kept


def _start(out: CronSync, cron: Tree, active: list[Tree], jobs: Sequence[Tree], now: datetime) -> list[Tree]:
    spec, status = cron["spec"], out.status
    earliest = times.parse(status.get("lastScheduleTime") or cron["metadata"]["creationTimestamp"])
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None:
        earliest = max(earliest, times.after(now, -deadline))
    try:
        coming = schedule(spec["schedule"], spec.get("timeZone"), now)
        past = schedule(spec["schedule"], spec.get("timeZone"), times.after(now.replace(microsecond=0), 1), reverse=True)
    except ValueError as error:
        zone = spec.get("timeZone")
        reason, text = (
            ("UnknownTimeZone", f"invalid timeZone: {zone!r}")
            if "zone" in str(error).lower()
            else ("UnparseableSchedule", f"unparseable schedule: {spec['schedule']!r}: {error}")
        )
        out.events.append(("Warning", reason, text))
        return active
    out.again = next(iter(coming), None)
    # Backwards from now, and no further than it matters: nobody knows how long ago the earliest is.
    missed = list(islice(_since(earliest, past), TOO_MANY + 1))
    if not missed:
        return active
    if len(missed) > TOO_MANY:
        text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        out.events.append(("Warning", "TooManyMissedTimes", text))
    due = missed[0]
    policy = spec.get("concurrencyPolicy")
    if active and policy == "Forbid":
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        out.events.append(("Normal", "JobAlreadyActive", text))
        return active
    if active and policy == "Replace":
        uids = {reference.get("uid") for reference in active}
        out.delete += [job for job in jobs if job["metadata"]["uid"] in uids]
        active = []
    out.create = due
    status["lastScheduleTime"] = times.stamp(due)
    return active


def _since(earliest: datetime, past: Iterator[datetime]) -> Iterator[datetime]:
    """The times after `earliest`, from the newest back. It ends where a change of the clocks would have it go round in a circle."""
    before = times.LAST
    for moment in past:
        if not earliest < moment < before:
            return
        yield moment
        before = moment


def _clean(out: CronSync, spec: Tree, jobs: Sequence[Tree]) -> None:
    """Finished Jobs beyond the history's limits, the oldest first."""
    for kind, name, default in (("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)):
        ended = [job for job in jobs if (found := condition(job.get("status") or {}, kind)) and found["status"] == "True"]
        ended.sort(key=lambda job: ((job["status"].get("startTime") or ""), job["metadata"]["name"]))
        limit = spec.get(name, default)
        out.delete += ended[: max(len(ended) - limit, 0)]


def job_name(cron: Tree, due: datetime) -> str:
    """The name of the Job of a scheduled time: its minutes since 1970, so no time is made twice."""
    return f"{cron['metadata']['name']}-{int(due.timestamp()) // 60}"
