"""What a user can say about a repository of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from jobyard.triggers.git.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a repository is served."""

    policy: Policy
    base: str | None = None
    """The folder that holds the five, with a slash at its end; None: found at the top or under jobs/."""
    commit_each: bool = False
    """One commit a transition, as goji made them, instead of one for all that happened at once. They are pushed together."""
    drop_duplicates: bool = False
    """A queued file whose name lies in another folder too is taken out of the queue, as goji did, instead of run once more."""
    poll: timedelta = timedelta(seconds=60)
    """How often to look though nothing told us to: the net under webhooks."""
    start_timeout: timedelta | None = timedelta(hours=1)
    """How long a Job of a plain manifest may wait until a pod of it runs: an image that does not exist never will. None: for ever."""
    log_lines: int = 20
    """How many of the last lines of a log a commit tells."""
