"""A mistake in a file, and where it stands."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

_LONGEST = 500
_GUESSED = 100
"""Characters of a word that may be a misspelling, and known words that are looked at."""


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
    """What was found at a position, what was expected there, and what to do about it. Warnings refuse nothing. Never longer than a person
    reads and always one line, though it quotes what somebody wrote."""

    position: Position
    what: str
    expected: str = ""
    remedy: str = ""
    is_error: bool = True
    is_placed: bool = True
    """There is a line to point at; else `what` names the file or folder itself."""

    def __post_init__(self) -> None:
        for name in ("what", "expected", "remedy"):
            text = getattr(self, name)
            if len(text) > _LONGEST or not text.isprintable():
                object.__setattr__(self, name, _shown(text[:_LONGEST]) + "…" * (len(text) > _LONGEST))

    def __str__(self) -> str:
        kind = "" if self.is_error else "warning: "
        expected = f", expected {self.expected}" if self.expected else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        place = f"{self.position}: " if self.is_placed else ""
        return f"{place}{kind}{self.what}{expected}{remedy}"


def _shown(text: str) -> str:
    """A text without what would move a terminal's cursor."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean "x"?` for a likely misspelling, else an empty string."""
    meant = guess(word, known)
    return f'did you mean "{meant}"?' if meant else ""


def guess(word: str, known: Iterable[str]) -> str:
    """The known word that is likely to be meant by a misspelled one; '' where none is."""
    if len(word) > _GUESSED:
        return ""
    known = list(itertools.islice(known, _GUESSED))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not close:
        folded = {name.lower().replace("_", ""): name for name in known}
        match = folded.get(word.lower().replace("_", "").replace("-", ""))
        close = [match] if match else []
    return close[0] if close else ""
