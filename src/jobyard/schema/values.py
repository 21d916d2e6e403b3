"""Texts that stand for something else in Kubernetes' objects: amounts and times. Pure."""

from __future__ import annotations

import math
import re
from datetime import datetime
from fractions import Fraction

_QUANTITY = re.compile(r"([+-]?)([0-9]*)(\.[0-9]*)?(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?[0-9]+)?")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = "KMGTPE"
_DIGITS = 300
"""Digits, and powers of ten, beyond which a number is as good as endless, or as nothing."""
LARGEST = 2**63 - 1
"""What Kubernetes makes of an amount that is larger."""


def quantity(value: object) -> Fraction | None:
    """An amount (`500m`, `128Mi`, 1.5) as Kubernetes reads it, rounded up to a milliard's part of one; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or not match[0] or min(text) < " ":  # spaces around it are let through; what JSON escapes is not
        return None
    sign, whole, fraction, suffix = match[1], match[2].lstrip("0"), (match[3] or "")[1:], match[4] or ""
    if len(whole) > _DIGITS:
        whole, fraction, suffix = str(LARGEST), "", "" if suffix[:1] in ("", "e", "E") else suffix
    fraction = fraction[:_DIGITS] + ("1" if fraction[_DIGITS:].strip("0") else "")
    number = Fraction(int(f"{whole or '0'}{fraction}"), 10 ** len(fraction))
    if len(suffix) == 2 and suffix[1] == "i":
        if match[3] is not None and not match[2] and not fraction:
            return None
        number = min(number * 1024 ** (_BINARY.index(suffix[0]) + 1), Fraction(LARGEST))
    elif suffix[:1] in ("e", "E") and len(suffix) > 1:
        power = suffix[1:].lstrip("+-").lstrip("0")
        if len(power) > 3 or int(power or "0") > _DIGITS:
            return Fraction(0) if suffix[1] == "-" else Fraction(LARGEST)
        number *= Fraction(10) ** (-int(power or "0") if suffix[1] == "-" else int(power or "0"))
    else:
        number *= Fraction(10) ** _DECIMAL[suffix]
    number = Fraction(math.ceil(number * 10**9), 10**9)
    return -number if sign == "-" else number


def is_time(text: str) -> bool:
    """Whether it is a time as Kubernetes writes and takes it, as 2026-11-24T17:00:00Z."""
    try:
        return _TIME.fullmatch(text) is not None and datetime.fromisoformat(text.replace("Z", "+00:00")) is not None
    except ValueError:
        return False
