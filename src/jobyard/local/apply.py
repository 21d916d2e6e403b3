"""Server-side apply: who owns which field, and what an apply changes. Pure.

An apply says all that its manager wants. What it said before and says no longer goes, unless another manager wants it too; what another
manager wants otherwise is a conflict, unless the apply is forced. Fields are written as Kubernetes writes them (`fieldsV1`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from jobyard import schema
from jobyard.local import times
from jobyard.local.resources import Resource
from jobyard.local.status import ApiError

Tree = dict[str, Any]
Path = tuple[str, ...]
"""The keys of fieldsV1 down to a field: `f:spec`, `k:{"name":"a"}`, `v:"x"`."""

_UNOWNED = {"apiVersion", "kind", "status"}
_UNOWNED_METADATA = {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"}


def apply(resource: Resource, live: Tree | None, wanted: Tree, manager: str, *, force: bool) -> Tree:
    """The object after `manager` applied `wanted` to `live`. Raises ApiError (409) on conflicts."""
    node = schema.definition(resource.schema_kind) if resource.schema_kind in schema.kinds() else {}
    mine = dict(fields(wanted, node))
    entries = [copy.deepcopy(entry) for entry in ((live or {}).get("metadata") or {}).get("managedFields") or []]
    before: set[Path] = set()
    others: dict[int, set[Path]] = {}
    for index, entry in enumerate(entries):
        owned = set(_read(entry.get("fieldsV1") or {}))
        if entry["manager"] == manager and entry["operation"] == "Apply":
            before = owned
        else:
            others[index] = owned
    now = dict(fields(live, node)) if live else {}
    conflicts: list[tuple[str, Path]] = []
    for index, owned in others.items():
        differ = {path for path in owned & mine.keys() if now.get(path) != mine[path]}
        conflicts += [(entries[index]["manager"], path) for path in sorted(differ)]
        if force and differ:
            entries[index]["fieldsV1"] = _write(owned - differ)
    if conflicts and not force:
        raise _conflict(conflicts)
    merged = _merge(live or {}, wanted, node)
    kept = set().union(*others.values()) if others else set()
    for path in sorted(before - mine.keys() - kept, key=len, reverse=True):
        _remove(merged, path)
    entries = [entry for entry in entries if not (entry["manager"] == manager and entry["operation"] == "Apply") and entry.get("fieldsV1")]
    entries.append(
        {
            "manager": manager,
            "operation": "Apply",
            "apiVersion": resource.api_version,
            "time": times.stamp(),
            "fieldsType": "FieldsV1",
            "fieldsV1": _write(set(mine)),
        }
    )
    return {**merged, "metadata": {**merged.get("metadata", {}), "managedFields": entries}}


def owners_of(given: Tree, old: Tree | None = None) -> list[Tree]:
    """The owners that the metadata of a new or changed object says; those of `old`, where what it says is none of ours. Anybody may have
    written it, and whoever comes after reads it without a question."""
    said = given.get("managedFields")
    if said is None or not all(_is_readable(entry) for entry in said):
        is_reset = said == [{}]
        return [] if is_reset else ((old or {}).get("managedFields") or [])
    return list(said)


def _is_readable(entry: Tree) -> bool:
    named = isinstance(entry.get("manager"), str) and entry.get("operation") in ("Apply", "Update")
    return named and _is_readable_set(entry.get("fieldsV1") or {})


def _is_readable_set(tree: Any) -> bool:
    return isinstance(tree, dict) and all(key == "." or (_is_readable_key(key) and _is_readable_set(inner)) for key, inner in tree.items())


def _is_readable_key(key: str) -> bool:
    head, text = key[:2], key[2:]
    if head == "f:":
        return True
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) if head == "k:" else head == "v:"


def fields(tree: Any, node: Tree, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field of a tree that can be owned, with its value: leaves, atomic lists, and the items of lists by their keys."""
    node = schema.follow(node)
    if isinstance(tree, dict):
        properties = node.get("properties") or {}
        inner = node.get("additionalProperties") if isinstance(node.get("additionalProperties"), dict) else {}
        for key, value in tree.items():
            if (path == () and key in _UNOWNED) or (path == ("f:metadata",) and key in _UNOWNED_METADATA):
                continue
            yield from fields(value, properties.get(key) or inner or {}, (*path, f"f:{key}"))
        if not tree and path:
            yield path, {}
        return
    if isinstance(tree, list) and _is_keyed(tree, node):
        for item in tree:
            name = _item(item, node)
            if isinstance(item, dict):
                yield (*path, name), True
                yield from fields(item, node.get("items") or {}, (*path, name))
            else:
                yield (*path, name), item
        return
    yield path, tree


