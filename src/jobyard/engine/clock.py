"""The time, from the system."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """The Clock of every shell."""

    def now(self) -> datetime:
        return datetime.now(UTC)
