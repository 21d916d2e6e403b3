"""The ConfigMap home: a record that holds its run's workflow and its results, and owns every Job of the run. Pure.

The workflow never changes and is kept compressed (a thousand steps take a few tens of kilobytes). Each step's result has a key of its
own, so that two processes that serve the same run never undo each other's news. An object may have 1 MiB: a longer workflow goes on in
*parts*, and the results of many steps stand in *pages*, ConfigMaps that the record owns. Most runs have neither.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobyard.engine.decision import Slot, Write
from jobyard.engine.home import MESSAGE_LIMIT, StoredRequest, StoredResult, record_annotations, record_labels
from jobyard.model import names
from jobyard.model.errors import WrongInput
from jobyard.model.job import owner_reference
from jobyard.model.objects import ConfigMap, Manifest
from jobyard.model.run import RunRequest, State, StepResult
from jobyard.model.workflow import Workflow
from jobyard.model.written import whole

PART_SIZE = 900_000
"""Bytes of compressed workflow in one object."""
PARTS_LIMIT = 16
PAGE_STEPS = 120
"""Steps whose results share an object: each may take 4 KiB of outputs and a message of 1,000 characters, and as much for its revert."""
ROOM_FOR_RESULTS = 200_000
"""Bytes of compressed workflow beside which the record has room for a page of results."""
_WORKFLOW = "workflow"
_INFLATED_LIMIT = 256 * 1024 * 1024


class WorkflowTooLarge(WrongInput):
    """The record has no room for the workflow. Sizes in bytes."""

    sentence = "workflow {workflow} takes {size:,} bytes compressed, but the limit is {limit:,}. Split it, or move long scripts from its manifests into the image"
    workflow: str
    size: int
    limit: int


def pack(request: RunRequest) -> list[bytes]:
    """What is asked, compressed, in parts that fit an object each. Raises WorkflowTooLarge."""
    workflow = request.workflow
    carried = tuple(_stored(slot, result) for slot, result in request.carried.items())
    packed = gzip.compress(msgspec.json.encode(StoredRequest(workflow=workflow, carried=carried)), compresslevel=6, mtime=0)
    parts = [packed[start : start + PART_SIZE] for start in range(0, len(packed), PART_SIZE)]
    if len(parts) > PARTS_LIMIT:
        raise WorkflowTooLarge(workflow=workflow.name, size=len(packed), limit=PARTS_LIMIT * PART_SIZE)
    return parts


def write(request: RunRequest, run: str, packed: Sequence[bytes]) -> Manifest:
    """The record of a run that begins, with the first part of its workflow."""
    annotations = record_annotations(request)
    if request.held:
        annotations[names.HELD] = "true"
    if request.objects or len(packed) > 1:
        annotations[names.INCOMPLETE] = "true"
    if len(packed) > 1:
        annotations[names.PARTS] = str(len(packed))
    steps = len(request.workflow.steps)
    if steps > PAGE_STEPS or len(packed[0]) > ROOM_FOR_RESULTS:
        annotations[names.PAGES] = str(-(-steps // PAGE_STEPS))
    labels = {**record_labels(request, run), names.STATE: State.PENDING}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.record(request.prefix, run), "labels": labels, "annotations": annotations},
        "binaryData": {_WORKFLOW: base64.b64encode(packed[0]).decode()},
    }


def part(record: ConfigMap, number: int, packed: bytes) -> Manifest:
    """A further part of a run's workflow, counted from 1; owned by its record."""
    return _owned(names.part(_run(record), number), record, "part") | {"binaryData": {_WORKFLOW: base64.b64encode(packed).decode()}}


def page(record: ConfigMap, name: str, data: Mapping[str, str]) -> Manifest:
    """A page of a run's results; owned by its record."""
    return _owned(name, record, "page") | {"data": dict(data)}


