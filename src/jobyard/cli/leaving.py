"""What becomes of a run that nobody at this terminal waits for any more: one text for Ctrl-C, SIGTERM, a reader that is gone and --detach."""

from __future__ import annotations

import asyncio

from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine
from jobyard.model.errors import JobyardError
from jobyard.model.run import Run, RunView, StepView
from jobyard.service.in_sight import drives
from jobyard.service.target import Target

LOOK = 2.0
"""Seconds in which the cluster has to say whether a service drives the run: who leaves waits no longer."""


def what_goes_on(view: RunView | None, come_back: str, *, driven: bool) -> str:
    """What goes on without us, and how to come back. `view`: as far as it was seen; `driven`: a service drives the run. Pure."""
    if driven:
        told = "A Jobyard service drives the run on"
    elif view is not None and not any(_is_left(step) for step in view.steps):
        told = "The Jobs go on"
    else:
        any_job = view is None or any(step.job for step in view.steps)
        still = "Jobs that have started go on, and no other step starts" if any_job else "it has no Job yet, and none starts"
        told = f"No Jobyard service drives the run: {still} until somebody does"
    return f"{told}. Come back with:\n  {come_back}"


def _is_left(step: StepView) -> bool:
    """Whether a Job of the step is still to be made, and by us."""
    return not step.state.is_end and (not step.job or (step.tries is not None and step.tries.by == "Jobyard"))


async def is_driven(target: Target) -> bool:
    """Whether a service drives the namespace's runs, as far as that is to be known at once."""
    try:
        async with asyncio.timeout(LOOK):
            return await drives(target.cluster, SystemClock(), target.namespace)
    except (JobyardError, TimeoutError):
        return False


async def on_leaving(engine: ClusterEngine, run: Run, target: Target, come_back: str) -> str:
    """`what_goes_on` of a run that is driven here until now."""
    return what_goes_on(engine.driven(run), come_back, driven=await is_driven(target))
