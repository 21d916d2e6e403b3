"""A run's record: the ConfigMap that holds its workflow and its results, and owns every Job of the run.

The workflow never changes and is kept compressed (a thousand steps take a few tens of kilobytes). Each step's result has a key of its
own, so that two processes that serve the same run never undo each other's news. An object may have 1 MiB: a longer workflow goes on in
*parts*, and the results of many steps stand in *pages*, ConfigMaps that the record owns. Most runs have neither.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from jobyard.engine import limits
from jobyard.engine.decision import Record, Slot
from jobyard.model import names
from jobyard.model.errors import WrongInput
from jobyard.model.job import owner_reference
from jobyard.model.objects import ConfigMap, Manifest
from jobyard.model.run import Role, RunRequest, State, StepResult
from jobyard.model.workflow import Workflow

PART_SIZE = 900_000
"""Bytes of compressed workflow in one object."""
PARTS_LIMIT = 16
PAGE_STEPS = 120
"""Steps whose results share an object: each may take 4 KiB of outputs and a message of 1,000 characters, and as much for its revert."""
ROOM_FOR_RESULTS = 200_000
"""Bytes of compressed workflow beside which the record has room for a page of results."""
_WORKFLOW = "workflow"
_RUN = "run"
_INFLATED_LIMIT = 256 * 1024 * 1024


class WorkflowTooLarge(WrongInput):
    """The record has no room for the workflow. Sizes in bytes."""

    sentence = "workflow {workflow} takes {size:,} bytes compressed, and a run may take {limit:,}. Split it, or move long scripts from its manifests into the image"
    workflow: str
    size: int
    limit: int


class End(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the run ended; kept in the record under `run`."""

    state: State
    reason: str = ""
    finished: datetime | None = None


class _Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A StepResult as it is written, with the slot it belongs to."""

    step: str
    role: Role = Role.STEP
    state: State
    reason: str = ""
    message: str = ""
    attempt: int = 0
    job: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    outputs: dict[str, Any] | None = None

    @classmethod
    def of(cls, slot: Slot, result: StepResult) -> _Stored:
        role, step = slot
        return cls(
            step=step,
            role=role,
            state=result.state,
            reason=result.reason,
            message=result.message[:1000],
            attempt=result.attempt,
            job=result.job,
            started=result.started,
            finished=result.finished,
            outputs=dict(result.outputs) if result.outputs is not None else None,
        )

    def result(self) -> StepResult:
        return StepResult(
            state=self.state,
            reason=self.reason,
            message=self.message,
            attempt=self.attempt,
            job=self.job,
            started=self.started,
            finished=self.finished,
            outputs=self.outputs,
        )


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run was asked to do, which never changes: its workflow, and what it need not do again."""

    workflow: Workflow
    carried: tuple[_Stored, ...] = ()
    origin: dict[str, str] = {}

    def results(self) -> dict[Slot, StepResult]:
        """The results that were carried over from the run before."""
        return {(each.role, each.step): each.result() for each in self.carried}


def pack(request: RunRequest) -> list[bytes]:
    """What is asked, compressed, in parts that fit an object each. Raises WorkflowTooLarge."""
    workflow = request.workflow
    carried = tuple(_Stored.of(slot, result) for slot, result in request.carried.items())
    asked = Asked(workflow=workflow, carried=carried, origin=dict(request.origin))
    packed = gzip.compress(msgspec.json.encode(asked), compresslevel=6, mtime=0)
    parts = [packed[start : start + PART_SIZE] for start in range(0, len(packed), PART_SIZE)]
    if len(parts) > PARTS_LIMIT:
        raise WorkflowTooLarge(workflow=workflow.name, size=len(packed), limit=PARTS_LIMIT * PART_SIZE)
    return parts


def write(request: RunRequest, packed: Sequence[bytes]) -> Manifest:
    """The record of a run that begins, with the first part of its workflow."""
    annotations = {names.SCOPES: ",".join(limits.scopes(request.workflow))}
    if request.held:
        annotations[names.HELD] = "true"
    if len(packed) > 1:
        annotations[names.PARTS] = str(len(packed))
    steps = len(request.workflow.steps)
    if steps > PAGE_STEPS or len(packed[0]) > ROOM_FOR_RESULTS:
        annotations[names.PAGES] = str(-(-steps // PAGE_STEPS))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": request.run_id,
            "labels": {
                names.MANAGED_BY: names.JOBYARD,
                names.ROLE: "run",
                names.RUN: request.run_id,
                names.TRIGGER: names.label_value(request.trigger),
                names.STATE: State.PENDING,
                names.OPEN: "true",
            },
            "annotations": annotations,
        },
        "binaryData": {_WORKFLOW: base64.b64encode(packed[0]).decode()},
    }


