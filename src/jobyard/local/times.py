"""The time as the API writes it; and sums that end at the end of time rather than beyond it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


def stamp(time: datetime | None = None) -> str:
    """RFC 3339 with seconds: `metav1.Time`."""
    return (time or now()).astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def parse(text: str) -> datetime:
    """A time that the API let in, in UTC."""
    time = datetime.fromisoformat(text)
    try:
        return time.astimezone(UTC)
    except OverflowError:  # the first or the last hours of time, in another zone
        return FIRST if time.year == 1 else LAST


def after(time: datetime, seconds: float) -> datetime:
    """So many seconds later; earlier, when they are less than 0. What lies beyond the end of time is the end of time."""
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return LAST if seconds > 0 else FIRST
