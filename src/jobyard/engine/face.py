"""Runs for whoever looks at them: one look at the cluster, no watch, nothing done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, date, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import structs

from jobyard.contracts import Clock, Cluster, Page
from jobyard.engine import home, tries
from jobyard.engine.decide import decide
from jobyard.engine.decision import Create
from jobyard.engine.home import Record
from jobyard.engine.logs import pods_of
from jobyard.engine.open_runs import as_they_stand
from jobyard.engine.pages import pages
from jobyard.engine.rerun import rerun, reveal
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import JOB_NAME_LABEL
from jobyard.engine.tries import Tried
from jobyard.engine.waiting import refusals
from jobyard.model import names
from jobyard.model.errors import CannotRerun, Forbidden, NoSuchPage, NoSuchRun, NoSuchRunOrJob, NotFound, RunDamaged
from jobyard.model.explained import after, lone, owner_names
from jobyard.model.finding import did_you_mean
from jobyard.model.job import job_of, owned_by
from jobyard.model.objects import CONFIG_MAPS, EVENTS, JOBS, PODS, WHOLE_JOBS, ConfigMap, Event, Job, Kind, metadata_of
from jobyard.model.run import Run, RunRequest, RunView, StepView

PAGE = 50
DAYS = 14
"""How many days are looked through one by one for runs that ended on them; what is older comes in one go."""
_OPEN, _OLDER = "open", "older"


# --- a list of them ---


_KINDS: tuple[Kind[Any], ...] = (CONFIG_MAPS, JOBS)
PLACE_LIMIT = 10_000
"""Characters by which a page is asked for. Kubernetes' own part of them has some hundred."""


class _Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a page begins: in which part of the list, among which kind of records, after what. It comes back from outside: `_read_place`."""

    part: str = _OPEN
    kind: Annotated[int, msgspec.Meta(ge=0, lt=len(_KINDS))] = 0
    after: Annotated[str, msgspec.Meta(pattern=r"^[!-~]*\Z")] = ""
    first: date
    """The day on which the list was begun."""


def _read_place(after: str) -> _Place:
    """Where the page begins that is asked for. Raises NoSuchPage: anybody may have written it."""
    try:
        place = msgspec.json.decode(after if len(after) <= PLACE_LIMIT else "", type=_Place)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        raise NoSuchPage from None
    if not 1970 < place.first.year < 3000 or place.part not in _parts(place):
        raise NoSuchPage
    return place


async def page(cluster: Cluster, clock: Clock, namespace: str, after: str = "", size: int = PAGE) -> Page:
    """The open runs, by what their Jobs and pods are just now; then those that ended, the newest day first, from their records' labels and
    annotations alone.

    Raises WatchExpired when `after` is too old: the list is to be begun anew; NoSuchPage when it is no page's `following`.
    """
    place = _read_place(after) if after else _Place(first=clock.now().astimezone(UTC).date())
    found: list[Run] = []
    while place.part:
        if place.part == next(_days(place)) and not (place.kind or place.after):
            few = await _ended(cluster, namespace, size - len(found))
            if few is not None:
                found += few
                place = structs.replace(place, part="")
                break
        seen: list[Any] = []
        token = ""
        kind = _KINDS[place.kind]
        with _allowed(kind):
            wanted = kind if place.part == _OPEN else metadata_of(kind)
            seen, token = await cluster.page(wanted, namespace, labels=_selector(place), size=size - len(found), after=place.after)
        place = structs.replace(place, after=token)
        found += [home.read(each, namespace) for each in seen if home.is_record(each)]
        if not place.after:
            place = _next(place)
        if len(found) >= size:
            break
    going = [run for run in found if not (run.released or run.state.is_end)]
    stand = {run.uid: run for run in await as_they_stand(cluster, namespace, going)}
    found = [stand.get(run.uid, run) for run in found]
    order = sorted(found, key=lambda run: run.finished or run.created, reverse=True)
    order.sort(key=lambda run: run.state.is_end)
    return Page(runs=tuple(order), following=msgspec.json.encode(place).decode() if place.part else "")


async def _ended(cluster: Cluster, namespace: str, size: int) -> list[Run] | None:
    """All runs that have ended and are released; None when there are more than `size`, to be looked through day by day."""
    found: list[Run] = []
    for kind in _KINDS:
        with _allowed(kind):
            selector = f"{names.RECORD_SELECTOR},{names.ENDED}"
            seen, token = await cluster.page(metadata_of(kind), namespace, labels=selector, size=size - len(found) + 1)
            found += [home.read(each, namespace) for each in seen if home.is_record(each)]
            if token or len(found) > size:
                return None
    return found


def _selector(place: _Place) -> str:
    match place.part:
        case "open":
            return f"{names.RECORD_SELECTOR},!{names.ENDED}"
        case "older":
            return f"{names.RECORD_SELECTOR},{names.ENDED},{names.ENDED} notin ({','.join(_days(place))})"
    return f"{names.RECORD_SELECTOR},{names.ENDED}={place.part}"


def _days(place: _Place) -> Iterator[str]:
    """The days that are looked through one by one, the newest first; a clock that is ahead of ours may have written tomorrow's."""
    first = place.first + timedelta(days=1)
    return ((first - timedelta(days=number)).isoformat() for number in range(DAYS + 1))


