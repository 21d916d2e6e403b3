"""Kubernetes' protobuf, read: some clients (`kubectl create secret`, Go programs) send it whatever they are told. We answer in JSON.

A body is the four bytes `k8s\\0` and a message Unknown, whose `raw` holds the object. Which field has which number and type is in
`protobuf.json` (`scripts/protobuf` renews it); a name that is empty there is an embedded struct, whose fields stand in its place.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

Tree = dict[str, Any]

_MAGIC = b"k8s\0"
_META = "k8s.io.apimachinery.pkg."
_WHOLE = {"int32", "int64", "uint32", "uint64"}


@cache
def _messages() -> dict[str, dict[str, tuple[str, str]]]:
    loaded: dict[str, dict[str, tuple[str, str]]] = json.loads(resources.files("jobyard.local").joinpath("protobuf.json").read_text())
    return loaded


def decode(body: bytes) -> Tree:
    """The object that a body holds. Raises ValueError when it is none that we know."""
    if not body.startswith(_MAGIC):
        raise ValueError("no Kubernetes protobuf")
    try:
        return _decode(body)
    except (
        struct.error,
        AttributeError,
        TypeError,
        OverflowError,
        OSError,
        RecursionError,
    ) as error:  # a field of another type than its number says
        raise ValueError(f"damaged protobuf: {error}") from None


def _decode(body: bytes) -> Tree:
    unknown = dict(_fields(body[len(_MAGIC) :]))
    kind = {number: value.decode() for number, value in _fields(unknown.get(1, b""))}
    version, name = kind.get(1, ""), kind.get(2, "")
    message = next((each for each in _messages() if each.endswith(f".{name}") and _group_fits(each, version)), None)
    if message is None:
        raise ValueError(f"no kind {name} in {version}")
    return {"apiVersion": version, "kind": name, **_message(message, unknown.get(2, b""))}


def _group_fits(message: str, version: str) -> bool:
    """Whether `batch/v1` is where k8s.io.api.batch.v1.Job lives. DeleteOptions is sent under any group."""
    group, _, number = version.rpartition("/")
    if message == f"{_META}apis.meta.v1.DeleteOptions":
        return True
    return message.startswith(f"k8s.io.api.{(group or 'core').split('.')[0]}.{number}.")


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and raw value of each field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value, at = _varint(data, at)
                yield key >> 3, value
            case 1:
                yield key >> 3, struct.unpack_from("<d", data, at)[0]
                at += 8
            case 2:
                size, at = _varint(data, at)
                if at + size > len(data):
                    raise ValueError("a field that is longer than its message")
                yield key >> 3, data[at : at + size]
                at += size
            case 5:
                yield key >> 3, struct.unpack_from("<f", data, at)[0]
                at += 4
            case kind:
                raise ValueError(f"wire type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number that does not end")
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _message(name: str, data: bytes) -> Tree:
    shape = _messages().get(name, {})
    tree: Tree = {}
    for number, raw in _fields(data):
        field, kind = shape.get(str(number), ("", ""))
        if not kind:
            continue
        if kind.startswith("map<"):
            key_kind, value_kind = kind[4:-1].split(",", 1)
            entry = dict(_fields(raw))
            tree.setdefault(field, {})[_value(key_kind, entry.get(1, b""))] = _value(value_kind, entry.get(2, b""))
        elif kind.startswith("[]"):
            tree.setdefault(field, []).append(_value(kind[2:], raw))
        elif not field:
            tree.update(_message(kind, raw))
        else:
            tree[field] = _value(kind, raw)
    # Go writes every string that is no pointer, the empty ones too; in JSON those are left out, and defaults depend on it.
    return {key: value for key, value in tree.items() if value is not None and value != ""}


def _value(kind: str, raw: Any) -> Any:
    if kind in _WHOLE:
        number = raw if isinstance(raw, int) else 0
        return number - 2**64 if number >= 2**63 else number
    match kind.removeprefix(_META):
        case "bool":
            return bool(raw)
        case "string":
            return raw.decode(errors="replace")
        case "bytes":
            return base64.b64encode(raw).decode()
        case "double":
            return raw
        case "api.resource.Quantity":
            return _first_text(raw)
        case "apis.meta.v1.Time" | "apis.meta.v1.MicroTime" as name:
            return _time(raw, micro=name.endswith("MicroTime"))
        case "apis.meta.v1.Duration":
            return f"{dict(_fields(raw)).get(1, 0) / 1e9:g}s"
        case "util.intstr.IntOrString":
            parts = dict(_fields(raw))
            return parts.get(3, b"").decode() if parts.get(1) else _value("int64", parts.get(2, 0))
        case "apis.meta.v1.FieldsV1" | "runtime.RawExtension":
            text = _first_text(raw)
            return json.loads(text) if text else None
    return _message(kind, raw)


def _first_text(raw: bytes) -> str:
    text: bytes = dict(_fields(raw)).get(1, b"")
    return text.decode()


def _time(raw: bytes, *, micro: bool) -> str | None:
    parts = dict(_fields(raw))
    seconds = _value("int64", parts.get(1, 0))
    if seconds <= 0 and not parts.get(2):
        return None  # Go's zero time
    moment = datetime.fromtimestamp(seconds + parts.get(2, 0) / 1e9, UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds" if micro else "seconds") + "Z"
