"""Durations as people write them: `90s`, `15m`, `1h30m`, `2d`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
LONGEST = timedelta(days=36500)
"""So far a clock can be asked to look ahead, from any time that anybody means."""
_LETTERS = 100
EXPECTED = 'a duration such as "30s", "15m" or "1h30m"'


def parse(text: str) -> timedelta:
    """`text` as a duration. Raises ValueError when it is none; a bare number is ambiguous, so it is none."""
    compact = text.strip().replace(" ", "")
    if not compact or len(compact) > _LETTERS or _PART.sub("", compact):
        raise ValueError(f"{text[:_LETTERS]!r} is not {EXPECTED}")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(compact))
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{text!r} is not a duration of at most {LONGEST.days}d")
    return timedelta(seconds=seconds)


def write(duration: timedelta) -> str:
    """`duration` as one would write it, in the largest unit that says all of it."""
    whole = round(duration.total_seconds())
    if whole != duration.total_seconds():
        return f"{duration / timedelta(milliseconds=1):.0f}ms"
    length, unit = next(
        (length, unit) for unit in "dhms" for length in [int(_UNITS[unit])] if whole % length == 0 and (whole or unit == "s")
    )
    return f"{whole // length}{unit}"


def show(duration: timedelta) -> str:
    """`duration` in the two units that matter: `0.4s`, `12s`, `3m05s`, `2h10m`, `3d4h`."""
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"
