"""What a file's manifests hold that must not be told, and a text without it. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jobyard.files.secret import hidden
from jobyard.model.parameters import show

_AT_LEAST = 4
"""Shorter values are not hidden in logs: hiding every `1` would leave no log."""
_PLAIN = frozenset(["true", "false", "null", "none"])
"""Nor are these: they say nothing, and stand everywhere."""
PIECE = 1000
"""Characters of the longest piece that is looked for: a longer secret is several. So much of a text is looked at beyond what is told of it, that
no piece is cut where the text is."""


def secrets(documents: Sequence[Any]) -> list[str]:
    """What must not be told, as a log may have it: the values as they are rendered, what they encode, and their lines. The longest first."""
    found = {each for document in documents for value in hidden(document) for each in _forms(show(value))}
    pieces = {piece for value in found for line in (value, *value.splitlines()) for piece in _pieces(line)}
    kept = (piece for piece in pieces if len(piece) >= _AT_LEAST and piece.lower() not in _PLAIN)
    return sorted(kept, key=lambda piece: (-len(piece), piece))


def _forms(value: str) -> Iterator[str]:
    yield value
    encoded = value.replace("\r", "").replace("\n", "")  # which Kubernetes passes over
    try:
        text = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return
    yield encoded
    yield text.decode(errors="replace")  # as a log is read


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


def hide(text: str, secrets: Iterable[str], length: int) -> str:
    """So much of a text, without what must not be told. Secrets may overlap: where one is, nothing of it stays."""
    text = text[: length + PIECE]
    places: list[tuple[int, int]] = []
    for secret in secrets:
        start = text.find(secret)
        while 0 <= start < length:
            places.append((start, start + len(secret)))
            start = text.find(secret, start + 1)
    shown: list[str] = []
    at = 0
    for start, end in sorted(places):
        if start > at or not shown:  # else it goes on where the one before ended
            shown += [text[at:start], "***"]
        at = max(at, end)
    return "".join([*shown, text[at:length]])
