"""Where runs' records are made and found, in either home: each once, whole, however often somebody asks or dies."""

from __future__ import annotations

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobyard.access import RECORDS
from jobyard.contracts import Clock, Cluster
from jobyard.engine import drawn, home, job_home
from jobyard.engine import record as records
from jobyard.engine.elsewhere import Elsewhere, Home
from jobyard.engine.home import Record
from jobyard.engine.patching import patch_this
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import Sight
from jobyard.model import belongings, names
from jobyard.model.belongings import Belonging
from jobyard.model.errors import Conflict, Forbidden, NameTaken, NotFound, Rejected
from jobyard.model.job import owner_reference
from jobyard.model.objects import CONFIG_MAPS, JOBS, SECRETS, ConfigMap, Job, Kind, Manifest, Metadata, Other, metadata_of
from jobyard.model.run import Reason, RunRequest
from jobyard.patience import patiently

KINDS: dict[tuple[str, str], Kind[Other]] = {
    ("v1", "ConfigMap"): Kind(CONFIG_MAPS.api, CONFIG_MAPS.plural, CONFIG_MAPS.name, Other),
    ("v1", "Secret"): SECRETS,
}
"""Kinds that need not be looked for."""
UNFINISHED_LIMIT = 1000
"""How many Jobs are remembered that lack what their pods wait for: nobody may ever ask for such a run again."""


@dataclass(frozen=True, kw_only=True)
class _Unfinished:
    """A Job whose Secrets and ConfigMaps are perhaps not all there yet."""

    job: Job
    is_ours: bool
    """This ledger made it: nobody else can have made what it needs."""


