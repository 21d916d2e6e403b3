"""A mistake in a file, and where it stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found at a position, what was expected there, and what to do about it. Warnings refuse nothing."""

    position: Position
    what: str
    expected: str = ""
    remedy: str = ""
    is_error: bool = True

    def __str__(self) -> str:
        kind = "" if self.is_error else "warning: "
        expected = f", expected {self.expected}" if self.expected else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.position}: {kind}{self.what}{expected}{remedy}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean "x"?` for a likely misspelling, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    if not close:
        folded = {name.lower().replace("_", ""): name for name in known}
        match = folded.get(word.lower().replace("_", "").replace("-", ""))
        close = [match] if match else []
    return f'did you mean "{close[0]}"?' if close else ""
