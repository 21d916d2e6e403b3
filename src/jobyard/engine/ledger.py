"""Where runs' records are made and read: each once, whole, however often somebody asks or dies."""

from __future__ import annotations

import contextlib
import functools

from jobyard.contracts import Clock, Cluster
from jobyard.engine import record as records
from jobyard.engine.observe import Sight
from jobyard.engine.patience import patiently
from jobyard.model import names
from jobyard.model.errors import Conflict, NotFound
from jobyard.model.objects import CONFIG_MAPS, ConfigMap, Manifest
from jobyard.model.run import Run, RunRequest


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
        return made, existed

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
        workflow = self._sight.workflow(record.metadata.name)
        if workflow is None or record.metadata.labels.get(names.RUN) != record.metadata.name:
            return None
        return Run(
            id=record.metadata.name,
            uid=record.metadata.uid,
            trigger=record.metadata.labels.get(names.TRIGGER, ""),
            workflow=workflow,
            created=record.metadata.creation_timestamp or self._clock.now(),
            existed=existed,
        )