def _next(place: _Place) -> _Place:
    """What comes after a part of the list, or one kind of its records."""
    if place.kind + 1 < len(_KINDS):
        return structs.replace(place, kind=place.kind + 1)
    parts = [*_parts(place), ""]
    return structs.replace(place, kind=0, part=parts[parts.index(place.part) + 1])


def _parts(place: _Place) -> list[str]:
    return [_OPEN, *_days(place), _OLDER]


# --- one of them ---


async def view(cluster: Cluster, clock: Clock, namespace: str, run: str) -> RunView:
    """The run of this id or name as it stands. Raises NoSuchRun, RunDamaged."""
    return await _view(cluster, clock, namespace, await _gather(cluster, namespace, run))


async def _view(cluster: Cluster, clock: Clock, namespace: str, seen: RunSight) -> RunView:
    workflow = seen.workflow
    if workflow is None:
        raise RunDamaged(run=seen.record.metadata.name, namespace=namespace)
    decision = decide(workflow, seen.observe({}), clock.now())
    due = [action for action in decision.actions if isinstance(action, Create)]
    if due and (known := await refusals(cluster, clock, namespace, seen, workflow, due)):
        decision = decide(workflow, seen.observe(known), clock.now())
    return seen.show(namespace, decision)


async def _gather(cluster: Cluster, namespace: str, run: str) -> RunSight:
    """All that there is of a run."""
    wanted = names.read_run(run)
    if wanted is None:
        raise NoSuchRun(run=names.shown(run), namespace=namespace, hint=await run_hint(cluster, namespace, run))
    selector = f"{names.SELECTOR},{names.RUN}={wanted}"
    jobs = await cluster.list(JOBS, namespace, labels=selector)
    config_maps: list[ConfigMap] = []
    with _allowed(CONFIG_MAPS):
        config_maps = await cluster.list(CONFIG_MAPS, namespace, labels=selector)
    candidates: list[Record] = [*config_maps, *jobs]
    found = [each for each in candidates if home.is_record(each)]
    if not found:
        raise NoSuchRun(run=run, namespace=namespace, hint=await run_hint(cluster, namespace, run))
    seen = RunSight(min(found, key=lambda each: str(each.metadata.creation_timestamp)))
    for each in config_maps:
        if any(owner.uid == seen.uid for owner in each.metadata.owner_references):
            seen.see_owned(each)
    for job in jobs:
        if owned_by(job, seen.uid):
            seen.see_job(job)
    uids = {job.metadata.uid for job in seen.jobs.values()}
    for pod in await cluster.list(PODS, namespace, labels=selector):
        owner = job_of(pod)
        if owner is not None and owner.uid in uids:
            seen.see_pod(owner.uid, pod)
    known = {*uids, *(pod.metadata.uid for pods in seen.pods.values() for pod in pods.values())}
    with _allowed(EVENTS):
        for event in await cluster.list(EVENTS, namespace, fields="type=Warning"):
            about = event.involved_object
            if about.uid in known:
                seen.see_event(event)
            elif about.kind == "Pod":  # it may be of one that is gone
                for former in (seen.jobs[name] for name in owner_names(about.name) if name in seen.jobs):
                    if after(event, former):
                        seen.see_event(event, about=former.metadata.uid)
    return seen


