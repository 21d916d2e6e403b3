"""What validation asks of single fields: forms of names, ranges, choices. Every check yields what the API server would refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobyard.local.status import Invalid

Tree = dict[str, Any]

LARGEST_32 = 2**31 - 1
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_KEY_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
VARIABLE = re.compile(r"[ -<>-~]+")
LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric "
    "character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_KEY_WORDS = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
_VALUE_WORDS = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
_SHOWN = 300
"""Characters of a wrong value that are repeated in the answer."""


def is_label(text: str) -> bool:
    return len(text) <= 63 and LABEL.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    return len(text) <= 253 and SUBDOMAIN.fullmatch(text) is not None


def is_qualified(text: str) -> bool:
    """Whether it may be the key of a label: a name, perhaps after a domain and a slash."""
    domain, slash, name = text.rpartition("/")
    return (not slash or is_subdomain(domain)) and len(name) <= 63 and _KEY_NAME.fullmatch(name) is not None


def is_label_value(text: str) -> bool:
    return len(text) <= 63 and _LABEL_VALUE.fullmatch(text) is not None


def invalid(field: str, value: object, why: str) -> Invalid:
    shown = f'"{value[:_SHOWN]}"' if isinstance(value, str) else str(value)[:_SHOWN]
    return Invalid(field, "FieldValueInvalid", f"{shown}: {why}")


def required(tree: Tree, name: str, path: str, why: str = "") -> Iterator[Invalid]:
    if not tree.get(name):
        yield Invalid(f"{path}.{name}", "FieldValueRequired", why)


def within(tree: Tree, name: str, path: str, low: int = 0, high: int | None = None) -> Iterator[Invalid]:
    """A number of at least `low`, and at most `high`; or none."""
    value = tree.get(name)
    if value is None or (low <= value and (high is None or value <= high)):
        return
    why = f"must be greater than or equal to {low}" if high is None else f"must be between {low} and {high}, inclusive"
    yield invalid(f"{path}.{name}", value, why)


def one_of(tree: Tree, name: str, path: str, words: Sequence[str], *, must: bool = False) -> Iterator[Invalid]:
    """One of some words; or none, unless it `must` be there."""
    value = tree.get(name)
    listed = ", ".join(f'"{word}"' for word in words)
    if not value and must:
        yield Invalid(f"{path}.{name}", "FieldValueRequired", f"valid values: {listed}")
    elif value is not None and value not in words:
        yield Invalid(f"{path}.{name}", "FieldValueNotSupported", f'"{str(value)[:_SHOWN]}": supported values: {listed}')


def labels(said: Mapping[str, str] | None, field: str) -> Iterator[Invalid]:
    for key, value in (said or {}).items():
        if not is_qualified(key):
            yield invalid(field, key, _KEY_WORDS)
        if len(value) > 63:
            yield invalid(field, value, "must be no more than 63 bytes")
        elif not is_label_value(value):
            yield invalid(field, value, _VALUE_WORDS)


def notes(said: Mapping[str, str] | None, field: str) -> Iterator[Invalid]:
    size = 0
    for key, value in (said or {}).items():
        size += len(key.encode()) + len(value.encode())
        if not is_qualified(key.lower()):
            yield invalid(field, key, _KEY_WORDS)
    if size > 256 * 1024:
        yield Invalid(field, "FieldValueTooLong", f"may not be more than {256 * 1024} bytes")


def selector(said: Tree | None, field: str) -> Iterator[Invalid]:
    """A label selector: matchLabels and matchExpressions."""
    if said is None:
        return
    yield from labels(said.get("matchLabels"), f"{field}.matchLabels")
    for index, rule in enumerate(said.get("matchExpressions") or []):
        path = f"{field}.matchExpressions[{index}]"
        operator, values = rule["operator"], rule.get("values") or []
        if operator in ("In", "NotIn") and not values:
            yield Invalid(f"{path}.values", "FieldValueRequired", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            yield Invalid(f"{path}.values", "FieldValueForbidden", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield invalid(f"{path}.operator", operator, "not a valid selector operator")
        if not is_qualified(rule["key"]):
            yield invalid(f"{path}.key", rule["key"], _KEY_WORDS)
        for value in values:
            if not is_label_value(value):
                yield invalid(f"{path}.values", value, _VALUE_WORDS)