class Ledger:
    """The records of one namespace."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, sight: Sight) -> None:
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._sight = sight
        self.elsewhere = Elsewhere(self._has_runs_elsewhere)
        self._unfinished: OrderedDict[str, _Unfinished] = OrderedDict()
        """By the Job's uid."""

    # --- found ---

    async def find(self, run: str) -> Record | None:
        """The record of the run with this id, or whose record has this name; also when it was released. None when there is none."""
        wanted = names.read_run(run)
        if wanted is None:
            return None
        known = self._sight.runs.get(wanted)
        if known is not None and not known.is_gone:
            return known.record
        found = await self._labelled(f"{names.RECORD_SELECTOR},{names.RUN}={wanted}")
        return min(found, key=_age, default=None)

    async def _labelled(self, selector: str) -> list[Record]:
        found: list[Record] = [*await self._cluster.list(JOBS, self._namespace, labels=selector)]
        if not self._sight.without_config_maps:
            found += await self._cluster.list(CONFIG_MAPS, self._namespace, labels=selector)
        return [each for each in found if home.is_record(each)]

    async def _elsewhere(self, request: RunRequest, where: Home) -> Record | None:
        """The request's record where it would not be made now: in the other home, or under another prefix."""
        if request.key_names_workflow or not await self.elsewhere.may_be(names.label_value(request.trigger), where):
            return None
        for run in home.ids(request):
            found = await self._labelled(f"{names.RECORD_SELECTOR},{names.RUN}={run}")
            same = [each for each in found if home.same_request(each, request)]
            if same or not found:
                return min(same, key=_age, default=None)
        return None

    async def _as_config_map(self, request: RunRequest) -> ConfigMap | None:
        """The request's ConfigMap, where there is one though its run might be a Job."""
        for run in home.ids(request):
            try:
                found = await self._cluster.get(CONFIG_MAPS, self._namespace, names.record(request.prefix, run))
            except (NotFound, Forbidden):
                return None
            if home.same_request(found, request):
                return found
        return None

    async def _has_runs_elsewhere(self, trigger: str, where: Home) -> bool:
        kinds: tuple[Kind[Any], ...] = (JOBS,) if self._sight.without_config_maps else (JOBS, CONFIG_MAPS)
        for kind in kinds:
            other = f",{names.PREFIX}!={where[1]}" if kind.name == where[0] else ""
            selector = f"{names.RECORD_SELECTOR},{names.TRIGGER}={trigger}{other}"
            found, following = await self._cluster.page(metadata_of(kind), self._namespace, labels=selector, size=1)
            if found or following:
                return True
        return False

    # --- made ---

    async def create_job(self, request: RunRequest) -> tuple[Job, bool] | None:
        """The Job that is the request's run, and whether it was there before; None when its record can't be one. What its pods wait for
        follows it. Raises what the cluster answers."""
        asked, request = request, drawn.draw(request)
        manifest = job_home.write_job(request, request.run_id) if job_home.is_plain(request) else None
        if manifest is None:
            return None
        found = await self._elsewhere(request, ("Job", request.prefix))
        if found is None and self._may_have_either_home(request):
            found = await self._as_config_map(request)
            found = (await self.find_job(request) or found) if found is not None else None
        if found is not None and not isinstance(found, Job):
            return None
        if found is not None:
            made, existed = found, True
        else:
            made, existed = await self._take_name(
                JOBS, request, lambda run: manifest if run == request.run_id else job_home.write_job(request, run)
            )
            if isinstance(made, ConfigMap):
                return None
        named = drawn.as_named(asked, made) if existed else request
        if named is not None and named.objects and names.ENDED not in made.metadata.labels and not has_run(made):
            known = self._unfinished.get(made.metadata.uid)
            self._unfinished[made.metadata.uid] = _Unfinished(job=made, is_ours=not existed or (known is not None and known.is_ours))
            while len(self._unfinished) > UNFINISHED_LIMIT:
                self._unfinished.popitem(last=False)
            for each in named.objects:
                await patiently(functools.partial(self._make_object, each, named, made))
            self._unfinished.pop(made.metadata.uid, None)
        return made, existed

    async def try_out(self, request: RunRequest) -> None:
        """Asks whether the request's record, and what stands beside it, could be made now; makes nothing. Raises what the cluster answers."""
        request = drawn.draw(request)
        job = job_home.write_job(request, request.run_id) if job_home.is_plain(request) else None
        kind: Kind[Any] = CONFIG_MAPS if job is None else JOBS
        record = records.write(request, request.run_id, records.pack(request)) if job is None else job
        try:
            await self._cluster.create(kind, self._namespace, record, dry_run=True)
        except Conflict as conflict:
            await self._get_instead(kind, record, conflict)
        for each in request.objects:
            await self._cluster.create(await kind_of(self._cluster, each), self._namespace, each, dry_run=True)

    async def withdraw(self, request: RunRequest) -> None:
        """Deletes the request's Job where what its pods wait for is refused for good: nothing of it ever ran. Raises Unavailable, Conflict."""
        for uid, unfinished in list(self._unfinished.items()):
            if home.same_request(unfinished.job, request):
                named = drawn.as_named(request, unfinished.job)
                if unfinished.is_ours or (named is not None and await self._lacks_an_object(named)):
                    await patiently(functools.partial(self.delete_unused, unfinished.job))
                self._unfinished.pop(uid, None)

    async def _lacks_an_object(self, request: RunRequest) -> bool:
        """Whether an object is known not to be there that the request's pods wait for. One may be refused (by a full quota) that is there."""
        for each in request.objects:
            try:
                await self._cluster.get(await kind_of(self._cluster, each), self._namespace, str(each["metadata"]["name"]))
            except NotFound:
                return True
            except Forbidden:
                continue
        return False

    async def delete_unused(self, record: Record) -> bool:
        """Deletes the record unless a pod of its Job ran meanwhile, or it was completed; whether it did. Raises Conflict: look again."""
        uid, name = record.metadata.uid, record.metadata.name
        kind: Kind[Any] = JOBS if isinstance(record, Job) else CONFIG_MAPS
        try:
            found = await self._cluster.get(kind, self._namespace, name)
        except NotFound:
            return False
        is_unused = not has_run(found) if isinstance(found, Job) else names.INCOMPLETE in found.metadata.annotations
        if found.metadata.uid != uid or not is_unused:
            return False
        await self._cluster.delete(kind, self._namespace, name, uid=uid, version=found.metadata.resource_version)
        self._sight.forget(uid)  # whoever is told of the refusal finds no run: the watch may be a moment behind
        return True

    async def find_job(self, request: RunRequest) -> Job | None:
        """The request's Job where its run is one already; None where it is not."""
        try:
            found = await self._cluster.get(JOBS, self._namespace, names.record(request.prefix, request.run_id))
        except NotFound:
            return None
        return found if home.same_request(found, request) else None

    def _may_have_either_home(self, request: RunRequest) -> bool:
        """Whether the request's run is a Job where it can start at once, and a ConfigMap where it can't: two that ask for it in one moment may
        find it otherwise."""
        return not (request.waits or request.accepted or self._sight.without_config_maps) and job_home.is_plain(request)

    async def create_record(self, request: RunRequest) -> tuple[Record, bool]:
        """The request's ConfigMap, whole, and whether it was there before; or the Job that turned out to be its record."""
        request = replace(request, workflow=replace(request.workflow, could_be_job=job_home.is_plain(request)))
        asked, request = request, drawn.draw(request)
        packed = records.pack(request)
        found = await self._elsewhere(request, ("ConfigMap", request.prefix))
        if isinstance(found, Job):
            return found, True
        if self._sight.without_config_maps:
            rights = ", ".join(RECORDS.in_words())
            message = (
                f"its record needs a ConfigMap (only a run of a single Job that starts at once does not), and there is no right to {rights}"
            )
            raise Forbidden(action=f"keep the record of run {request.run_id}", status=403, reason=Reason.NO_RIGHT, message=message)
        if found is not None:
            made, existed = found, True
        else:
            made, existed = await self._take_name(CONFIG_MAPS, request, lambda run: records.write(request, run, packed))
            if not existed and self._may_have_either_home(asked) and (job := await self.find_job(request)) is not None:
                # Somebody found room meanwhile. Nothing of this one can have begun: its Job would have that one's name.
                await patiently(functools.partial(self._delete_double, made.metadata))
                return job, True
        named = drawn.as_named(asked, made) if existed else request
        if names.INCOMPLETE in made.metadata.annotations and named is not None:
            made = await self._complete(named, packed if named is request else records.pack(named), made)
        return made, existed

    async def _delete_double(self, metadata: Metadata) -> None:
        with contextlib.suppress(NotFound, Conflict):
            await self._cluster.delete(CONFIG_MAPS, self._namespace, metadata.name, uid=metadata.uid)
        self._sight.forget(metadata.uid)

    async def _complete(self, request: RunRequest, packed: Sequence[bytes], record: ConfigMap) -> ConfigMap:
        """Makes what the run needs beside its record, and says on the record that it is there. Nothing of it starts before."""
        if len(records.part_names(record)) == len(packed) - 1:
            for number, text in enumerate(packed[1:], start=1):
                manifest = records.part(record, number, text)
                self._sight.see((await patiently(functools.partial(self._create_or_get, CONFIG_MAPS, manifest)))[0])
        try:
            for each in request.objects:
                await patiently(functools.partial(self._make_object, each, request, record))
        except Rejected:
            # A run that can't have what it needs must not be there; but for one that somebody has completed meanwhile.
            metadata = record.metadata
            with contextlib.suppress(Conflict):
                await self._cluster.delete(CONFIG_MAPS, self._namespace, metadata.name, uid=metadata.uid, version=metadata.resource_version)
                self._sight.forget(metadata.uid)  # before the watch tells: it is no run that anybody should care for
            raise
        change = {"metadata": {"annotations": {names.INCOMPLETE: None}}}
        return await patiently(lambda: patch_this(self._cluster, CONFIG_MAPS, self._namespace, record, change))

    async def _take_name(self, kind: Kind[Any], request: RunRequest, write: Any) -> tuple[Any, bool]:
        """Creates the request's record under the first of its names that is free, or finds it there. What has the name and is another's is
        left alone, but for the Job of a run that is this one in the other home."""
        for run in home.ids(request):
            manifest = write(run)
            made, existed = await patiently(functools.partial(self._create_or_get, kind, manifest))
            if not existed or home.same_request(made, request):
                return made, existed
            if kind is JOBS and (record := await self._as_config_map(request)) is not None:
                return record, True  # whose Job has the name
        message = f"{kind.name}s with its name exist already and belong to something else, so they are left alone"
        raise Rejected(
            action=f"create {kind.name} {names.record(request.prefix, request.run_id)}",
            status=409,
            reason=Reason.NAME_TAKEN,
            message=message,
        )

    async def _create_or_get(self, kind: Kind[Any], manifest: Manifest) -> tuple[Any, bool]:
        """Creates an object, or finds it there. Raises Conflict as `_get_instead` does."""
        try:
            return await self._cluster.create(kind, self._namespace, manifest), False
        except Conflict as conflict:
            return await self._get_instead(kind, manifest, conflict), True

    async def _get_instead(self, kind: Kind[Any], manifest: Manifest, conflict: Conflict) -> Any:
        """What has the object's name. Raises the conflict when it was deleted since, or is being deleted before it ended: then it answers
        nobody, and its name comes free."""
        try:
            found = await self._cluster.get(kind, self._namespace, manifest["metadata"]["name"])
        except NotFound:
            raise conflict from None
        if found.metadata.deletion_timestamp is not None and home.end(found) is None:
            raise conflict
        return found

    async def _make_object(self, manifest: Manifest, request: RunRequest, record: Record) -> None:
        """Creates an object that the run's Jobs use, owned by its record; what holds data or identity is only made if it is missing, and is
        nobody's. One of an earlier run of the same source that is over makes way; any other is left alone. Raises Rejected, Conflict (make
        another try), Unavailable."""
        uid, trigger = record.metadata.uid, names.label_value(request.trigger)
        name, kind_name = str(manifest["metadata"]["name"]), str(manifest["kind"])
        belonging = belongings.of(str(manifest["apiVersion"]), kind_name)
        if belonging is Belonging.REFUSED:
            message = f"a {kind_name} can't be created by a run: apply it first"
            raise Rejected(action=f"create {kind_name} {name}", status=403, reason=Reason.REFUSED, message=message)
        kind = await kind_of(self._cluster, manifest)
        kept = belonging is Belonging.KEPT
        try:
            await self._cluster.create(kind, self._namespace, manifest if kept else _belonging(manifest, record, trigger))
        except Conflict as conflict:
            if kept:  # it holds data or identity: there is one, whoever made it
                return
            try:
                there = await self._cluster.get(kind, self._namespace, name)
            except NotFound:
                raise conflict from None
            except Forbidden as forbidden:
                if request.run_id in name:  # nobody else makes one of this name
                    return
                message = f"a {kind_name} named {name} exists already, and Jobyard may not see what it belongs to ({forbidden.message}), so it is left alone"
                raise Rejected(action=f"create {kind_name} {name}", status=409, reason=Reason.NAME_TAKEN, message=message) from None
            if any(owner.uid == uid for owner in there.metadata.owner_references):
                return
            labels = there.metadata.labels
            is_object = labels.get(names.ROLE) == "object"
            if not (is_object and await self.makes_way(there.metadata, trigger)):
                theirs = await self.find(labels.get(names.RUN, "")) if is_object else None
                message = f"a {kind_name} named {name} exists already"
                if theirs is not None:
                    message += f" and belongs to run {theirs.metadata.name}, so it is left alone. Wait for that run to end, or cancel it"
                else:
                    message += " and does not belong to this run, so it is left alone. Delete it, or rename yours"
                raise NameTaken(action=f"create {kind_name} {name}", status=409, reason=Reason.NAME_TAKEN, message=message) from None
            await self._cluster.delete(kind, self._namespace, name, uid=there.metadata.uid)
            raise

    async def makes_way(self, metadata: Metadata, trigger: str) -> bool:
        """Whether an object was made for a run of this source (its label) that was released since, or is gone. It is known by the record that
        owns it: labels alone say nothing, people copy them."""
        run = names.read_run(metadata.labels.get(names.RUN, ""))
        if run is None or metadata.labels.get(names.TRIGGER) != trigger:
            return False
        is_owned = any(names.read_run(owner.name) == run for owner in metadata.owner_references)
        return is_owned and not await self.is_open(run)

    async def is_open(self, run: str) -> bool:
        """Whether there is a run of this id that was not released. What is not seen is asked for: a watch may be minutes behind."""
        known = self._sight.runs.get(run)
        if known is not None and not known.is_gone:
            return True
        return any(names.ENDED not in each.metadata.labels for each in await self._labelled(f"{names.RECORD_SELECTOR},{names.RUN}={run}"))

    # --- read, changed ---

    async def load(self, run: RunSight) -> bool:
        """Whether the run's workflow can be read. What of its record was not seen is asked for, once: the watch may have told of it before the
        record, and what comes so is not kept for long. A step whose result is not known would run again."""
        if not run.is_whole and isinstance(run.record, ConfigMap):
            for name in records.part_names(run.record):
                if run.stored() is None and name not in run.owned:
                    with contextlib.suppress(NotFound):
                        self._see_owned(run, await self._cluster.get(CONFIG_MAPS, self._namespace, name))
            if names.PAGES in run.record.metadata.annotations:
                selector = f"{names.SELECTOR},{names.RUN}={run.id},{names.ROLE}=page"
                for page in await self._cluster.list(CONFIG_MAPS, self._namespace, labels=selector):
                    self._see_owned(run, page)
        run.is_whole = run.stored() is not None
        return run.is_whole

    def _see_owned(self, run: RunSight, owned: ConfigMap) -> None:
        """By way of what is seen where the run is watched: the watch may have told something newer meanwhile. A copy that somebody made is
        owned by nobody, or by another."""
        self._sight.see(owned)
        is_mine = any(owner.uid == run.uid for owner in owned.metadata.owner_references)
        if is_mine and owned.metadata.name not in run.owned:
            run.see_owned(owned)

    async def change(self, record: Record, change: Manifest) -> Record:
        """Patches this very record. Raises NotFound, Conflict, Unavailable."""
        if isinstance(record, Job):
            return await patch_this(self._cluster, JOBS, self._namespace, record, change)
        return await patch_this(self._cluster, CONFIG_MAPS, self._namespace, record, change)

    async def look_again(self, run: RunSight) -> Record | None:
        """The run's record as it is now, asked for by name; None when it is gone, or another has its name."""
        name = run.record.metadata.name
        try:
            found: Record
            if isinstance(run.record, Job):
                found = await self._cluster.get(JOBS, self._namespace, name)
            else:
                found = await self._cluster.get(CONFIG_MAPS, self._namespace, name)
        except NotFound:
            return None
        return found if found.metadata.uid == run.uid else None