def part(run: str, uid: str, number: int, packed: bytes) -> Manifest:
    """A further part of a run's workflow, counted from 1; owned by its record."""
    return _owned(names.part(run, number), run, uid, "part") | {"binaryData": {_WORKFLOW: base64.b64encode(packed).decode()}}


def page(run: str, uid: str, name: str, data: Mapping[str, str]) -> Manifest:
    """A page of a run's results; owned by its record."""
    return _owned(name, run, uid, "page") | {"data": dict(data)}


def furnishing(manifest: Manifest, run: str, uid: str, trigger: str) -> Manifest:
    """An object that a run's Jobs use, as its author wrote it; owned by the run's record, and known as the source's."""
    metadata = dict(manifest["metadata"])
    labels = {names.MANAGED_BY: names.JOBYARD, names.ROLE: "object", names.RUN: run, names.TRIGGER: names.label_value(trigger)}
    metadata |= {"labels": {**(metadata.get("labels") or {}), **labels}, "ownerReferences": [owner_reference(run, uid)]}
    return {**manifest, "metadata": metadata}


def _owned(name: str, run: str, uid: str, role: str) -> Manifest:
    labels = {names.MANAGED_BY: names.JOBYARD, names.ROLE: role, names.RUN: run}
    metadata = {"name": name, "labels": labels, "ownerReferences": [owner_reference(run, uid)]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def part_names(record: ConfigMap) -> list[str]:
    """The ConfigMaps in which the record's workflow goes on."""
    count = record.metadata.annotations.get(names.PARTS, "1")
    return [names.part(record.metadata.name, number) for number in range(1, int(count) if count.isdigit() else 1)]


def pages(results: Mapping[Slot, StepResult], record: ConfigMap, workflow: Workflow) -> dict[str, dict[str, str]]:
    """The results as texts, by the object that each belongs into."""
    run = record.metadata.name
    if names.PAGES not in record.metadata.annotations:
        return {run: _texts(results)} if results else {}
    found: dict[str, dict[Slot, StepResult]] = {}
    for slot, result in results.items():
        found.setdefault(names.page(run, workflow.position[slot[1]] // PAGE_STEPS), {})[slot] = result
    return {name: _texts(some) for name, some in found.items()}


def change(record: Record, data: Mapping[str, str], known: ConfigMap) -> dict[str, Any] | None:
    """The merge patch of the record itself for a Record action, `data` being what of its results belongs there; None when there is nothing.

    An end is written only onto the record as it was `known` when it was decided: of many processes that serve a run, one says how and
    when it ended, and the others read it.
    """
    if record.state is None:
        if not data and known.metadata.labels.get(names.STATE) == State.RUNNING:
            return None
        return {"metadata": {"labels": {names.STATE: State.RUNNING}}, "data": dict(data)}
    end = msgspec.json.encode(End(state=record.state, reason=record.reason, finished=record.finished)).decode()
    metadata = {"labels": {names.STATE: record.state}, "resourceVersion": known.metadata.resource_version}
    return {"metadata": metadata, "data": {**data, _RUN: end}}


def _texts(results: Mapping[Slot, StepResult]) -> dict[str, str]:
    return {names.record_key(*slot): msgspec.json.encode(_Stored.of(slot, result)).decode() for slot, result in results.items()}


def asked(record: ConfigMap, parts: Mapping[str, ConfigMap] | None = None) -> Asked | None:
    """What a record and its parts, by name, say was asked; None when a part is missing or somebody has damaged it."""
    try:
        whole = [record, *((parts or {})[name] for name in part_names(record))]
        packed = b"".join(base64.b64decode(each.binary_data[_WORKFLOW]) for each in whole)
        inflate = zlib.decompressobj(wbits=31)
        text = inflate.decompress(packed, _INFLATED_LIMIT)
        return msgspec.json.decode(text, type=Asked)
    except (KeyError, ValueError, zlib.error, msgspec.MsgspecError):
        return None


def end(record: ConfigMap) -> End | None:
    """How the run ended, if it has."""
    try:
        return msgspec.json.decode(record.data[_RUN], type=End)
    except (KeyError, msgspec.MsgspecError):
        return None


def results(record: ConfigMap) -> Mapping[Slot, StepResult]:
    """What is recorded of the steps in this object: a record, or a page."""
    found: dict[Slot, StepResult] = {}
    for key, text in record.data.items():
        if key == _RUN:
            continue
        try:
            stored = msgspec.json.decode(text, type=_Stored)
        except msgspec.MsgspecError:
            continue
        found[stored.role, stored.step] = stored.result()
    return found
