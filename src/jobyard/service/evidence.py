"""The end of the logs of what failed, beside what is said of it: for who looks at one run or one Job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobyard.contracts import Cluster
from jobyard.engine.logs import end_of
from jobyard.model.run import State, StepView

LINES, STEPS = 10, 3
"""How many of the last lines of a log are fetched, and of how many steps: what failed first."""


async def with_logs(cluster: Cluster, namespace: str, steps: Sequence[StepView]) -> tuple[StepView, ...]:
    """The steps; those that failed, or are between two tries, with the end of their logs, as far as that can be had."""
    found: list[StepView] = []
    told = 0
    for step in steps:
        failed = step.state in (State.FAILED, State.LOST) or step.tries is not None
        if failed and step.diagnosis is not None and step.diagnosis.has_log and told < STEPS:
            told += 1
            found.append(replace(step, last_lines=tuple(await end_of(cluster, namespace, step.diagnosis, LINES))))
        else:
            found.append(step)
    return tuple(found)
