"""`jobyard cancel`: ends a run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import rich_click as click

from jobyard.cli.hints import say
from jobyard.cli.options import cluster_options, complete_run, named, output_option
from jobyard.cli.printing import print_json
from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.model.run import RunView


@click.command()
@click.argument("run", shell_complete=complete_run, callback=named)
@cluster_options
@output_option
def cancel(run: str, target: TargetOptions, output: str) -> None:
    """Cancel a RUN: stop its Jobs, and start no other step. Waits until it has ended.

    A run that has ended already is left as it is, and the exit code is 0.
    """
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.service.shapes import run_json

    view, was_over = asyncio.run(_cancel(target, run))
    if output == "json":
        print_json(run_json(view))
    else:
        say(render.cancelled(view, SystemClock().now(), was_over=was_over), err=False)


async def _cancel(options: TargetOptions, run: str) -> tuple[RunView, bool]:
    """How the run ended, and whether it had done so before."""
    from jobyard.access import CANCEL, demand
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.engine import open_engine
    from jobyard.service.target import open_target
    from jobyard.service.there import find_run, let_go

    async with open_target(options) as target:
        await demand(target.cluster, target.namespace, CANCEL)
        async with open_engine(target.cluster, SystemClock(), target.namespace) as engine:
            found = await find_run(target.cluster, engine, run, "cancel")
            if not found.state.is_end:
                await engine.cancel(found)
            # Whoever drives the run may be gone: so we drive it to its end ourselves.
            outcome = await engine.outcome(found)
            await let_go(engine, found)
            return outcome.view, found.state.is_end
