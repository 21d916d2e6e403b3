"""Where runs' records are made and read: each once, whole, however often somebody asks or dies."""

from __future__ import annotations

import contextlib
import functools

from jobyard.contracts import Clock, Cluster
from jobyard.engine import record as records
from jobyard.engine.observe import Sight
from jobyard.model import names
from jobyard.model.errors import Conflict, NotFound, Rejected
from jobyard.model.objects import CONFIG_MAPS, SECRETS, ConfigMap, Kind, Manifest, Other
from jobyard.model.run import Reason, Run, RunRequest
from jobyard.patience import patiently

KINDS = {("v1", "ConfigMap"): Kind(CONFIG_MAPS.api, CONFIG_MAPS.plural, CONFIG_MAPS.name, Other), ("v1", "Secret"): SECRETS}
"""Kinds that need not be looked for."""


class Ledger:
    """The records of one namespace."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, sight: Sight) -> None:
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._sight = sight

    async def create(self, request: RunRequest) -> tuple[ConfigMap, bool]:
        """The request's record, whole, and whether it was there before."""
        packed = records.pack(request)
        record = records.write(request, packed)
        made, existed = await patiently(functools.partial(self._create_or_find, request.run_id, record))
        if len(packed) > 1 and len(records.part_names(made)) == len(packed) - 1:
            # A crash may have left it without its parts: whoever submits the same again completes it.
            for number, part in enumerate(packed[1:], start=1):
                manifest = records.part(request.run_id, made.metadata.uid, number, part)
                self._sight.see((await patiently(functools.partial(self._create_or_find, names.part(request.run_id, number), manifest)))[0])
        try:
            for each in request.objects:
                await patiently(functools.partial(self._furnish, each, request, made))
        except Rejected:
            if not existed:  # a run that can't have what it needs must not be there
                await self._cluster.delete(CONFIG_MAPS, self._namespace, request.run_id, uid=made.metadata.uid)
            raise
        return made, existed

    async def _furnish(self, manifest: Manifest, request: RunRequest, record: ConfigMap) -> None:
        """Creates an object that the run's Jobs use, owned by its record. One of an earlier run of the same source makes way; any other
        is left alone. Raises Rejected, Conflict (make another try), Unavailable."""
        run, uid = request.run_id, record.metadata.uid
        name, kind_name = str(manifest["metadata"]["name"]), str(manifest["kind"])
        kind = KINDS.get((manifest["apiVersion"], kind_name)) or await self._cluster.find_kind(manifest["apiVersion"], kind_name)
        body = records.furnishing(manifest, run, uid, request.trigger)
        try:
            await self._cluster.create(kind, self._namespace, body)
        except Conflict as conflict:
            try:
                there = await self._cluster.get(kind, self._namespace, name)
            except NotFound:
                raise conflict from None
            labels = there.metadata.labels
            if labels.get(names.RUN) == run and any(owner.uid == uid for owner in there.metadata.owner_references):
                return
            if labels.get(names.MANAGED_BY) != names.JOBYARD or labels.get(names.TRIGGER) != names.label_value(request.trigger):
                message = f"a {kind_name} named {name} is there already and is not this source's: it is left alone"
                raise Rejected(action=f"create {kind_name} {name}", status=409, reason=Reason.NAME_TAKEN, message=message) from None
            await self._cluster.delete(kind, self._namespace, name, uid=there.metadata.uid)
            raise

    async def _create_or_find(self, name: str, manifest: Manifest) -> tuple[ConfigMap, bool]:
        """Creates a ConfigMap, or finds it there. Raises Conflict when it was deleted between the two."""
        try:
            return await self._cluster.create(CONFIG_MAPS, self._namespace, manifest), False
        except Conflict as conflict:
            try:
                return await self._cluster.get(CONFIG_MAPS, self._namespace, name), True
            except NotFound:
                raise conflict from None

    async def run(self, record: ConfigMap, existed: bool) -> Run | None:
        """The run whose record this is; None when it is no run's, is not whole yet, or is damaged."""
        self._sight.see(record)
        for name in records.part_names(record):
            if name not in self._sight.owned[record.metadata.name]:
                with contextlib.suppress(NotFound):
                    self._sight.see(await self._cluster.get(CONFIG_MAPS, self._namespace, name))
        asked = self._sight.asked(record.metadata.name)
        if asked is None or record.metadata.labels.get(names.RUN) != record.metadata.name:
            return None
        return Run(
            id=record.metadata.name,
            uid=record.metadata.uid,
            trigger=record.metadata.labels.get(names.TRIGGER, ""),
            workflow=asked.workflow,
            created=record.metadata.creation_timestamp or self._clock.now(),
            existed=existed,
            namespace=self._namespace,
            origin=asked.origin,
            held=names.HELD in record.metadata.annotations,
        )
