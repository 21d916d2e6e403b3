"""What was asked of the API server, counted: for whoever measures. Plain numbers that only grow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(eq=False)
class Streams:
    """The watch streams of one kind in one namespace."""

    opened: int = 0
    heard: float = 0.0
    """When the last line came, by `time.monotonic`; 0 while none has."""


@dataclass(eq=False)
class Tally:
    """All that one client did."""

    calls: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By HTTP method and status; status 0 where no answer came."""
    held_back: float = 0.0
    """Seconds that calls waited at the door (`pace`), all together."""
    streams: dict[tuple[str, str], Streams] = field(default_factory=dict)
    """By kind, in the plural, and namespace."""

    def of(self, plural: str, namespace: str) -> Streams:
        """The streams of a kind in a namespace."""
        return self.streams.setdefault((plural, namespace), Streams())
