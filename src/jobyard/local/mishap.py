"""What went wrong inside, in one line for the log: no user's mistake ever shows a traceback, and ours shows where it is."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

_log = logging.getLogger("jobyard.local")


def tell(what: str, error: BaseException) -> str:
    """Writes to the log that `what` failed by an error that nobody foresaw; returns the error in words."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-4:]))
    words = f"{type(error).__name__}: {str(error)[:300]}".replace("\n", " ")
    _log.error("%s: %s (%s). This is a defect of the local cluster; what is beside it goes on.", what, words, where)
    return words
