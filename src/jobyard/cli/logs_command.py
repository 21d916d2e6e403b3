"""`jobyard logs`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import rich_click as click

from jobyard.cli.options import ask_cluster_named, cluster_options, complete_run, named, output_option
from jobyard.service.options import TargetOptions


def _duration(context: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    from jobyard.model.duration import parse

    try:
        return None if value is None else parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def complete_step(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completes the name of a step from the run that the line names; nothing when the cluster can't be asked."""
    import os
    import shlex

    async def ask(target: Any) -> list[str]:
        from jobyard.cli.log_choice import steps
        from jobyard.engine import face
        from jobyard.engine.clock import SystemClock

        tried = await face.tried(target.cluster, SystemClock(), target.namespace, context.params.get("run") or "")
        return [name for name in steps(tried) if name.startswith(incomplete)]

    found = ask_cluster_named(context, ask)
    return [shlex.quote(name) for name in found] if os.environ.get("_JOBYARD_COMPLETE", "").startswith("bash") else found


@click.command()
@click.argument("run", metavar="RUN|JOB", shell_complete=complete_run, callback=named)
@click.argument("step", required=False, shell_complete=complete_step)
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Print this attempt, instead of the newest.")
@click.option("--all", "every", is_flag=True, help="Print all attempts and pods, each with a heading.")
@click.option("-c", "--container", "containers", multiple=True, metavar="NAME", help="Print only this container. May be repeated.")
@click.option("-f", "--follow", is_flag=True, help="Keep going while the run or Job does.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Print only the last N lines of each log.")
@click.option("--since", metavar="DURATION", callback=_duration, help="Print only lines of the last 30s, 15m, 1h30m.")
@click.option("--timestamps", is_flag=True, help="Print when each line was written.")
@cluster_options
@output_option
def logs(target: TargetOptions, **asked: Any) -> None:
    """Print the logs of a RUN or of one STEP of it, or of any JOB.

    STEP is a step's name as it is printed elsewhere: `load`, `fetch (revert)`, a folder for all steps in it; or the name of its Job.
    By default, the newest attempt is printed, with all its pods and containers.
    """
    from jobyard.cli.log_choice import LogOptions
    from jobyard.cli.run_logs import print_logs

    if asked["every"] and asked["attempt"]:
        raise click.UsageError("--all prints every attempt and --attempt one of them: give one of the two")
    asyncio.run(print_logs(target, LogOptions(**asked), click.echo, lambda text: click.echo(text, err=True)))