async def tried(cluster: Cluster, clock: Clock, namespace: str, name: str) -> Tried:
    """What was tried of a run, known by its id or name or by a Job of it; or of any other Job. Raises NoSuchRunOrJob, RunDamaged."""
    try:
        seen = await _gather(cluster, namespace, name)
        return Tried(name=seen.record.metadata.name, view=await _view(cluster, clock, namespace, seen), tries=tuple(tries.of_run(seen)))
    except NoSuchRun as unknown:
        try:
            job = await cluster.get(JOBS, namespace, name)
        except NotFound:
            raise NoSuchRunOrJob(run=unknown.run, namespace=namespace, hint=unknown.hint) from None
    with contextlib.suppress(NoSuchRun):
        seen = await _gather(cluster, namespace, job.metadata.labels.get(names.RUN) or name)
        if mine := [each for each in tries.of_run(seen) if each.job == name]:
            return Tried(name=seen.record.metadata.name, view=await _view(cluster, clock, namespace, seen), tries=tuple(mine), job=name)
    return Tried(name=name, tries=tuple(tries.of_job(job, await pods_of(cluster, namespace, name))), job=name)


async def run_hint(cluster: Cluster, namespace: str, run: str) -> str:
    """`; did you mean ...?` for the name of a run that there is not; empty where none is like it."""
    if len(run) > names.SHOWN:
        return ""
    known: list[str] = []
    for kind in _KINDS:
        with _allowed(kind):
            found, _ = await cluster.page(metadata_of(kind), namespace, labels=names.RECORD_SELECTOR, size=500)
            known += [each.metadata.name for each in found]
    guess = did_you_mean(run, known)
    return f"; {guess}" if guess else ""


async def again(cluster: Cluster, clock: Clock, run: Run, key: str, *, failed_only: bool) -> RunRequest:
    """The request for a run that has ended, once more. Raises NotEnded, NothingFailed, CannotRerun, NoSuchRun."""
    seen = await _gather(cluster, run.namespace, run.name)
    shown = await _view(cluster, clock, run.namespace, seen)
    stored = seen.stored()
    if stored is None:
        raise RunDamaged(run=run.name, namespace=run.namespace)
    workflow = stored.workflow
    literals: tuple[tuple[str | int, ...], ...] = ()
    if beside := seen.record.metadata.annotations.get(names.OBJECTS):
        remedy = "Run its file again." if shown.trigger in (*names.FACES, "") or shown.origin.get("file") else "Send the message again."
        raise CannotRerun(
            run=run.name, why=f"it brought {beside}, which was made for that run only and is stored nowhere else", remedy=remedy
        )
    if isinstance(seen.record, Job):
        whole = await cluster.get(WHOLE_JOBS, run.namespace, run.name)
        literals = stored.literals
        workflow = reveal(workflow, literals, whole.spec, run.name)
    return replace(rerun(workflow, shown, key, failed_only=failed_only), literals=literals)


async def all_names(cluster: Cluster, namespace: str, prefix: str) -> list[str]:
    """The names of the runs that begin so."""
    found: list[str] = []
    for kind in _KINDS:
        with _allowed(kind):
            async for some in pages(cluster, kind, namespace, names.RECORD_SELECTOR):
                found += [each.metadata.name for each in some if each.metadata.name.startswith(prefix) and home.is_record(each)]
    return found


def _allowed(kind: Kind[Any]) -> AbstractContextManager[None]:
    """ConfigMaps and events are looked at where the Role allows; a list of Jobs that we may not have is an error, never an empty list."""
    return contextlib.suppress(Forbidden) if kind.plural in (CONFIG_MAPS.plural, EVENTS.plural) else contextlib.nullcontext()


async def look_at_job(cluster: Cluster, namespace: str, name: str) -> tuple[Job, StepView] | None:
    """Any Job of the namespace, ours or not, and how it stands; None when there is no such Job."""
    if not names.is_object_name(name):
        return None
    try:
        job = await cluster.get(JOBS, namespace, name)
    except NotFound:
        return None
    found = await cluster.list(PODS, namespace, labels=f"{JOB_NAME_LABEL}={name}")
    pods = [pod for pod in found if (owner := job_of(pod)) and owner.uid == job.metadata.uid]
    events: list[Event] = []
    with _allowed(EVENTS):
        events += await cluster.list(EVENTS, namespace, fields="type=Warning")
    return job, lone(job, pods, events)