def _is_keyed(items: list[Any], node: Tree) -> bool:
    """Whether the items of a list are told apart by what they say, not by where they stand."""
    kind = node.get("x-kubernetes-list-type")
    return kind == "set" or (kind == "map" and all(isinstance(item, dict) for item in items))


def _item(item: Any, node: Tree) -> str:
    if node.get("x-kubernetes-list-type") == "map":
        keys = {key: item.get(key) for key in node.get("x-kubernetes-list-map-keys") or ["name"] if key in item}
        return f"k:{json.dumps(keys, separators=(',', ':'), sort_keys=True)}"
    return f"v:{json.dumps(item)}"


def _merge(live: Any, wanted: Any, node: Tree) -> Any:
    node = schema.follow(node)
    if isinstance(wanted, dict):
        properties = node.get("properties") or {}
        merged = dict(live) if isinstance(live, dict) else {}
        for key, value in wanted.items():
            merged[key] = _merge(merged.get(key), value, properties.get(key) or {})
        return merged
    if isinstance(wanted, list) and isinstance(live, list) and _is_keyed(wanted, node) and _is_keyed(live, node):
        items = {_item(each, node): each for each in live}
        for each in wanted:
            name = _item(each, node)
            items[name] = _merge(items.get(name), each, node.get("items") or {}) if isinstance(each, dict) else each
        return list(items.values())
    return copy.deepcopy(wanted)


def _remove(tree: Any, path: Path) -> None:
    """Takes a field away, and what is left empty around it."""
    head, rest = path[0], path[1:]
    if isinstance(tree, dict) and head.startswith("f:"):
        key = head[2:]
        if key not in tree:
            return
        if rest:
            _remove(tree[key], rest)
        if not rest or tree[key] in ({}, []):
            del tree[key]
    elif isinstance(tree, list) and head.startswith("k:"):
        wanted = json.loads(head[2:])
        for item in list(tree):
            if isinstance(item, dict) and all(item.get(key) == value for key, value in wanted.items()):
                if rest:
                    _remove(item, rest)
                if not rest or set(item) <= set(wanted):
                    tree.remove(item)
    elif isinstance(tree, list) and head.startswith("v:"):
        value = json.loads(head[2:])
        if value in tree:
            tree.remove(value)


def _write(paths: set[Path]) -> Tree:
    tree: Tree = {}
    for path in sorted(paths):
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        if path and path[-1].startswith("k:"):
            node.setdefault(".", {})
    return tree


def _read(tree: Tree, path: Path = ()) -> Iterator[Path]:
    if path and ("." in tree or not tree):
        yield path
    for key, inner in tree.items():
        if key != ".":
            yield from _read(inner, (*path, key))


def spell(path: Path) -> str:
    """A path as kubectl shows it: `.spec.template.spec.containers[name="a"].image`."""
    text = ""
    for part in path:
        if part.startswith("f:"):
            text += f".{part[2:]}"
        elif part.startswith("k:"):
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(part[2:]).items()) + "]"
        else:
            text += f"[={part[2:]}]"
    return text


def _conflict(conflicts: list[tuple[str, Path]]) -> ApiError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}"', "field": spell(path)} for manager, path in conflicts
    ]
    if len(conflicts) == 1:
        manager, path = conflicts[0]
        message = f'Apply failed with 1 conflict: conflict with "{manager}": {spell(path)}'
    else:
        listed = "\n".join(f'conflict with "{manager}": {spell(path)}' for manager, path in conflicts)
        message = f"Apply failed with {len(conflicts)} conflicts: {listed}"
    return ApiError(409, message, details={"causes": causes})


def note_update(resource: Resource, old: Tree, new: Tree, manager: str) -> Tree:
    """`new` with its owners, after `manager` changed `old` to it without an apply: what changed is its own now. Only objects that somebody applied have owners."""
    entries = (old.get("metadata") or {}).get("managedFields")
    if not entries:
        return new
    node = schema.definition(resource.schema_kind) if resource.schema_kind in schema.kinds() else {}
    before, after = dict(fields(old, node)), dict(fields(new, node))
    changed = {path for path, value in after.items() if before.get(path) != value}
    gone = before.keys() - after.keys()
    kept: list[Tree] = []
    mine: set[Path] = set(changed)
    for entry in entries:
        owned = set(_read(entry.get("fieldsV1") or {})) - gone
        if entry["manager"] == manager and entry["operation"] == "Update":
            mine |= owned
            continue
        if left := owned - changed:
            kept.append({**entry, "fieldsV1": _write(left)})
    if mine:
        head = {
            "manager": manager,
            "operation": "Update",
            "apiVersion": resource.api_version,
            "time": times.stamp(),
            "fieldsType": "FieldsV1",
        }
        kept.append({**head, "fieldsV1": _write(mine)})
    return {**new, "metadata": {**(new.get("metadata") or {}), "managedFields": kept}}
