"""What may stand where in an object, by Kubernetes' own schema: for those who walk an object along it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from jobyard.schema import follow, roots

ShapeKind = Literal["object", "list", "map", "whole", "time", "quantity", "number or text", "other"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a value is. `definition`: the last word of its definition's name (`Container`), of objects. `bits`: 32 or 64, of whole numbers.
    `item`: the shape of what is in a list or a map. `since`: the release that brought it, when the one before did not know it. `zero`: what
    Go has where nothing is said, of plain values."""

    kind: ShapeKind
    definition: str = ""
    bits: int = 64
    item: Shape | None = None
    since: str = ""
    zero: str | int | None = None
    reference: str = ""

    @property
    def fields(self) -> Mapping[str, Shape]:
        """The fields of an object."""
        return _fields(self.reference)

    @property
    def needed(self) -> Mapping[str, Shape]:
        """Those of its fields that are there in every object of Kubernetes', said or not."""
        return _needed(self.reference)


def of(kind: str) -> Shape:
    """The shape of a kind of `jobyard.schema.kinds()`."""
    return _shape({"$ref": f"#/$defs/{roots()[kind]}"})


@cache
def _fields(reference: str) -> dict[str, Shape]:
    return {name: _shape(node) for name, node in follow({"$ref": reference})["properties"].items()}


@cache
def _needed(reference: str) -> dict[str, Shape]:
    fields = _fields(reference)
    return {name: fields[name] for name in follow({"$ref": reference}).get("required") or ()}


_ZEROS: Mapping[str, str | int] = {"string": "", "integer": 0, "boolean": False}


def _shape(node: dict[str, Any]) -> Shape:
    reference, since = node.get("$ref", ""), node.get("x-since", "")
    whole = follow(node)
    definition = reference.rsplit(".", 1)[-1]
    types = whole.get("type") or []
    types = [types] if isinstance(types, str) else types
    if "properties" in whole:
        return Shape(kind="object", definition=definition, since=since, reference=reference)
    if "array" in types and "items" in whole:
        return Shape(kind="list", item=_shape(whole["items"]), since=since)
    if isinstance(whole.get("additionalProperties"), dict):
        return Shape(kind="map", item=_shape(whole["additionalProperties"]), since=since)
    if definition == "Quantity":
        return Shape(kind="quantity", since=since)
    if "integer" in types and "string" in types:
        return Shape(kind="number or text", bits=32, since=since, zero=0)
    if "integer" in types:
        return Shape(kind="whole", bits=32 if whole.get("format") == "int32" else 64, since=since, zero=0)
    if whole.get("format") == "date-time":
        return Shape(kind="time", definition=definition, since=since)
    zero = next((_ZEROS[each] for each in types if each in _ZEROS), None)
    return Shape(kind="other", definition=definition, since=since, zero=zero)