async def kind_of(cluster: Cluster, manifest: Manifest) -> Kind[Other]:
    """Where the API serves objects like this one. Raises NotFound."""
    version, name = str(manifest["apiVersion"]), str(manifest["kind"])
    return KINDS.get((version, name)) or await cluster.find_kind(version, name)


def _belonging(manifest: Manifest, record: Record, trigger: str) -> Manifest:
    """An object that a run's Jobs use, as its author wrote it; owned by the run's record, and known as the source's."""
    metadata = dict(manifest["metadata"])
    run = record.metadata.labels.get(names.RUN, "")
    labels = {names.MANAGED_BY: names.JOBYARD, names.ROLE: "object", names.RUN: run, names.TRIGGER: trigger}
    owner = owner_reference(record.metadata.name, record.metadata.uid, kind="Job" if isinstance(record, Job) else "ConfigMap")
    metadata |= {"labels": {**(metadata.get("labels") or {}), **labels}, "ownerReferences": [{**owner, "controller": False}]}
    return {**manifest, "metadata": metadata}


def has_run(job: Job) -> bool:
    """Whether a pod of the Job ran: then all that its pods wait for was there."""
    return bool(job.status.ready or job.status.succeeded or job.status.failed)


def _age(record: Record) -> str:
    return f"{record.metadata.creation_timestamp} {record.metadata.name}"
