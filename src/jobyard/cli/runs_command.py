"""`jobyard runs`, `show`, `cancel` and `why`: what there is, and what became of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import rich_click as click

from jobyard.cli.options import cluster_options, complete_run, output_option
from jobyard.model import duration
from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.model.run import Run, RunView
    from jobyard.service.reasons import Answer

LOG_LINES, LOGS_TOLD = 10, 3
"""How many of the last lines of a log `why` tells, and of how many logs."""


async def _view(options: TargetOptions, run: str) -> RunView:
    from jobyard.engine import face
    from jobyard.engine.clock import SystemClock
    from jobyard.service.target import open_target

    async with open_target(options) as target:
        return await face.view(target.cluster, SystemClock(), target.namespace, run)


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="How many at most.")
@click.option("--all", "all_", is_flag=True, help="All of them.")
@cluster_options
@output_option
def runs(limit: int, all_: bool, target: TargetOptions, output: str) -> None:
    """List the runs of a namespace: those that go on, then those that ended, the newest day first."""
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.service.shapes import listed_json

    found, more = asyncio.run(_list(target, None if all_ else limit))
    now = SystemClock().now()
    if output == "json":
        for run in found:
            click.echo(json.dumps(listed_json(run)))
        return
    if not found:
        click.echo("No runs yet. `jobyard run FILE` starts one.", err=True)
        return
    rows = [
        (
            run.name,
            run.workflow,
            str(run.state),
            run.created.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            duration.show((run.finished or now) - run.created),
            run.reason,
        )
        for run in found
    ]
    for line in render.plain_table(("RUN", "WORKFLOW", "STATE", "STARTED", "DURATION", "REASON"), rows):
        click.echo(line)
    if more:
        click.echo(f"The first {len(found)}; --limit N shows more, --all all of them.", err=True)


async def _list(options: TargetOptions, limit: int | None) -> tuple[list[Run], bool]:
    from jobyard.engine import face
    from jobyard.engine.clock import SystemClock
    from jobyard.service.target import open_target

    found: list[Run] = []
    async with open_target(options) as target:
        after = ""
        while True:
            size = 500 if limit is None else limit - len(found)
            page = await face.page(target.cluster, SystemClock(), target.namespace, after, size)
            found += page.runs
            after = page.following
            if not after or (limit is not None and len(found) >= limit):
                return found, bool(after)


@click.command()
@click.argument("run", shell_complete=complete_run)
@cluster_options
@output_option
def show(run: str, target: TargetOptions, output: str) -> None:
    """Show a RUN: its steps, how they stand, and why."""
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.model.run import State
    from jobyard.service.reasons import title
    from jobyard.service.shapes import run_json

    view, now = asyncio.run(_view(target, run)), SystemClock().now()
    if output == "json":
        click.echo(json.dumps(run_json(view)))
        return
    click.echo(f"{view.name}  {render.summary(view)}  {render.lasted(view, now)}")
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
            for line in render.explain(step, [], target.logs_command(view.name, title(step))):
                click.echo(line)


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
        click.echo(f"{view.name}  {render.summary(view)}")


async def _cancel(options: TargetOptions, run: str) -> RunView:
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.engine import open_engine
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
    from jobyard.cli import render
    from jobyard.service import reasons
    from jobyard.service.shapes import answer_json

    for answer, log in asyncio.run(_why(target, name)):
        if output == "json":
            click.echo(json.dumps(answer_json(answer)))
            continue
        command = target.logs_command(answer.name, answer.step) if answer.has_log else ""
        for line in [*reasons.as_text(answer), *render.end_of_log(log, command, LOG_LINES)]:
            click.echo(line)


async def _why(options: TargetOptions, name: str) -> list[tuple[Answer, list[str]]]:
    """The answers, and the end of the log of what failed first."""
    from jobyard.engine import face
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.logs import end_of
    from jobyard.model.errors import NoSuchRun
    from jobyard.service import reasons
    from jobyard.service.target import open_target

    async with open_target(options) as target:
        try:
            answers = reasons.of_run(await face.view(target.cluster, SystemClock(), target.namespace, name))
        except NoSuchRun:
            found = await face.look_at_job(target.cluster, target.namespace, name)
            if found is None:
                raise
            answers = [reasons.of_job(*found)]
        told = [answer for answer in answers if answer.has_log][:LOGS_TOLD]
        logs = [await end_of(target.cluster, target.namespace, answer.diagnosis, LOG_LINES) if answer in told else [] for answer in answers]
        return list(zip(answers, logs, strict=True))
