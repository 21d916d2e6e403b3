"""The time as the API writes it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)


def stamp(time: datetime | None = None) -> str:
    """RFC 3339 with seconds: `metav1.Time`."""
    return (time or now()).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro(time: datetime | None = None) -> str:
    """RFC 3339 with microseconds: `metav1.MicroTime`."""
    return (time or now()).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text)
