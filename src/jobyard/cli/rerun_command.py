"""`jobyard rerun`: a finished run once more."""

from __future__ import annotations

import asyncio

import rich_click as click
from click.exceptions import Exit

from jobyard.cli.options import cluster_options, complete_run, output_option
from jobyard.service.options import TargetOptions


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--failed", is_flag=True, help="Only what did not succeed; the other steps' results and outputs are used again.")
@cluster_options
@output_option
def rerun(run: str, failed: bool, target: TargetOptions, output: str) -> None:
    """Run a finished RUN once more, with the same workflow and the same parameters, and show it live.

    The new run has an id of its own; the old one stays as it is.
    """
    if code := asyncio.run(_rerun(target, run, failed, output)):
        raise Exit(code)


async def _rerun(options: TargetOptions, run: str, failed: bool, output: str) -> int:
    import uuid

    from jobyard.cli.watch_run import watch_run
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.engine import open_engine
    from jobyard.service.target import open_target

    async with (
        open_target(options) as target,
        open_engine(target.cluster, SystemClock(), target.namespace) as engine,
    ):
        started = await engine.again(await engine.find(run), uuid.uuid4().hex, failed_only=failed)
        return await watch_run(engine, started, target, options, output)
