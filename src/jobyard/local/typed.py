"""An object as Kubernetes takes it in: every field of its type and within it, nothing null, nothing missing that is always there. Pure.

The API server decodes a body into Go's structs, and everything behind it can rely on that. So can our controllers, by this.
"""

from __future__ import annotations

from typing import Any

from jobyard.schema.shapes import Shape
from jobyard.schema.values import is_time, quantity

Path = tuple[str | int, ...]


class Unfit(Exception):
    """A value that its field can't hold. `why`: in the API server's words."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(why)
        self.path = path
        self.why = why


def settle(shape: Shape, value: Any, path: Path = (), *, whole: bool = True) -> Any:
    """The value as Kubernetes would keep it. Its fields must be known and of the right JSON type already. Raises Unfit.

    `whole`: fields that every object has are added where they are missing. What a patch says is no whole object.
    """
    match shape.kind:
        case "object":
            return _object(shape, value or {}, path, whole=whole)
        case "list":
            return [_item(shape.item, each, (*path, index), whole=whole) for index, each in enumerate(value or [])]
        case "map":
            return {key: _item(shape.item, each, (*path, key), whole=whole) for key, each in (value or {}).items()}
        case "whole" | "number or text":
            return value if isinstance(value, str) else _number(shape, value, path)
        case "quantity":
            return _quantity(value, path)
        case "time" if not is_time(value):
            raise Unfit(path, f'parsing time "{value[:40]}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value[:40]}"')
    return value


def _object(shape: Shape, value: dict[str, Any], path: Path, *, whole: bool) -> dict[str, Any]:
    fields = shape.fields
    found = {
        key: settle(fields[key], each, (*path, key), whole=whole) if key in fields else each
        for key, each in value.items()
        if each is not None
    }
    if whole:
        for key, field in shape.needed.items():
            if key not in found and (nothing := _nothing(field)) is not None:
                found[key] = nothing
    return found


def _item(shape: Shape | None, value: Any, path: Path, *, whole: bool) -> Any:
    if shape is None:
        return value
    return settle(shape, value, path, whole=whole) if value is not None else _nothing(shape)


def _nothing(shape: Shape) -> Any:
    """What Go has where nothing is said."""
    match shape.kind:
        case "object":
            return _object(shape, {}, (), whole=True)
        case "list":
            return []
        case "map":
            return {}
        case "quantity":
            return "0"
    return shape.zero


def _number(shape: Shape, value: int | float, path: Path) -> int | float:
    edge = 2 ** (shape.bits - 1)
    if isinstance(value, float) or not -edge <= value < edge:
        raise Unfit(path, f"cannot unmarshal number {str(value)[:40]} into Go value of type int{shape.bits}")
    return value


def _quantity(value: Any, path: Path) -> str:
    if quantity(value) is None:
        raise Unfit(path, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    return str(value)
