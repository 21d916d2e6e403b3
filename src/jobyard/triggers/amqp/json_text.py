"""JSON as JavaScript reads and writes it: kubernetes-event-jobs handed its pods `JSON.stringify(JSON.parse(message).content)`."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

_WHOLE_DIGITS = 300
"""Digits up to which a whole number stays exact; JavaScript would keep 16 of them."""
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_LARGEST_INDEX = 2**32 - 2
_HALF = re.compile("[\ud800-\udfff]")


class NotJson(ValueError):
    """The text is no JSON, or nested too deep. Tells nothing of it."""


def parse(text: str) -> Any:
    """What the text says. Raises NotJson."""
    try:
        return json.loads(text, parse_constant=_no_constant, parse_int=_whole)
    except (ValueError, RecursionError):
        raise NotJson from None


def write(value: Any) -> str:
    """A parsed value as `JSON.stringify` writes it: no spaces, numbers in their shortest form, keys that are whole numbers first. Whole
    numbers stay exact. Raises NotJson."""
    try:
        return _write(value)
    except RecursionError:
        raise NotJson from None


def _write(value: Any) -> str:
    match value:
        case dict():
            return "{" + ",".join(f"{_text(key)}:{_write(value[key])}" for key in _ordered(value)) + "}"
        case list():
            return "[" + ",".join(map(_write, value)) + "]"
        case str():
            return _text(value)
        case bool() | None:
            return json.dumps(value)
        case int():
            return str(value)
        case _:
            return _number(value)


def _ordered(tree: dict[str, Any]) -> list[str]:
    indices = [key for key in tree if _INDEX.fullmatch(key) and int(key) <= _LARGEST_INDEX]
    first = set(indices)
    return sorted(indices, key=int) + [key for key in tree if key not in first]


def _text(value: str) -> str:
    """Half a character is escaped: it can't be written as UTF-8."""
    return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", json.dumps(value, ensure_ascii=False))


def _number(value: float) -> str:
    """By ECMAScript's Number::toString."""
    if not math.isfinite(value):
        return "null"
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    figures, point = "".join(map(str, digits)), len(digits) + int(exponent)
    prefix = "-" if sign else ""
    if len(figures) <= point <= 21:
        return f"{prefix}{figures}{'0' * (point - len(figures))}"
    if 0 < point <= 21:
        return f"{prefix}{figures[:point]}.{figures[point:]}"
    if -6 < point <= 0:
        return f"{prefix}0.{'0' * -point}{figures}"
    mantissa = figures[0] + (f".{figures[1:]}" if len(figures) > 1 else "")
    return f"{prefix}{mantissa}e{point - 1:+d}"


def _whole(text: str) -> int | float:
    return int(text) if len(text) <= _WHOLE_DIGITS else float(text)


def _no_constant(text: str) -> None:
    raise ValueError(text)  # NaN and Infinity are no JSON, though Python takes them
