"""What is said of a run that is left to itself is what becomes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobyard.cli.leaving import what_goes_on
from jobyard.model.back_off import Tries
from jobyard.model.run import RunView, State, StepView
from tests.unit.samples import NOW

ENDED = StepView(name="a", state=State.SUCCEEDED, job="a")
RUNNING = StepView(name="b", state=State.RUNNING, job="b")
TO_COME = StepView(name="c", state=State.PENDING)
TRIED_BY_US = replace(RUNNING, state=State.PENDING, tries=Tries(failed=1, of=3, by="Jobyard"))
TRIED_BY_THEM = replace(TRIED_BY_US, tries=Tries(failed=1, of=3, by="Kubernetes"))
ALONE, STARTED, NOTHING = (
    "The Jobs go on. ",
    "Jobs that have started go on, and no other step starts until",
    "it has no Job yet, and none starts until",
)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((RUNNING,), ALONE),
        ((ENDED, RUNNING), ALONE),
        ((TRIED_BY_THEM,), ALONE),
        ((TRIED_BY_US,), STARTED),
        ((ENDED, TO_COME), STARTED),
        ((RUNNING, TO_COME), STARTED),
        ((TO_COME,), NOTHING),
        (None, STARTED),
    ],
)
def test_what_goes_on_depends_on_whether_steps_are_left(steps: tuple[StepView, ...] | None, said: str) -> None:
    view = (
        None
        if steps is None
        else RunView(id="r", name="w-r", workflow="w", namespace="n", trigger="cli", state=State.RUNNING, started=NOW, steps=steps)
    )
    told = what_goes_on(view, "jobyard run --resume w-r", driven=False)
    assert said in told
    assert told.endswith(" Come back with:\n  jobyard run --resume w-r")
    assert what_goes_on(view, "x", driven=True) == "A Jobyard service drives the run on. Come back with:\n  x"
