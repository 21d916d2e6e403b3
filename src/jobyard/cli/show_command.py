"""`jobyard show` and `jobyard why`: a run or a Job as it stands, and the reason."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import rich_click as click

from jobyard.cli.hints import say
from jobyard.cli.options import cluster_options, complete_run, output_option
from jobyard.cli.printing import print_json, print_table
from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.model.run import RunView
    from jobyard.service.reasons import Answer
    from jobyard.service.there import SingleJob

LOG_LINES, LOGS_TOLD = 10, 3
"""How many of the last lines of a log `why` tells, and of how many logs."""


@click.command()
@click.argument("name", metavar="RUN|JOB", shell_complete=complete_run)
@cluster_options
@output_option
def show(name: str, target: TargetOptions, output: str) -> None:
    """Show a run: its steps, how they stand, and why. Also shows any Job of the namespace."""
    from jobyard.model.run import RunView
    from jobyard.service.shapes import job_json, run_json

    found, _ = asyncio.run(_look(target, name))
    if output == "json":
        print_json(run_json(found) if isinstance(found, RunView) else job_json(found.job, found.diagnosis))
    elif isinstance(found, RunView):
        _show_run(found, target)
    else:
        _show_job(found)


@click.command()
@click.argument("name", metavar="RUN|JOB", shell_complete=complete_run)
@cluster_options
@output_option
def why(name: str, target: TargetOptions, output: str) -> None:
    """Say in a sentence why a run or any Job is not running, or why it failed, and what to do."""
    from jobyard.cli import render
    from jobyard.service import reasons
    from jobyard.service.shapes import answer_json

    _, told = asyncio.run(_look(target, name, logs=True))
    for answer, log in told:
        if output == "json":
            print_json(answer_json(answer))
            continue
        for line in reasons.as_text(answer):
            say(line, err=False)
        for line in render.end_of_log(log, target.logs_command(answer.name, answer.step) if answer.has_log else "", LOG_LINES):
            click.echo(line)


async def _look(options: TargetOptions, name: str, *, logs: bool = False) -> tuple[RunView | SingleJob, list[tuple[Answer, list[str]]]]:
    """What the name stands for, and the answers to "why?"; with `logs`, each with the end of its log, of what failed first."""
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.logs import end_of
    from jobyard.model.run import RunView
    from jobyard.service import reasons
    from jobyard.service.target import open_target
    from jobyard.service.there import run_or_job

    async with open_target(options) as target:
        found = await run_or_job(target.cluster, SystemClock(), target.namespace, name)
        answers = reasons.of_run(found) if isinstance(found, RunView) else [reasons.of_job(found.job, found.diagnosis)]
        told = [answer for answer in answers if logs and answer.has_log][:LOGS_TOLD]
        lines = [
            await end_of(target.cluster, target.namespace, answer.diagnosis, LOG_LINES) if answer in told else [] for answer in answers
        ]
        return found, list(zip(answers, lines, strict=True))


def _show_run(view: RunView, target: TargetOptions) -> None:
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.model.run import State
    from jobyard.service.reasons import title

    now = SystemClock().now()
    click.echo(f"{view.name}  {render.summary(view)}  {render.lasted(view, now)}")
    click.echo(f"workflow {view.workflow}, namespace {view.namespace}, started {render.exactly(view.started)}")
    for key, value in view.origin.items():
        click.echo(f"{key} {value}")
    click.echo()
    print_table(("STEP", "STATE", "DURATION", "ATTEMPT", "REASON"), render.table(view, now), ("ATTEMPT",))
    for step in view.steps:
        if step.state in (State.FAILED, State.LOST) or (step.state is State.PENDING and step.diagnosis):
            click.echo()
            for line in render.explain(step):
                say(line, err=False)
            command = target.logs_command(view.name, title(step)) if step.diagnosis and step.diagnosis.has_log else ""
            for line in render.end_of_log([], command, 0):
                click.echo(line)


def _show_job(found: SingleJob) -> None:
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.service import reasons

    for line in render.job(found.job, SystemClock().now()):
        click.echo(line)
    click.echo()
    for line in reasons.as_text(reasons.of_job(found.job, found.diagnosis)):
        say(line, err=False)
