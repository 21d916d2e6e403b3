"""The log of a service: for people on a terminal, JSON elsewhere; which run and which trigger as fields; what happens again and again is said once, with a count."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from jobyard.service.about import fields

REPEATS = 60.0
"""Seconds for which the same words are not said again."""
REMEMBERED = 1000
"""How many different sentences are remembered at once."""


@dataclass
class _Said:
    at: float
    again: int = 0


class Repeats(logging.Filter):
    """Lets each sentence through once a minute; the next time, it tells how often it was left out."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._said: OrderedDict[tuple[str, int, str], _Said] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return True
        key, now = (record.name, record.levelno, record.getMessage()), self._now()
        said = self._said.get(key)
        if said is not None and now - said.at < REPEATS:
            said.again += 1
            return False
        if said is not None and said.again:
            record.msg, record.args = f"{record.getMessage()} ({said.again} more in the last {now - said.at:.0f} s)", ()
        self._said[key] = _Said(at=now)
        self._said.move_to_end(key)
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return True


def _whose(logger: object, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """What the line is about, as who says it knows (`about`), or by the name of their task: tasks are named after the run that they are at."""
    for known, value in fields().items():
        event.setdefault(known, value)
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return event
    kind, _, name = (task.get_name() if task else "").partition(" ")
    if name and (field := {"run": "run", "follow": "run", "trigger": "trigger"}.get(kind)):
        event.setdefault(field, name)
    return event


def begin_logging(level: str, form: str) -> None:
    """Sends all that Jobyard logs to standard error. `form`: text, json, or auto (text on a terminal). Safe to repeat."""
    is_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if is_text else "iso", utc=not is_text, key="time"),
        _whose,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer(timestamp_key="time", colors=sys.stderr.isatty()) if is_text else _json
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    tail = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        *([] if is_text else [structlog.processors.format_exc_info]),
        renderer,
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=tail))
    logging.captureWarnings(True)
    # asyncio and Python's warnings speak up when something is wrong; their lines are lines of the same log.
    for name, least in (("jobyard", level.upper()), ("asyncio", "WARNING"), ("py.warnings", "WARNING")):
        logger = logging.getLogger(name)
        for old in list(logger.handlers):
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.setLevel(least)
        logger.propagate = False
    # Each call to the cluster and to git is news for whoever looks for a fault, and noise for everybody else.
    for quiet in ("jobyard.cluster", "jobyard.git.command"):
        logging.getLogger(quiet).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


def _json(logger: object, method: str, event: dict[str, Any]) -> str:
    import msgspec

    order = ("time", "level", "event")
    told = {key: event[key] for key in order if key in event} | {key: value for key, value in event.items() if key not in order}
    return msgspec.json.encode(told, enc_hook=str).decode()
