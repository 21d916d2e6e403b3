"""Kubernetes' own schema: what the API server would say of an object's fields, without asking it.

`kubernetes.json` is the part of Kubernetes' OpenAPI that describes Jobs and what stands beside them; `scripts/schema` renews it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import jsonschema_rs

Path = tuple[str | int, ...]
_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that does not fit the schema.

    `path` leads to the value (for `unknown` and `missing`: to the field itself). `expected`: the types that fit. `known`: the fields
    that there are, for a field that there is not.
    """

    kind: Literal["unknown", "missing", "type"]
    path: Path
    found: Any = None
    expected: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


def spell(path: Path) -> str:
    """A path as kubectl writes it: `spec.template.spec.containers[0].image`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@cache
def _schema() -> dict[str, Any]:
    text = resources.files("jobyard.schema").joinpath("kubernetes.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def version() -> str:
    """The Kubernetes release that the schema is of, as `v1.37.0`."""
    return str(_schema()["version"])


def kinds() -> tuple[str, ...]:
    """The kinds that the schema knows, as `batch/v1/Job` and `v1/Pod`."""
    return tuple(_schema()["roots"])


@cache
def _validator(kind: str) -> Any:
    schema = _schema()
    root = schema["roots"].get(kind)
    node = {"$ref": f"#/$defs/{root}"} if root else {"properties": {"metadata": {"$ref": f"#/$defs/{_METADATA}"}}}
    return jsonschema_rs.validator_for({**node, "$defs": schema["$defs"]})


def problems(kind: str, tree: object) -> list[Problem]:
    """Everything in `tree` that does not fit `kind`, in the schema's order. Of a kind that is none of `kinds()`, the metadata alone is judged."""
    found: list[Problem] = []
    for error in _validator(kind if kind in kinds() else "").iter_errors(tree):
        path: Path = tuple(error.instance_path)
        match type(error.kind).__name__:
            case "AdditionalProperties":
                known = tuple(_at(error.schema_path[:-1]).get("properties", ()))
                found += [Problem(kind="unknown", path=(*path, name), known=known) for name in error.kind.unexpected]
            case "Required":
                found.append(Problem(kind="missing", path=(*path, error.kind.property)))
            case "Type":
                expected = tuple(name for name in error.kind.types if name != "null")
                found.append(Problem(kind="type", path=path, found=error.instance, expected=expected))
    return found


def _at(schema_path: list[str | int]) -> dict[str, Any]:
    node: Any = _schema()
    for part in schema_path:
        node = node[part]
    result: dict[str, Any] = node
    return result


@cache
def definition(kind: str) -> dict[str, Any]:
    """The schema of a kind, its references left as they are."""
    schema = _schema()
    result: dict[str, Any] = schema["$defs"][schema["roots"][kind]]
    return result


def follow(node: dict[str, Any]) -> dict[str, Any]:
    """What a schema node refers to, or itself; keys beside the reference win."""
    reference = node.get("$ref")
    if not reference:
        return node
    target = _schema()["$defs"][reference.removeprefix("#/$defs/")]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def definitions() -> dict[str, Any]:
    """All definitions by name, for those who publish them."""
    result: dict[str, Any] = _schema()["$defs"]
    return result


def roots() -> dict[str, str]:
    """From kind to the name of its definition."""
    result: dict[str, str] = _schema()["roots"]
    return result
