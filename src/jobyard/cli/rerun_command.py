"""`jobyard rerun`: a finished run once more."""

from __future__ import annotations

import asyncio

import rich_click as click
from click.exceptions import Exit

from jobyard.cli.options import cluster_options, complete_run, named, output_option
from jobyard.service.options import TargetOptions


@click.command()
@click.argument("run", shell_complete=complete_run, callback=named)
@click.option("--failed", is_flag=True, help="Only what did not succeed; the results and outputs of the other steps are reused.")
@cluster_options
@output_option
def rerun(run: str, failed: bool, target: TargetOptions, output: str) -> None:
    """Run a finished RUN again, with the same workflow and parameters, and show it live.

    The new run has an id of its own; the old one stays as it is.
    """
    if code := asyncio.run(_rerun(target, run, failed, output)):
        raise Exit(code)


async def _rerun(options: TargetOptions, run: str, failed: bool, output: str) -> int:
    import uuid

    from jobyard.access import GO_ON, demand
    from jobyard.cli.watch_run import watch_run
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.engine import open_engine
    from jobyard.service.target import open_target
    from jobyard.service.there import find_run

    async with open_target(options) as target:
        await demand(target.cluster, target.namespace, GO_ON)
        async with open_engine(target.cluster, SystemClock(), target.namespace) as engine:
            found = await find_run(target.cluster, engine, run, "rerun")
            started = await engine.again(found, uuid.uuid4().hex, failed_only=failed)
            return await watch_run(engine, started, target, output)
