"""What a plain word of YAML, or a number of JSON, means by kubectl's rules.

They are those of YAML 1.1 with exceptions: `yes` and `on` are true, `012` is ten, but `1:30` and dates stay strings.
"""

from __future__ import annotations

import base64
import re
from typing import Any

_TRUE = {"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"}
_FALSE = {"n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"}
_NULL = {"", "~", "null", "Null", "NULL"}
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_STR, _BINARY = "tag:yaml.org,2002:str", "tag:yaml.org,2002:binary"
_DIGITS = 70
"""More than any whole number of 64 bits has in any base: what is longer is text."""


def scalar(text: str, tag: str | None, *, quoted: bool) -> Any:
    """The value of a scalar. `tag`: what stands before it, as `!!str`. Raises ValueError: `!!binary` that is no base64 of text."""
    if tag == _BINARY:
        return base64.b64decode(text, validate=True).decode()
    if quoted or tag in ("!", _STR):
        return text
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return fraction(text)
    return text


def whole(text: str) -> int | str:
    """A whole number of decimal digits; the text itself where it is longer than any of Kubernetes'."""
    return int(text) if len(text) < 20 else text


def fraction(text: str) -> int | float | str:
    """A number with a point or an exponent; the text itself where it is too large for one."""
    number = float(text)
    if number in (float("inf"), float("-inf")):
        return text
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _integer(text: str) -> int | str:
    digits = text.lstrip("+-").replace("_", "")
    if len(digits) > _DIGITS:
        return text
    base = {"0b": 2, "0x": 16, "0o": 8}.get(digits[:2]) or (8 if len(digits) > 1 and digits.startswith("0") else 10)
    if base == 10 and len(digits) >= 20:
        return text
    try:
        number = int(digits, 0 if digits[:2] in ("0b", "0x", "0o") else base)
    except ValueError:
        if not digits.isdigit():
            return text
        number = int(float(digits))  # 08 is no octal number; like kubectl, take it for a decimal fraction's integer part
    number = -number if text.startswith("-") else number
    return number if -(2**63) <= number < 2**64 else text  # what does not fit is no number to anybody who reads it
