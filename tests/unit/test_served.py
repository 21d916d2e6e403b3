"""What a service tells of runs that it finds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from jobyard.model.run import Outcome, Run, RunView, State
from jobyard.service.served import is_news
from tests.unit.samples import NOW

FOUND = Run(id="i", name="w-i", uid="u", namespace="n", trigger="ops", key="k", workflow="w", created=NOW, state=State.FAILED)


def ended(**ago: float) -> Outcome:
    finished = NOW - timedelta(**ago)
    view = RunView(id="i", name="w-i", workflow="w", namespace="n", trigger="ops", state=State.FAILED, started=finished, finished=finished)
    return Outcome(state=State.FAILED, reason="", view=view)


def test_an_end_is_told_once_though_the_run_is_found_again_by_whoever_leads_next() -> None:
    assert not is_news(FOUND, ended(minutes=5), NOW), "it is kept for a budget's count"
    assert is_news(FOUND, ended(seconds=10), NOW), "it may have ended while nobody led"
    assert is_news(replace(FOUND, state=State.RUNNING), ended(minutes=5), NOW), "it ended while it was driven here"
