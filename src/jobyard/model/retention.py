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
    retention: timedelta | None = None


UNRELEASED = timedelta(days=7)
"""How much longer a run is kept whose source never let go of it: perhaps a crash is still to be mended."""


def expired(runs: Iterable[Candidate], default: timedelta | None, keep: int, now: datetime) -> list[str]:
    """The runs that may go: ended, older than their workflow or else `default` says, and not among the `keep` newest that have ended.

    A run without a retention stays; so does one that has not ended, however old.
    """
    ended = sorted((run for run in runs if run.finished is not None), key=lambda run: (run.finished or run.created, run.id), reverse=True)
    found = []
    for run in ended[keep:]:
        allowed = run.retention if run.retention is not None else default
        if allowed is None or run.finished is None:
            continue
        if not run.released:
            allowed += UNRELEASED
        if now - run.finished >= allowed:  # what a Job's status says may be any time: it is never added to
            found.append(run.id)
    return found
