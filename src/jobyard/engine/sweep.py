"""Deletes what retention says may go: a run's record, and with it all that it owns. From labels and annotations alone, a page at a
time; all of them are only looked through first where the newest are to be kept."""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from jobyard.contracts import Clock, Cluster
from jobyard.engine import home
from jobyard.engine.pages import pages
from jobyard.model import names
from jobyard.model.errors import Conflict, Forbidden, JobyardError, Rejected, Unavailable, WatchExpired, number
from jobyard.model.objects import CONFIG_MAPS, JOBS, Job, Kind, Other
from jobyard.model.retention import FOR_EVER, Candidate, Keeping, expired
from jobyard.model.run import Run, State
from jobyard.model.written import moment

TRIES = 5
"""How often a list is begun whose place the server forgets: deleting what is on a page may take longer than it remembers."""

log = logging.getLogger("jobyard.engine")


async def find_expired(
    cluster: Cluster, clock: Clock, namespace: str, keeping: Keeping, keep: int, cared_for: Collection[str] | None = ()
) -> list[Run]:
    """The runs that may go, the newest first. `cared_for`: labels of triggers that look after their own unreleased runs; None: of whom that
    is not known, so that of no source an unreleased run may go."""
    return _newest_first([each.run async for each in _going(cluster, clock, namespace, keeping, keep, cared_for, "")])


@dataclass(frozen=True, kw_only=True)
class _Going:
    """A run that may go, and the kind of its record."""

    run: Run
    kind: Kind[Any]


async def _going(
    cluster: Cluster, clock: Clock, namespace: str, keeping: Keeping, keep: int, cared_for: Collection[str] | None, service: str
) -> AsyncIterator[_Going]:
    """Each run that may go, once: as its page comes; where the newest are to be kept, when all are known."""
    candidates: dict[str, Candidate] = {}
    runs: dict[str, _Going] = {}
    told: set[str] = set()
    async for seen, kind in _records(cluster, namespace):
        if home.is_anothers(seen, service):
            continue
        run, trigger = home.read(seen, namespace), seen.metadata.labels.get(names.TRIGGER, "")
        if not run.released and _is_cared_for(trigger, cared_for):
            continue
        candidate = Candidate(
            id=run.uid,
            created=run.created,
            finished=(run.finished or run.created) if run.state.is_end else None,
            released=run.released or trigger in names.FACES,  # a person has nothing to let go of: only their command was gone too soon
            succeeded=run.state is State.SUCCEEDED,
            retention=home.retention(seen),
        )
        going = _Going(run=run, kind=kind)
        if keep:
            candidates[run.uid], runs[run.uid] = candidate, going
        elif run.uid not in told and expired([candidate], keeping, 0, clock.now()):
            told.add(run.uid)
            yield going
    for uid in expired(candidates.values(), keeping, keep, clock.now()):
        yield runs[uid]


def _is_cared_for(trigger: str, cared_for: Collection[str] | None) -> bool:
    return trigger not in names.FACES if cared_for is None else trigger in cared_for


def _newest_first(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (run.finished or run.created, run.uid), reverse=True)


async def sweep(
    cluster: Cluster,
    clock: Clock,
    namespace: str,
    keeping: Keeping = FOR_EVER,
    keep: int = 0,
    cared_for: Collection[str] | None = (),
    service: str = "",
    refused: list[JobyardError] | None = None,
) -> list[Run]:
    """Deletes the runs that may go, but for those of another service than `service`; says which, the newest first. One that can't be deleted
    stays, and the log says why; the others go. `refused` takes why instead. Safe to repeat, and to be cut short: a run goes as a whole, by
    its owner references. Raises what a list is answered."""
    gone: list[Run] = []
    with _telling(namespace, "run", " past retention") as kept:
        async for each in _going(cluster, clock, namespace, keeping, keep, cared_for, service):
            try:
                with contextlib.suppress(Conflict):  # another's by now
                    await cluster.delete(each.kind, namespace, each.run.name, uid=each.run.uid)
            except (Rejected, Unavailable) as error:
                if refused is not None:
                    refused.append(error)
                else:
                    kept[each.kind.plural, type(error)].append(why_kept(error))
            else:
                gone.append(each.run)
    return _newest_first(gone)


def why_kept(error: JobyardError) -> str:
    """Why an object could not be deleted, as a message goes on with it."""
    return f"no right to {error.right}" if isinstance(error, Forbidden) and error.right else str(error)


async def delete_stopped(cluster: Cluster, clock: Clock, namespace: str, service: str = "") -> int:
    """Deletes the Jobs that we stopped and whose own TTL is over: none of Kubernetes' fires for them. What a person has resumed since is
    theirs, also in this very moment, and so is a copy that they made of one. Says how many. One that can't be deleted keeps no other."""
    count = 0
    with _telling(namespace, "stopped Job") as kept:
        for job in await cluster.list(JOBS, namespace, labels=f"{names.SELECTOR},{names.EXPIRING}"):
            metadata = job.metadata
            at = moment(metadata.annotations.get(names.DELETE_AT))
            if at is None or at > clock.now() or not job.spec.suspend or names.STOP not in metadata.annotations:
                continue
            if home.is_anothers(job, service) or not (home.is_record(job) or metadata.owner_references):
                continue
            try:
                await cluster.delete(JOBS, namespace, metadata.name, uid=metadata.uid, version=metadata.resource_version)
                count += 1
            except Conflict:
                continue  # it has changed since: the next look sees how
            except (Rejected, Unavailable) as error:
                kept[JOBS.plural, type(error)].append(why_kept(error))
    return count


@contextlib.contextmanager
def _telling(namespace: str, noun: str, rest: str = "") -> Iterator[defaultdict[tuple[str, type[JobyardError]], list[str]]]:
    """Takes what can't be deleted, by its kind and by why; says so when all were tried, once for each."""
    kept: defaultdict[tuple[str, type[JobyardError]], list[str]] = defaultdict(list)
    try:
        yield kept
    finally:
        for whys in kept.values():
            log.warning("namespace %s: %s%s could not be deleted: %s", namespace, number(len(whys), noun), rest, whys[0])


async def _records(cluster: Cluster, namespace: str) -> AsyncIterator[tuple[Job | Other, Kind[Any]]]:
    """Every record and its kind: by metadata alone, but for open Jobs, whose own status says how they stand. Some may come twice."""
    for job in await cluster.list(JOBS, namespace, labels=f"{names.RECORD_SELECTOR},!{names.ENDED}"):
        if home.is_record(job):
            yield job, JOBS
    kinds: tuple[tuple[Kind[Any], str], ...] = ((JOBS, f"{names.RECORD_SELECTOR},{names.ENDED}"), (CONFIG_MAPS, names.RECORD_SELECTOR))
    for kind, selector in kinds:
        with contextlib.suppress(Forbidden) if kind is CONFIG_MAPS else contextlib.nullcontext():  # without, only Jobs are records here
            async for page in _pages(cluster, kind, namespace, selector):
                for seen in page:
                    if home.is_record(seen):
                        yield seen, kind


async def _pages(cluster: Cluster, kind: Kind[Any], namespace: str, selector: str) -> AsyncIterator[list[Other]]:
    """The pages of a list; where the server forgot how far it was, from its beginning again."""
    for tries_left in reversed(range(TRIES)):
        try:
            async for page in pages(cluster, kind, namespace, selector):
                yield page
            return
        except WatchExpired:
            if not tries_left:
                raise
