"""`jobyard show` and `jobyard why`: a run or a Job as it stands, and the reason."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import rich_click as click

from jobyard.cli.hints import say
from jobyard.cli.options import cluster_options, complete_run, named, output_option
from jobyard.cli.printing import print_json, print_table
from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.model.run import RunView
    from jobyard.service.reasons import Answer
    from jobyard.service.there import SingleJob


@click.command()
@click.argument("name", metavar="RUN|JOB", shell_complete=complete_run, callback=named)
@cluster_options
@output_option
def show(name: str, target: TargetOptions, output: str) -> None:
    """Show a run: its steps, how they stand, and why. Also shows any Job of the namespace."""
    from jobyard.model.run import RunView
    from jobyard.service.shapes import job_json, run_json

    found = asyncio.run(_look(target, name))
    if output == "json":
        print_json(run_json(found) if isinstance(found, RunView) else job_json(found.job, found.view))
    elif isinstance(found, RunView):
        _show_run(found, target)
    else:
        _show_job(found, target)


@click.command()
@click.argument("name", metavar="RUN|JOB", shell_complete=complete_run, callback=named)
@cluster_options
@output_option
def why(name: str, target: TargetOptions, output: str) -> None:
    """Say in a sentence why a run or any Job is not running, or why it failed, and what to do."""
    from jobyard.engine.clock import SystemClock
    from jobyard.model.run import RunView
    from jobyard.service import reasons
    from jobyard.service.shapes import answer_json

    found = asyncio.run(_look(target, name))
    now = None if output == "json" else SystemClock().now()
    for answer in reasons.of_run(found, now) if isinstance(found, RunView) else [reasons.of_job(found.view, now)]:
        if output == "json":
            print_json(answer_json(answer))
        else:
            _tell(answer, target)


async def _look(options: TargetOptions, name: str) -> RunView | SingleJob:
    """What the name stands for, with the end of the logs of what failed."""
    from dataclasses import replace

    from jobyard.engine.clock import SystemClock
    from jobyard.model.run import RunView
    from jobyard.service.evidence import with_logs
    from jobyard.service.target import open_target
    from jobyard.service.there import run_or_job

    async with open_target(options) as target:
        found = await run_or_job(target.cluster, SystemClock(), target.namespace, name)
        if isinstance(found, RunView):
            return replace(found, steps=await with_logs(target.cluster, target.namespace, found.steps))
        return replace(found, view=(await with_logs(target.cluster, target.namespace, [found.view]))[0])


def _tell(answer: Answer, target: TargetOptions) -> None:
    """Prints an answer, and the end of its log or the command that prints it."""
    from jobyard.cli import render
    from jobyard.service import reasons
    from jobyard.service.evidence import LINES

    for line in reasons.as_text(answer):
        say(line, err=False)
    for line in render.end_of_log(answer.last_lines, target.logs_command(answer.name, answer.step) if answer.has_log else "", LINES):
        click.echo(line)


def _show_run(view: RunView, target: TargetOptions) -> None:
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.service.evidence import LINES
    from jobyard.service.reasons import title

    now = SystemClock().now()
    click.echo(f"{view.name}  {render.summary(view)}  {render.lasted(view, now)}")
    click.echo(f"workflow {view.workflow}, namespace {view.namespace}, started {render.exactly(view.started)}")
    for key, value in view.origin.items():
        click.echo(f"{key} {value}")
    click.echo()
    print_table(("STEP", "STATE", "DURATION", "ATTEMPT", "REASON"), render.table(view, now), ("ATTEMPT",))
    for step in render.to_explain(view):
        click.echo()
        for line in render.explain(step, now, step.last_lines):
            say(line, err=False)
        command = target.logs_command(view.name, title(step)) if step.diagnosis and step.diagnosis.has_log else ""
        for line in render.end_of_log(step.last_lines, command, LINES):
            click.echo(line)


def _show_job(found: SingleJob, target: TargetOptions) -> None:
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.service import reasons

    now = SystemClock().now()
    for line in render.job(found.job, found.view, now):
        click.echo(line)
    click.echo()
    _tell(reasons.of_job(found.view, now), target)
