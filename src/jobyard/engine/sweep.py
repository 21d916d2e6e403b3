"""Deletes what retention says may go: a run's record, and with it all that it owns. From labels and annotations alone, a page at a time."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from typing import Any

from jobyard.contracts import Clock, Cluster
from jobyard.engine import home
from jobyard.engine.pages import pages
from jobyard.model import names
from jobyard.model.errors import Conflict, Forbidden
from jobyard.model.job import moment
from jobyard.model.objects import CONFIG_MAPS, JOBS, Job, Kind, Other
from jobyard.model.retention import Candidate, expired
from jobyard.model.run import Run

log = logging.getLogger("jobyard.engine")


async def find_expired(
    cluster: Cluster, clock: Clock, namespace: str, default: timedelta | None, keep: int, cared_for: Collection[str] = ()
) -> list[Run]:
    """The runs that may go, the newest first. `cared_for`: labels of triggers that look after their own unreleased runs."""
    return [run for run, _ in await _going(cluster, clock, namespace, default, keep, cared_for)]


async def _going(
    cluster: Cluster, clock: Clock, namespace: str, default: timedelta | None, keep: int, cared_for: Collection[str]
) -> list[tuple[Run, Kind[Any]]]:
    candidates: dict[str, Candidate] = {}
    runs: dict[str, tuple[Run, Kind[Any]]] = {}
    async for seen, kind in _records(cluster, namespace):
        run = home.read(seen, namespace)
        if not run.released and seen.metadata.labels.get(names.TRIGGER) in cared_for:
            continue
        candidate = Candidate(
            id=run.uid,
            created=run.created,
            finished=(run.finished or run.created) if run.state.is_end else None,
            released=run.released,
            retention=home.retention(seen),
        )
        # What can't go is not remembered: a namespace may hold a hundred thousand.
        if keep or expired([candidate], default, 0, clock.now()):
            candidates[run.uid], runs[run.uid] = candidate, (run, kind)
    return [runs[uid] for uid in expired(candidates.values(), default, keep, clock.now())]


async def sweep(
    cluster: Cluster, clock: Clock, namespace: str, default: timedelta | None = None, keep: int = 0, cared_for: Collection[str] = ()
) -> list[Run]:
    """Deletes the runs that may go; says which. Safe to repeat, and to be cut short: a run goes as a whole, by its owner references."""
    going = await _going(cluster, clock, namespace, default, keep, cared_for)
    gone: list[Run] = []
    refusals: dict[str, str] = {}
    for run, kind in going:
        try:
            await _delete(cluster, kind, namespace, run.name, run.uid)
        except Forbidden as forbidden:
            refusals.setdefault(kind.plural, str(forbidden))
        else:
            gone.append(run)
    for why in refusals.values():
        log.warning("namespace %s: what retention takes stays for now: %s", namespace, why)
    return gone


async def delete_stopped(cluster: Cluster, clock: Clock, namespace: str) -> int:
    """Deletes the Jobs that we stopped and whose own TTL is over: none of Kubernetes' fires for them. What a person has resumed since is
    theirs. Says how many."""
    count = 0
    for job in await cluster.list(JOBS, namespace, labels=f"{names.SELECTOR},{names.EXPIRING}"):
        at = moment(job.metadata.annotations.get(names.DELETE_AT))
        if at is None or at > clock.now() or not job.spec.suspend or names.STOP not in job.metadata.annotations:
            continue
        with contextlib.suppress(Forbidden):  # the next sweep says so
            await _delete(cluster, JOBS, namespace, job.metadata.name, job.metadata.uid)
            count += 1
    return count


async def _delete(cluster: Cluster, kind: Kind[Any], namespace: str, name: str, uid: str) -> None:
    try:
        await cluster.delete(kind, namespace, name, uid=uid)
    except Conflict:
        return  # another's by now


async def _records(cluster: Cluster, namespace: str) -> AsyncIterator[tuple[Job | Other, Kind[Any]]]:
    """Every record and its kind: by metadata alone, but for open Jobs, whose own status says how they stand."""
    for job in await cluster.list(JOBS, namespace, labels=f"{names.RECORD_SELECTOR},!{names.ENDED}"):
        if home.is_record(job):
            yield job, JOBS
    kinds: tuple[tuple[Kind[Any], str], ...] = ((JOBS, f"{names.RECORD_SELECTOR},{names.ENDED}"), (CONFIG_MAPS, names.RECORD_SELECTOR))
    for kind, selector in kinds:
        with contextlib.suppress(Forbidden) if kind is CONFIG_MAPS else contextlib.nullcontext():  # without, only Jobs are records here
            async for page in pages(cluster, kind, namespace, selector):
                for seen in page:
                    if home.is_record(seen):
                        yield seen, kind
