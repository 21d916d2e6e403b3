"""What is logged, as a person at a terminal reads it."""

from __future__ import annotations

import logging
import sys

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
"""By how often -v was given."""


class Plain(logging.Formatter):
    """A line for each record; the time and the level only where there is much of it, the traceback only for who looks for a fault of ours."""

    def __init__(self, times: int) -> None:
        super().__init__("%(asctime)s %(message)s" if times else "%(message)s", "%H:%M:%S")
        self._times = times

    def format(self, record: logging.LogRecord) -> str:
        said = super().format(record)
        return said if self._times or record.levelno < logging.WARNING else f"warning: {said}"

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's own name
        return super().formatException(ei) if self._times > 1 else ""  # type: ignore[arg-type]


def log_to_stderr(times: int = 0) -> None:
    """Has our own log printed: warnings; with one -v what is asked of others, with two whatever there is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain(times))
    logger = logging.getLogger("jobyard")
    logger.handlers[:] = [handler]
    logger.setLevel(LEVELS[min(times, len(LEVELS) - 1)])
