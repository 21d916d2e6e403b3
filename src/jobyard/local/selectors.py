"""Label and field selectors, parsed once into a function from object to yes or no."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from jobyard.local.resources import Resource, field_value
from jobyard.local.status import ApiError

Matches = Callable[[Mapping[str, Any]], bool]

_SET = re.compile(r"([^\s,!=()]+)\s+(in|notin)\s+\(([^()]*)\)")
_EQUALITY = re.compile(r"([^\s,!=()]+)\s*(==|!=|=)\s*([^\s,!=()]*)")
_EXISTS = re.compile(r"(!?)\s*([^\s,!=()]+)")


def labels(text: str) -> Matches:
    """A label selector: `a=b,c!=d,e in (f,g),!h`. Raises ApiError (400)."""
    rules: list[Callable[[Mapping[str, str]], bool]] = []
    rest = text.strip()
    while rest:
        rule, end = _label_rule(rest, text)
        rules.append(rule)
        rest = rest[end:].lstrip()
        if rest and not rest.startswith(","):
            raise ApiError(400, f"unable to parse requirement: found '{rest[:20]}', expected: ',' or 'end of string'")
        rest = rest[1:].lstrip()

    def matches(tree: Mapping[str, Any]) -> bool:
        own: Mapping[str, str] = tree["metadata"].get("labels") or {}
        return all(rule(own) for rule in rules)

    return matches


def _label_rule(rest: str, text: str) -> tuple[Callable[[Mapping[str, str]], bool], int]:
    if found := _SET.match(rest):
        key, operator = found[1], found[2]
        wanted = {value.strip() for value in found[3].split(",")}
        if operator == "in":
            return (lambda own: own.get(key) in wanted), found.end()
        return (lambda own: own.get(key) not in wanted), found.end()
    if found := _EQUALITY.match(rest):
        key, value = found[1], found[3]
        if found[2] == "!=":
            return (lambda own: own.get(key) != value), found.end()
        return (lambda own: own.get(key) == value), found.end()
    if found := _EXISTS.match(rest):
        key = found[2]
        if found[1]:
            return (lambda own: key not in own), found.end()
        return (lambda own: key in own), found.end()
    raise ApiError(400, f"unable to parse requirement: found {text!r}, expected: identifier")


def fields(resource: Resource, text: str) -> Matches:
    """A field selector: `metadata.name=x,type!=Warning`. Raises ApiError (400) for a field that may not be selected by."""
    rules: list[tuple[str, bool, str]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = re.fullmatch(r"([\w.]+)\s*(==|!=|=)\s*(.*)", part)
        if not found:
            raise ApiError(
                400,
                f'Unable to find "{resource.api_version}, Resource={resource.plural}" that match label selector "", field selector "{text}": invalid selector',
            )
        if field_value(resource, {"metadata": {}}, found[1]) is None:
            message = (
                f'field label "{found[1]}" not supported for {resource.kind}'
                if resource.fields
                else f"field label not supported: {found[1]}"
            )
            raise ApiError(
                400,
                f'Unable to find "{resource.api_version}, Resource={resource.plural}" that match label selector "", field selector "{text}": {message}',
            )
        rules.append((found[1], found[2] != "!=", found[3]))

    def matches(tree: Mapping[str, Any]) -> bool:
        return all((field_value(resource, tree, name) == value) is wanted for name, wanted, value in rules)

    return matches


def of_spec(selector: Mapping[str, Any] | None) -> Matches:
    """The `selector` of a Job's spec: matchLabels and matchExpressions."""
    parts = [f"{key}={value}" for key, value in ((selector or {}).get("matchLabels") or {}).items()]
    for rule in (selector or {}).get("matchExpressions") or []:
        match rule["operator"]:
            case "In":
                parts.append(f"{rule['key']} in ({','.join(rule['values'])})")
            case "NotIn":
                parts.append(f"{rule['key']} notin ({','.join(rule['values'])})")
            case "Exists":
                parts.append(rule["key"])
            case _:
                parts.append(f"!{rule['key']}")
    return labels(",".join(parts))
