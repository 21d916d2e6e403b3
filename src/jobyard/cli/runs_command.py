"""`jobyard runs`, `show`, `logs`, `cancel` and `why`: what there is, and what became of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import rich_click as click

from jobyard.cli.options import cluster_options, complete_run, output_option
from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.model.run import RunView
    from jobyard.service.reasons import Answer


async def _look(options: TargetOptions, run: str = "") -> list[RunView]:
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.look import look
    from jobyard.service.target import open_target

    async with open_target(options) as target:
        return await look(target.cluster, SystemClock(), target.namespace, run)


@click.command()
@cluster_options
@output_option
def runs(target: TargetOptions, output: str) -> None:
    """List the runs of a namespace, the newest first."""
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.service.shapes import run_json

    views, now = asyncio.run(_look(target)), SystemClock().now()
    if output == "json":
        for view in views:
            click.echo(json.dumps(run_json(view)))
        return
    if not views:
        click.echo("No runs yet. `jobyard run FILE` starts one.", err=True)
        return
    rows = [
        (
            view.id,
            view.workflow,
            str(view.state),
            view.started.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            render.lasted(view, now),
            view.reason,
        )
        for view in views
    ]
    for line in render.plain_table(("RUN", "WORKFLOW", "STATE", "STARTED", "DURATION", "REASON"), rows):
        click.echo(line)


@click.command()
@click.argument("run", shell_complete=complete_run)
@cluster_options
@output_option
def show(run: str, target: TargetOptions, output: str) -> None:
    """Show a RUN: its steps, how they stand, and why."""
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.model.run import State
    from jobyard.service.shapes import run_json

    view, now = asyncio.run(_look(target, run))[0], SystemClock().now()
    if output == "json":
        click.echo(json.dumps(run_json(view)))
        return
    click.echo(f"{view.id}  {render.summary(view)}  {render.lasted(view, now)}")
    started = view.started.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    click.echo(f"workflow {view.workflow}, namespace {view.namespace}, started {started}")
    for name, value in view.origin.items():
        click.echo(f"{name} {value}")
    click.echo()
    for line in render.plain_table(("STEP", "STATE", "DURATION", "ATTEMPT", "REASON"), render.table(view, now)):
        click.echo(line)
    for step in view.steps:
        if step.state in (State.FAILED, State.LOST) or (step.state is State.PENDING and step.diagnosis):
            click.echo()
            for line in render.explain(step, []):
                click.echo(line)


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.argument("step", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on while the run does.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines of each log.")
@click.option("--timestamps", is_flag=True, help="Say when each line was written.")
@cluster_options
def logs(run: str, step: str | None, follow: bool, tail: int | None, timestamps: bool, target: TargetOptions) -> None:
    """Print the logs of a RUN, or of one STEP of it."""
    from jobyard.cli.run_logs import LogOptions, print_logs

    asyncio.run(
        print_logs(
            target,
            LogOptions(run=run, step=step, follow=follow, tail=tail, timestamps=timestamps),
            click.echo,
            lambda text: click.echo(text, err=True),
        )
    )


@click.command()
@click.argument("run", shell_complete=complete_run)
@cluster_options
@output_option
def cancel(run: str, target: TargetOptions, output: str) -> None:
    """Cancel a RUN: its Jobs are stopped, and no other step starts. Waits until it has ended."""
    from jobyard.cli import render
    from jobyard.service.shapes import run_json

    view = asyncio.run(_cancel(target, run))
    if output == "json":
        click.echo(json.dumps(run_json(view)))
    else:
        click.echo(f"{view.id}  {render.summary(view)}")


async def _cancel(options: TargetOptions, run: str) -> RunView:
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.loop import open_engine
    from jobyard.service.target import open_target

    async with open_target(options) as target, open_engine(target.cluster, SystemClock(), target.namespace) as engine:
        found = await engine.find(run)
        await engine.cancel(found)
        # Whoever drives the run may be gone: so we drive it to its end ourselves.
        outcome = await engine.outcome(found)
        await engine.release(found)
        return outcome.view


@click.command()
@click.argument("name", metavar="RUN|JOB", shell_complete=complete_run)
@cluster_options
@output_option
def why(name: str, target: TargetOptions, output: str) -> None:
    """Say in a sentence why a run or any Job is not running, or why it failed, and what to do."""
    from jobyard.service import reasons
    from jobyard.service.shapes import answer_json

    for answer in asyncio.run(_why(target, name)):
        if output == "json":
            click.echo(json.dumps(answer_json(answer)))
        else:
            for line in reasons.as_text(answer):
                click.echo(line)


async def _why(options: TargetOptions, name: str) -> list[Answer]:
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.look import look, look_at_job
    from jobyard.model.errors import NoSuchRun
    from jobyard.service import reasons
    from jobyard.service.target import open_target

    async with open_target(options) as target:
        try:
            views = await look(target.cluster, SystemClock(), target.namespace, name)
        except NoSuchRun:
            found = await look_at_job(target.cluster, target.namespace, name)
            if found is None:
                raise
            return [reasons.of_job(*found)]
        return reasons.of_run(views[0])
