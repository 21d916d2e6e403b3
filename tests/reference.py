"""The parts of docs/serve.md that are made from the source: `python -m tests.reference` writes them, and a test compares."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from jobyard.cluster.client import HttpCluster
from jobyard.cluster.tally import Tally
from jobyard.engine.clock import SystemClock
from jobyard.service import service_schema
from jobyard.service.metrics import Metrics
from jobyard.service.obstacles import Obstacles
from jobyard.service.service import Service
from jobyard.service.settings import Settings

PAGE = Path(__file__).parents[1] / "docs/serve.md"
Schema = dict[str, Any]


def settings() -> str:
    """Each key of the settings, with its type, its default and its meaning."""
    schema = service_schema.json_schema()
    rows = ["| Key | Type | Default | |", "|---|---|---|---|"]
    for key, value, is_required in _keys(schema, schema, ""):
        default = value.get("default")
        told = "**required**" if is_required else f"`{_yaml(default)}`" if default not in (None, [], {}, "") else ""
        rows.append(f"| `{key}` | {_type(schema, value)} | {told} | {value.get('description', '')} |".replace("  ", " "))
    return "\n".join(rows)


def _keys(schema: Schema, model: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    for name, value in model["properties"].items():
        key = f"{path}{name}"
        inner = _model(schema, value)
        if inner is None:
            yield key, value, name in model.get("required", ())
            continue
        if _is_list(value):
            key += "[]"
        elif any("type" in each and each["type"] != "null" for each in value.get("anyOf", ())):
            yield key, value, name in model.get("required", ())  # a text may stand for all of it
        yield from _keys(schema, inner, f"{key}.")


def _model(schema: Schema, value: Schema) -> Schema | None:
    """The part of the settings that a value is, or a list of it."""
    for each in (value, value.get("items", {}), *value.get("anyOf", ())):
        name = str(each.get("$ref", "")).rpartition("/")[2]
        if name and name != "FromOutside":
            found: Schema = schema["$defs"][name]
            return found
    return None


def _is_list(value: Schema) -> bool:
    return value.get("type") == "array"


def _type(schema: Schema, value: Schema) -> str:
    choices = [each for each in value.get("anyOf", [value]) if each.get("type") != "null" and "$ref" not in each]
    return " or ".join(_word(schema, each) for each in choices)


def _word(schema: Schema, value: Schema) -> str:
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "patternProperties" in value:
        return f"name: {_type(schema, next(iter(value['patternProperties'].values())))}"
    match value.get("type"):
        case "array":
            return f"list of {_type(schema, value['items'])}s"
        case "integer":
            return f"{value['minimum']:,} to {value['maximum']:,}"
        case "boolean":
            return "true, false"
        case "object":
            return "mapping"
    if "pattern" in value:
        return "name"
    return str(
        value.get("title") or {"30s": "duration", "0.0.0.0:8080": "HOST:PORT"}.get(next(iter(value.get("examples", [])), ""), "text")
    )


def _yaml(default: Any) -> str:
    return {True: "true", False: "false"}.get(default, str(default)) if isinstance(default, bool) else str(default)


def metrics() -> str:
    """Each metric, with its labels and its meaning."""
    return asyncio.run(_metrics())


async def _metrics() -> str:
    found = Metrics()
    cluster = cast(HttpCluster, SimpleNamespace(tally=Tally()))
    nothing: Any = None
    service = Service(cluster, SystemClock(), "default", Settings(), "me", nothing, found, cast(Obstacles, nothing))
    found.service = lambda: service
    rows = ["| Metric | Labels | |", "|---|---|---|"]
    counted: dict[str, tuple[str, ...]] = {each._name: each._labelnames for each in (found.ended, found.launch, found.decision)}
    for each in found.registry.collect():
        labels: tuple[str, ...] = counted.get(each.name) or getattr(each, "_labelnames", None) or ()
        name = f"{each.name}_total" if each.type == "counter" else each.name
        rows.append(f"| `{name}` | {', '.join(labels)} | {each.documentation} |".replace("  ", " "))
    return "\n".join(rows)


def written(page: str) -> str:
    """The page with these parts as they should be."""
    for name, text in (("settings", settings()), ("metrics", metrics())):
        head, rest = page.split(f"<!-- {name}: python -m tests.reference writes this -->\n")
        _, tail = rest.split(f"\n<!-- /{name} -->")
        page = f"{head}<!-- {name}: python -m tests.reference writes this -->\n{text}\n<!-- /{name} -->{tail}"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
