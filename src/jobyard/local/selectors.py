"""Label and field selectors, parsed once into a function from object to yes or no."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobyard.local.resources import Resource, field_value
from jobyard.local.status import ApiError

Matches = Callable[[Mapping[str, Any]], bool]

_SET = re.compile(r"([^\s,!=()]+)\s+(in|notin)\s+\(([^()]*)\)")
_EQUALITY = re.compile(r"([^\s,!=()]+)\s*(==|!=|=)\s*([^\s,!=()]*)")
_COMMA = re.compile(r"\s*(?:,\s*|$)")
_EXISTS = re.compile(r"(!?)\s*([^\s,!=()]+)")


def labels(text: str) -> Matches:
    """A label selector: `a=b,c!=d,e in (f,g),!h`. Raises ApiError (400)."""
    rules: list[Callable[[Mapping[str, str]], bool]] = []
    at, text = 0, text.strip()
    while at < len(text):
        rule, at = _label_rule(text, at)
        rules.append(rule)
        end = _COMMA.match(text, at)
        if not end:
            raise ApiError(400, f"unable to parse requirement: found '{text[at : at + 20]}', expected: ',' or 'end of string'")
        at = end.end()

    def matches(tree: Mapping[str, Any]) -> bool:
        own: Mapping[str, str] = tree["metadata"].get("labels") or {}
        return all(rule(own) for rule in rules)

    return matches


def _label_rule(text: str, at: int) -> tuple[Callable[[Mapping[str, str]], bool], int]:
    if found := _SET.match(text, at):
        key, operator = found[1], found[2]
        wanted = {value.strip() for value in found[3].split(",")}
        if operator == "in":
            return (lambda own: own.get(key) in wanted), found.end()
        return (lambda own: own.get(key) not in wanted), found.end()
    if found := _EQUALITY.match(text, at):
        key, value = found[1], found[3]
        if found[2] == "!=":
            return (lambda own: own.get(key) != value), found.end()
        return (lambda own: own.get(key) == value), found.end()
    if found := _EXISTS.match(text, at):
        key = found[2]
        if found[1]:
            return (lambda own: key not in own), found.end()
        return (lambda own: key in own), found.end()
    raise ApiError(400, f"unable to parse requirement: found {text[at : at + 20]!r}, expected: identifier")


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
    wanted: Mapping[str, str] = (selector or {}).get("matchLabels") or {}
    rules: Sequence[Mapping[str, Any]] = (selector or {}).get("matchExpressions") or ()

    def holds(rule: Mapping[str, Any], own: Mapping[str, str]) -> bool:
        value, values = own.get(rule["key"]), rule.get("values") or ()
        match rule["operator"]:
            case "In":
                return value is not None and value in values
            case "NotIn":
                return value is None or value not in values
            case "Exists":
                return value is not None
        return value is None

    def matches(tree: Mapping[str, Any]) -> bool:
        own: Mapping[str, str] = tree["metadata"].get("labels") or {}
        return all(own.get(key) == value for key, value in wanted.items()) and all(holds(rule, own) for rule in rules)

    return matches
