"""What a service's log says: lines that programs can read, each thing once, about what it is about."""

from __future__ import annotations

import asyncio
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from jobyard.service.about import about
from jobyard.service.log import REMEMBERED, REPEATS, Repeats, begin_logging

LOGGERS = ("jobyard", "asyncio", "py.warnings")
log = logging.getLogger("jobyard.test")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = {
        name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level, logging.getLogger(name).propagate) for name in LOGGERS
    }
    yield
    logging.captureWarnings(False)
    for name, (handlers, level, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_which_run_trigger_and_job_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    begin_logging("info", "json")

    async def drive() -> None:
        log.info("by its name")

    async def work() -> None:
        with about(trigger="ops"):
            await asyncio.create_task(drive(), name="run nightly-abc")
            with about(run="other", job="a-job"):
                log.warning("by what is known")
            log.info("of the trigger")
        log.info("of nothing")

    asyncio.run(work())
    told = [{key: value for key, value in line.items() if key != "time"} for line in lines(capsys)]
    assert told == [
        {"level": "info", "event": "by its name", "run": "nightly-abc", "trigger": "ops"},
        {"level": "warning", "event": "by what is known", "trigger": "ops", "run": "other", "job": "a-job"},
        {"level": "info", "event": "of the trigger", "trigger": "ops"},
        {"level": "info", "event": "of nothing"},
    ]


def test_what_python_itself_says_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    begin_logging("info", "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("an old way", stacklevel=1)
    logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=ValueError("no"))
    first, second = lines(capsys)
    assert "an old way" in first["event"]
    assert (second["level"], second["event"]) == ("error", "Task exception was never retrieved")
    assert "ValueError: no" in second["exception"]


def test_what_happens_again_and_again_is_said_once_and_then_with_a_count() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)

    def said(words: str) -> str:
        record = logging.LogRecord("jobyard.x", logging.WARNING, "", 0, "%s", (words,), None)
        return record.getMessage() if repeats.filter(record) else ""

    assert [said("away"), said("away"), said("other"), said("away")] == ["away", "", "other", ""]
    now = REPEATS + 1
    assert said("away") == "away (2 more in the last 61 s)"
    assert said("away") == ""
    for number in range(3 * REMEMBERED):
        said(str(number))
    assert len(repeats._said) == REMEMBERED
