"""What the watches have seen of a namespace, by run: what is open, and nothing else.

Things belong together by uid: a record's uid, its Jobs' owner, their pods' owner, what a warning is about. Labels and names only find
them. The four streams run apart, so what comes before that which it belongs to is kept for a moment (`_early`, bounded); what belongs to
nothing that is open is not kept at all.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from jobyard.contracts import Inventory
from jobyard.engine import home
from jobyard.engine.home import Record
from jobyard.engine.limits import LIMITS, holders
from jobyard.engine.run_sight import RunSight
from jobyard.model import names
from jobyard.model.job import job_of, read
from jobyard.model.objects import ConfigMap, Event, Job, Kind, Metadata, Pod
from jobyard.model.written import whole

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"

GONE_LIMIT = 10_000
"""How many uids of objects that are gone are remembered: an answer to a call of ours may tell of one after the watch has told its end."""
FOR_GOOD = 2**64
"""The version by which an object is gone that can't come back."""
EARLY_LIMIT = 2_000
"""How many objects are kept whose owner was not seen yet; a ConfigMap counts once more for each `WEIGHT` characters that it holds. One that is
dropped too soon is asked for before anything is decided."""
WEIGHT = 4096

Seen = ConfigMap | Job | Pod | Event


class Sight:
    """The namespace as the watches saw it last: the open runs, and the namespace's limits."""

    def __init__(self) -> None:
        self.runs: dict[str, RunSight] = {}
        """By id."""
        self.limits: ConfigMap | None = None
        self.places: dict[str, ConfigMap] = {}
        """Who holds places in limits, by the name of the ConfigMap that says so."""
        self.freed: set[str] = set()
        """Scopes of limits that may have more room than before; who acts on it empties this."""
        self.without_config_maps = False
        """Whether we may not see ConfigMaps: then no record is one, and limits are counted by what is seen alone."""
        self._run_of: dict[str, RunSight] = {}
        """By the uid of what belongs to a run."""
        self._early: OrderedDict[str, list[Seen]] = OrderedDict()
        """By the uid of the owner that was not seen yet."""
        self._early_count = 0
        self._gone: OrderedDict[str, int] = OrderedDict()
        """By uid, up to which version: what is newer is back. Somebody took a label of ours off, and put it on again."""
        self.over: OrderedDict[str, datetime | None] = OrderedDict()
        """The ids of runs that were open and are not any more, the last ones; with the time of the newest place that was seen of each. A
        place that is newer, by the same clocks, is of a run that was submitted again."""
        self._active: defaultdict[str, dict[str, None]] = defaultdict(dict)
        """From a limit's scope to the runs, by uid, that count for it and have not ended."""
        self._services: defaultdict[str, set[str]] = defaultdict(set)
        """From a service's name to its runs, by uid, that have not ended."""

    # --- what there is ---

    def of(self, uid: str) -> RunSight | None:
        """The run that something with this uid belongs to."""
        return self._run_of.get(uid)

    def active(self, scope: str) -> Iterable[str]:
        """The runs, by the uid of their record, that count for a limit's scope and have not ended."""
        return self._active.get(scope, {})

    def has_runs_of_others(self, service: str) -> bool:
        """Whether another service than this has runs that have not ended. To who is no service, all are alike."""
        return bool(service) and any(each != service for each in self._services)

    def jobs_of(self, scope: str) -> set[str]:
        """The Jobs that count for a limit's scope beside their runs, and have not ended."""
        runs = self.runs.values()
        jobs = [job for run in runs for job in run.jobs.values() if job.metadata.uid != run.uid and scope in home.scopes(job)]
        return {job.metadata.name for job in jobs if not read(job).state.is_end}

    # --- what comes ---

    def see(self, seen: Seen) -> RunSight | None:
        """Takes in an object as it now is; says whose run's view may have changed.

        News come from the watch and from the answers to our own calls, in any order: what is known already, in this version or a
        newer one, or known to be gone by then, is not taken in.
        """
        if self._is_gone(seen):
            return None
        if isinstance(seen, ConfigMap | Job) and home.is_record(seen):
            return self._see_record(seen)
        match seen:
            case ConfigMap():
                return self._see_config_map(seen)
            case Job():
                run = self._owner(seen, seen.metadata)
                if run is None or _is_known(seen, run.jobs.get(seen.metadata.name)):
                    return None
                run.see_job(seen)
                if read(seen).state.is_end:
                    self.freed.update(home.scopes(seen))
                self._belongs(seen.metadata.uid, run)
                return run
            case Pod():
                job = job_of(seen)
                run = self._known(job.uid, seen) if job else None
                if job is None or run is None or _is_known(seen, run.pods.get(job.uid, {}).get(seen.metadata.name)):
                    return None
                run.see_pod(job.uid, seen)
                self._belongs(seen.metadata.uid, run)
                return run
            case Event():
                run = self._known(seen.involved_object.uid, seen)
                if run is not None:
                    for old in run.see_event(seen):
                        self._run_of.pop(old, None)
                    self._belongs(seen.metadata.uid, run)
                return run

    def forget(self, uid: str, version: str = "") -> RunSight | None:
        """Takes note that what has this uid has left the watch by `version`; for good, where that is not known. Says which run it belonged to.
        A record's run is kept until it is dropped: it may only have been released."""
        if self.limits is not None and self.limits.metadata.uid == uid:
            self.limits = None
            self.freed.update(self._active)
        for name in [name for name, place in self.places.items() if place.metadata.uid == uid]:
            self.freed.add(self.places.pop(name).metadata.annotations.get(names.SCOPE, ""))
        run = self._run_of.get(uid)
        if run is None:
            self._note_gone(uid, version)
            return None
        if uid == run.uid:
            run.is_gone, run.gone_by = True, version  # not noted as gone: whoever drops it does
            return run
        if (job := run.job(uid)) is not None:
            self.freed.update(home.scopes(job))
        self._unbind(run.forget(uid), uid, version)
        return run

    def gone_by(self, kind: Kind[Any], inventory: Inventory) -> list[str]:
        """The uids of objects that are known here, by an answer to a call of ours say, and are gone by what a list held. A watch that was
        away while one came and went never tells of it."""
        listed = _version(inventory.version)
        if listed is None:
            return []
        seen: list[Seen] = [*self.places.values(), *([self.limits] if self.limits else [])]
        seen += [each for run in self.runs.values() for each in run.everything()]
        return [
            each.metadata.uid
            for each in seen
            if isinstance(each, kind.struct)
            and each.metadata.uid not in inventory.uids
            and (version := _version(each.metadata.resource_version)) is not None
            and version <= listed
        ]

    def drop(self, run: RunSight) -> None:
        """Forgets a run as a whole: its record is gone, or was released."""
        if self.runs.get(run.id) is run:
            del self.runs[run.id]
            self.note_over(run.id, self._newest_place(run.id))
        self._unbind([uid for uid in run.uids() if self._run_of.get(uid) is run], run.uid, run.gone_by)
        self._count(run, active=False)

    def note_over(self, run: str, at: datetime | None) -> None:
        """Remembers that a run is open no more, as far as the places that it took until then."""
        known = self.over.pop(run, None)
        self.over[run] = max((each for each in (at, known) if each is not None), default=None)
        while len(self.over) > GONE_LIMIT:
            self.over.popitem(last=False)

    # --- inside ---

    def _newest_place(self, run: str) -> datetime | None:
        places = (place for each in self.places.values() for place in holders(each).values())
        return max((place.at for place in places if place.run == run), default=None)

    def _see_record(self, seen: Record) -> RunSight | None:
        run = self._run_of.get(seen.metadata.uid)
        if run is not None and run.uid == seen.metadata.uid:
            if _is_known(seen, run.record):
                return None
            if home.scopes(seen) != home.scopes(run.record):  # by hand: it counts for what it says now
                self._count(run, active=False)
            run.see_record(seen)
        elif names.ENDED in seen.metadata.labels:
            self._note_gone(seen.metadata.uid, seen.metadata.resource_version)
            return None  # released: nobody's business any more
        elif (known := self.runs.get(seen.metadata.labels[names.RUN])) is not None and not (known.is_gone or _replaces(seen, known.record)):
            return None  # another record of the same request: the one that was seen first is the run
        else:
            if known is not None:
                known.is_gone = True
            run = RunSight(seen)
            self.runs[run.id] = run
            self.over.pop(run.id, None)
            self._belongs(seen.metadata.uid, run)
        if run.released:
            run.is_gone = True
        self._count(run, active=not run.is_gone and home.end(run.record) is None)
        return run

    def _see_config_map(self, seen: ConfigMap) -> RunSight | None:
        name = seen.metadata.name
        if name == LIMITS:
            if names.RUN in seen.metadata.labels:
                return None  # a run brought it: it is no word of whoever looks after the namespace
            if not _is_known(seen, self.limits):
                self.limits = seen
                self.freed.update(self._active)
            return None
        match seen.metadata.labels.get(names.ROLE):
            case "limit" if not _is_known(seen, self.places.get(name)):
                self.places[name] = seen
                self.freed.add(seen.metadata.annotations.get(names.SCOPE, ""))
            case "part" | "page":
                run = self._owner(seen, seen.metadata)
                if run is None or _is_known(seen, run.owned.get(name)):
                    return None
                run.see_owned(seen)
                self._belongs(seen.metadata.uid, run)
                return run
        return None

    def _owner(self, seen: Seen, metadata: Metadata) -> RunSight | None:
        """The run of the first owner that is known; what has an owner that is not is kept for a moment."""
        owners = [owner.uid for owner in metadata.owner_references]
        for uid in owners:
            if uid in self._run_of:
                return self._run_of[uid]
        return self._known(owners[0], seen) if owners else None

    def _known(self, uid: str, seen: Seen) -> RunSight | None:
        run = self._run_of.get(uid)
        if run is None and uid and uid not in self._gone:
            self._early.setdefault(uid, []).append(seen)
            self._early_count += _weight(seen)
            while self._early_count > EARLY_LIMIT:
                _, dropped = self._early.popitem(last=False)
                self._early_count -= sum(map(_weight, dropped))
        return run

    def _belongs(self, uid: str, run: RunSight) -> None:
        """Binds a uid to its run, and takes in what came before it."""
        if uid in self._run_of:
            return
        self._gone.pop(uid, None)
        self._run_of[uid] = run
        early = self._early.pop(uid, [])
        self._early_count -= sum(map(_weight, early))
        for each in early:
            self.see(each)

    def _unbind(self, uids: Iterable[str], left: str, version: str) -> None:
        """Lets go of what has these uids, since one of them has left by a version. The others may still be there: they are back when it is."""
        for uid in uids:
            self._run_of.pop(uid, None)
            self._note_gone(uid, version if uid == left else "0")

    def _is_gone(self, seen: Seen) -> bool:
        by = self._gone.get(seen.metadata.uid)
        version = _version(seen.metadata.resource_version)
        return by is not None and (version is None or version <= by)

    def _note_gone(self, uid: str, version: str) -> None:
        known = _version(version)
        self._gone[uid] = FOR_GOOD if known is None else known
        early = self._early.pop(uid, [])
        self._early_count -= sum(map(_weight, early))
        while len(self._gone) > GONE_LIMIT:
            self._gone.popitem(last=False)

    def _count(self, run: RunSight, *, active: bool) -> None:
        """Counts the run for its limits and for its service, or no more."""
        service = run.record.metadata.labels.get(names.SERVICE, "")
        for name in [name for name, runs in self._services.items() if run.uid in runs and (name != service or not active)]:
            self._services[name].discard(run.uid)
            if not self._services[name]:
                del self._services[name]
        if active and service:
            self._services[service].add(run.uid)
        for scope in home.scopes(run.record):
            if active:
                self._active[scope][run.uid] = None
            elif run.uid in self._active.get(scope, {}):
                del self._active[scope][run.uid]
                self.freed.add(scope)
                if not self._active[scope]:
                    del self._active[scope]


def _weight(seen: Seen) -> int:
    """What an object that is kept early counts for: a part of a record may have a megabyte."""
    if not isinstance(seen, ConfigMap):
        return 1
    return 1 + sum(len(text) for texts in (seen.data, seen.binary_data) for text in texts.values()) // WEIGHT


def _is_known(seen: Seen, known: Seen | None) -> bool:
    """Whether what is known of the same object is this, or newer."""
    if known is None or known.metadata.uid != seen.metadata.uid:
        return False
    return known.metadata.resource_version == seen.metadata.resource_version or _is_later(known, seen)


def _replaces(seen: Record, known: Record) -> bool:
    """Whether a record has the name that the known one had: of two objects of one kind and name, the older is gone, though nobody told yet."""
    return type(seen) is type(known) and seen.metadata.name == known.metadata.name and _is_later(seen, known)


def _is_later(one: Seen, other: Seen) -> bool:
    new, old = (_version(each.metadata.resource_version) for each in (one, other))
    return new is not None and old is not None and new > old


def _version(text: str) -> int | None:
    """A resource version as a number, where it is one: that of one list is later than that of another."""
    return whole(text, 2**64)
