"""Numbers and moments that stand somewhere as text, in a label or an annotation say: anybody may have written them."""

from __future__ import annotations

from datetime import datetime


def whole(text: str, most: int) -> int | None:
    """A whole number from 0 to `most`, in the digits 0 to 9; None when it is none. `isdigit` alone is true for ², and `int` reads what nobody means."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    number = int(digits) if len(digits) <= len(str(most)) else most + 1
    return number if number <= most else None


def moment(text: str | None) -> datetime | None:
    """A time as we write it (RFC 3339); None when it is none, has no zone, or is one that nobody means: so far off that no time can be added."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None and 1970 < found.year < 3000 else None
