"""A run's record: the ConfigMap that holds its workflow and its results, and owns every Job of the run.

The workflow never changes and is kept compressed (a thousand steps take a few tens of kilobytes, and an object may have 1 MiB). Each
step's result has a key of its own, so that two processes that serve the same run never undo each other's news.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from jobyard.engine import limits
from jobyard.engine.decision import Record, Slot
from jobyard.model import names
from jobyard.model.errors import WrongInput
from jobyard.model.objects import ConfigMap, Manifest
from jobyard.model.run import Role, RunRequest, State, StepResult
from jobyard.model.workflow import Workflow

SIZE_LIMIT = 900_000
"""Bytes of compressed workflow: what 1 MiB leaves when results need room too."""
_WORKFLOW = "workflow"
_RUN = "run"
_INFLATED_LIMIT = 256 * 1024 * 1024


class WorkflowTooLarge(WrongInput):
    """workflow {workflow} takes {size:,} bytes compressed, and a run's record may take {limit:,}. Split it, or move long scripts from its manifests into the image"""


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


def write(request: RunRequest) -> Manifest:
    """The record of a run that begins."""
    packed = gzip.compress(msgspec.json.encode(request.workflow), compresslevel=6, mtime=0)
    if len(packed) > SIZE_LIMIT:
        raise WorkflowTooLarge(workflow=request.workflow.name, size=len(packed), limit=SIZE_LIMIT)
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
            },
            "annotations": {names.SCOPES: ",".join(limits.scopes(request.workflow))},
        },
        "data": _texts(request.carried),
        "binaryData": {_WORKFLOW: base64.b64encode(packed).decode()},
    }


def change(record: Record, known: ConfigMap | None) -> dict[str, Any]:
    """The merge patch that writes a Record action. An end is written only onto the record as it was `known` when it was decided: of many
    processes that serve a run, one says how and when it ended, and the others read it."""
    data = _texts(record.results)
    labels: dict[str, str] = {names.STATE: State.RUNNING}
    if record.state is not None:
        data[_RUN] = msgspec.json.encode(End(state=record.state, reason=record.reason, finished=record.finished)).decode()
        labels = {names.STATE: record.state}
    metadata: dict[str, Any] = {"labels": labels}
    if record.state is not None and known is not None:
        metadata["resourceVersion"] = known.metadata.resource_version
    return {"metadata": metadata, "data": data}


def _texts(results: Mapping[Slot, StepResult]) -> dict[str, str]:
    data: dict[str, str] = {}
    for (role, step), result in results.items():
        stored = _Stored(
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
        data[names.record_key(role, step)] = msgspec.json.encode(stored).decode()
    return data


def workflow(record: ConfigMap) -> Workflow | None:
    """The workflow of a record; None when somebody has damaged it."""
    try:
        packed = base64.b64decode(record.binary_data[_WORKFLOW])
        inflate = zlib.decompressobj(wbits=31)
        text = inflate.decompress(packed, _INFLATED_LIMIT)
        return msgspec.json.decode(text, type=Workflow)
    except (KeyError, ValueError, zlib.error, msgspec.MsgspecError):
        return None


def end(record: ConfigMap) -> End | None:
    """How the run ended, if it has."""
    try:
        return msgspec.json.decode(record.data[_RUN], type=End)
    except (KeyError, msgspec.MsgspecError):
        return None


def results(record: ConfigMap) -> Mapping[Slot, StepResult]:
    """What is recorded of the steps."""
    found: dict[Slot, StepResult] = {}
    for key, text in record.data.items():
        if key == _RUN:
            continue
        try:
            stored = msgspec.json.decode(text, type=_Stored)
        except msgspec.MsgspecError:
            continue
        found[stored.role, stored.step] = StepResult(
            state=stored.state,
            reason=stored.reason,
            message=stored.message,
            attempt=stored.attempt,
            job=stored.job,
            started=stored.started,
            finished=stored.finished,
            outputs=stored.outputs,
        )
    return found
