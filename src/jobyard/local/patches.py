"""The three patches that clients send: JSON patch, merge patch, and Kubernetes' strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from jobyard import schema
from jobyard.local.resources import Resource
from jobyard.local.status import ApiError

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


OPERATIONS_LIMIT = 10_000
COPY_LIMIT = 3 * 1024 * 1024
"""Bytes that the copies of one JSON patch may add: each may double what there is."""


class _Operation(msgspec.Struct, frozen=True, kw_only=True):
    op: str
    path: str
    value: Any = None
    source: str = msgspec.field(name="from", default="")


def apply(resource: Resource, tree: dict[str, Any], patch: Any, media: str) -> dict[str, Any]:
    """`tree` patched, as a new tree. Raises ApiError (400, 415, 422)."""
    match media:
        case "application/json-patch+json":
            return _json_patch(tree, patch)
        case "application/merge-patch+json" if isinstance(patch, dict):
            merged: dict[str, Any] = _merge(tree, patch)
            return merged
        case "application/strategic-merge-patch+json" if isinstance(patch, dict):
            node = schema.definition(resource.schema_kind) if resource.schema_kind in schema.kinds() else {}
            return _strategic(tree, patch, node)
        case "application/merge-patch+json" | "application/strategic-merge-patch+json":
            raise ApiError(400, "error decoding patch: a JSON object is expected")
    raise ApiError(
        415, f"the body of the request was in an unknown format - accepted media types include: {JSON_PATCH}, {MERGE_PATCH}, {STRATEGIC}"
    )


def _merge(tree: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(tree) if isinstance(tree, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _json_patch(tree: dict[str, Any], patch: Any) -> dict[str, Any]:
    """RFC 6902."""
    try:
        operations = msgspec.convert(patch, list[_Operation])
    except msgspec.ValidationError as error:
        raise ApiError(400, f"error decoding patch: {error}") from None
    if len(operations) > OPERATIONS_LIMIT:
        raise ApiError(413, f"The allowed maximum operations in a JSON patch is {OPERATIONS_LIMIT}, got {len(operations)}")
    result: Any = copy.deepcopy(tree)
    copied = 0
    for operation in operations:
        try:
            if operation.op == "copy":
                copied += len(msgspec.json.encode(_at(result, _pointer(operation.source))))
            if copied > COPY_LIMIT:
                raise ApiError(413, f"unable to complete the copy, the accumulated size increase of copy exceeds the limit {COPY_LIMIT}")
            result = _operate(result, operation)
        except (KeyError, IndexError, ValueError, TypeError, RecursionError) as error:
            raise ApiError(
                422, f"the server rejected our request due to an error in our request: {operation.op} operation does not apply: {error}"
            ) from None
    if not isinstance(result, dict):
        raise ApiError(422, "the patch leaves no object")
    return result


def _operate(tree: Any, operation: _Operation) -> Any:
    path = _pointer(operation.path)
    match operation.op:
        case "test":
            if _at(tree, path) != operation.value:
                raise ValueError(f"testing value {operation.path} failed")
            return tree
        case "remove":
            _remove(tree, path)
            return tree
        case "add":
            return _add(tree, path, copy.deepcopy(operation.value))
        case "replace":
            _at(tree, path)
            if not path:
                return operation.value
            holder, last = _at(tree, path[:-1]), path[-1]
            holder[int(last) if isinstance(holder, list) else last] = copy.deepcopy(operation.value)
            return tree
        case "move" | "copy":
            source = _pointer(operation.source)
            value = copy.deepcopy(_at(tree, source))
            if operation.op == "move":
                _remove(tree, source)
            return _add(tree, path, value)
    raise ValueError(f"unknown operation {operation.op}")


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _at(tree: Any, path: list[str]) -> Any:
    for part in path:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree


def _add(tree: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    holder, last = _at(tree, path[:-1]), path[-1]
    if isinstance(holder, list):
        index = len(holder) if last == "-" else int(last)
        if not 0 <= index <= len(holder):
            raise IndexError(last)
        holder.insert(index, value)
    else:
        holder[last] = value
    return tree


def _remove(tree: Any, path: list[str]) -> None:
    holder, last = _at(tree, path[:-1]), path[-1]
    del holder[int(last) if isinstance(holder, list) else last]


def _strategic(tree: Any, patch: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Like a merge, but lists that the schema gives a merge key are merged by it; directives begin with `$`."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    merged: dict[str, Any] = dict(tree) if isinstance(tree, dict) else {}
    kept = patch.get("$retainKeys")
    if isinstance(kept, list):
        merged = {key: value for key, value in merged.items() if key in kept}
    properties = schema.follow(node).get("properties") or {}
    for key, value in patch.items():
        if key.startswith("$setElementOrder/") or key in ("$retainKeys", "$patch"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.split("/", 1)[1]
            there = merged.get(name)
            if isinstance(value, list) and isinstance(there, list):
                merged[name] = [each for each in there if each not in value]
            continue
        field = properties.get(key) or {}
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _strategic(merged.get(key), value, field)
        elif isinstance(value, list):
            merged[key] = _strategic_list(merged.get(key), value, field)
        else:
            merged[key] = value
    return merged


def _strategic_list(tree: Any, patch: list[Any], field: dict[str, Any]) -> list[Any]:
    key = field.get("x-kubernetes-patch-merge-key")
    merges = "merge" in str(field.get("x-kubernetes-patch-strategy", ""))
    old = list(tree) if isinstance(tree, list) else []
    if not merges:
        return [_clean(each) for each in patch]
    if not key:  # a list of plain values: a set
        return [*old, *(each for each in patch if each not in old)]
    if any(isinstance(each, dict) and each.get("$patch") == "replace" for each in patch):
        return [_clean(each) for each in patch if not (isinstance(each, dict) and each.get("$patch") == "replace")]
    item = field.get("items") or {}
    for each in patch:
        if not isinstance(each, dict) or key not in each:
            raise ApiError(400, f"map: {str(each)[:300]} does not contain declared merge key: {key}")
        index = next((i for i, known in enumerate(old) if isinstance(known, dict) and known.get(key) == each[key]), None)
        if each.get("$patch") == "delete":
            if index is not None:
                del old[index]
        elif index is None:
            old.append(_clean(each))
        else:
            old[index] = _strategic(old[index], each, item)
    return old


def _clean(tree: Any) -> Any:
    """A new value without directives."""
    if isinstance(tree, dict):
        return {key: _clean(value) for key, value in tree.items() if not key.startswith("$")}
    return [_clean(each) for each in tree] if isinstance(tree, list) else tree