def _owned(name: str, record: ConfigMap, role: str) -> Manifest:
    labels = {names.MANAGED_BY: names.JOBYARD, names.ROLE: role, names.RUN: _run(record)}
    owner = owner_reference(record.metadata.name, record.metadata.uid)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]}}


def _run(record: ConfigMap) -> str:
    return record.metadata.labels.get(names.RUN, "")


def part_names(record: ConfigMap) -> list[str]:
    """The ConfigMaps in which the record's workflow goes on."""
    parts = whole(record.metadata.annotations.get(names.PARTS, ""), PARTS_LIMIT) or 1
    return [names.part(_run(record), number) for number in range(1, parts)]


def pages(results: Mapping[Slot, StepResult], record: ConfigMap, workflow: Workflow) -> dict[str, dict[str, str]]:
    """The results as texts, by the object that each belongs into."""
    run = _run(record)
    if names.PAGES not in record.metadata.annotations:
        return {record.metadata.name: _texts(results)} if results else {}
    found: dict[str, dict[Slot, StepResult]] = {}
    for slot, result in results.items():
        found.setdefault(names.page(run, workflow.position[slot[1]] // PAGE_STEPS), {})[slot] = result
    return {name: _texts(some) for name, some in found.items()}


def change(write: Write, data: Mapping[str, str], known: ConfigMap, *, waits: bool = False) -> dict[str, Any] | None:
    """The merge patch of the record itself for a Write, `data` being what of its results belongs there; None when there is nothing. Unless
    the run `waits`, a note that it does goes with it.

    A state is written only onto the record as it was `known` when it was decided: of many processes that serve a run, one says how and
    when it ended, and the others read it. One that is behind must not call a run running that has ended; its results do no harm.
    """
    version = known.metadata.resource_version
    over: dict[str, str | None] = {names.WAITS: None} if names.WAITS in known.metadata.annotations and not waits else {}
    metadata: dict[str, Any] = {"annotations": over} if over else {}
    if write.state is not None:
        told = {names.REASON: write.reason, names.FINISHED: write.finished.isoformat() if write.finished else None}
        metadata = {"labels": {names.STATE: write.state}, "annotations": over | told, "resourceVersion": version}
    elif known.metadata.labels.get(names.STATE) == State.PENDING:
        metadata |= {"labels": {names.STATE: State.RUNNING}, "resourceVersion": version}
    elif not data:
        return None
    return {"data": dict(data), **({"metadata": metadata} if metadata else {})}


def _stored(slot: Slot, result: StepResult) -> StoredResult:
    facts = StepResult(**{**result.facts(), "message": result.message[:MESSAGE_LIMIT]})
    return StoredResult(role=slot[0], step=slot[1], result=facts)


def _texts(results: Mapping[Slot, StepResult]) -> dict[str, str]:
    return {names.record_key(*slot): msgspec.json.encode(_stored(slot, result)).decode() for slot, result in results.items()}


def stored(record: ConfigMap, parts: Mapping[str, ConfigMap] | None = None) -> StoredRequest | None:
    """What a record and its parts, by name, say was asked; None when a part is missing or somebody has damaged it."""
    try:
        whole = [record, *((parts or {})[name] for name in part_names(record))]
        packed = b"".join(base64.b64decode(each.binary_data[_WORKFLOW]) for each in whole)
        inflate = zlib.decompressobj(wbits=31)
        text = inflate.decompress(packed, _INFLATED_LIMIT)
        return msgspec.json.decode(text, type=StoredRequest)
    except (KeyError, ValueError, zlib.error, msgspec.MsgspecError, RecursionError):
        return None


def results(record: ConfigMap) -> Mapping[Slot, StepResult]:
    """What is recorded of the steps in this object: a record, or a page."""
    found: dict[Slot, StepResult] = {}
    for text in record.data.values():
        try:
            each = msgspec.json.decode(text, type=StoredResult)
        except (msgspec.MsgspecError, RecursionError):
            continue
        found[each.role, each.step] = each.result
    return found
