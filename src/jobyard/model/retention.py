"""How long a run is kept after its end, with its Jobs, its pods and their logs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run that may have to go, as far as retention is concerned. `retention` is its workflow's own wish."""

    id: str
    created: datetime
    finished: datetime | None
    released: bool
    succeeded: bool = True
    retention: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How long runs are kept whose workflow does not say; None for ever."""

    runs: timedelta | None = None
    failed: timedelta | None = None
    """Those that did not succeed; None: as all."""

    def of(self, run: Candidate) -> timedelta | None:
        """How long this run is kept after its end."""
        if run.retention is not None:
            return run.retention
        return self.runs if run.succeeded or self.failed is None else self.failed


FOR_EVER = Keeping()
UNRELEASED = timedelta(days=7)
"""How much longer a run is kept whose source never let go of it: perhaps a crash is still to be mended."""


def expired(runs: Iterable[Candidate], keeping: Keeping, keep: int, now: datetime) -> list[str]:
    """The runs that may go: ended, older than their workflow or else `keeping` says, and not among the `keep` newest that have ended.

    A run without a retention stays; so does one that has not ended, however old.
    """
    ended = sorted((run for run in runs if run.finished is not None), key=lambda run: (run.finished or run.created, run.id), reverse=True)
    found = []
    for run in ended[keep:]:
        allowed = keeping.of(run)
        if allowed is None or run.finished is None:
            continue
        if not run.released:
            allowed += UNRELEASED
        if now - run.finished >= allowed:  # what a Job's status says may be any time: it is never added to
            found.append(run.id)
    return found
