"""Shows a run live, and tells its end."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import rich_click as click

from jobyard.cli import render
from jobyard.cli.follow import follow
from jobyard.cli.options import as_words
from jobyard.cli.screens import JsonLines, Lines, LiveTree, Screen
from jobyard.cli.tails import TAIL, Tails
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine
from jobyard.engine.logs import last_lines
from jobyard.model.run import Outcome, Run, State
from jobyard.service.lifeline import LocalClusterEnded
from jobyard.service.options import TargetOptions
from jobyard.service.reasons import title
from jobyard.service.target import Target


async def watch_run(
    engine: ClusterEngine, started: Run, target: Target, options: TargetOptions, output: str, *, steps: int | None = None
) -> int:
    """Shows a run live until it ends or the user leaves; then how it ended. Returns the exit code. `steps`: how many it has, where known."""
    come_back = f"jobyard run --resume {started.name}{as_words(replace(options, namespace=target.namespace))}"
    screen = _screen(output)
    if output == "text":
        size = "" if steps is None else f" {steps} step{'s' if steps != 1 else ''}"
        screen.say(f"Run {started.name}:{size} in namespace {target.namespace}")
    try:
        session = await follow(engine, started, target, screen, SystemClock(), come_back)
    except asyncio.CancelledError:
        if target.has_ended():
            raise LocalClusterEnded(what_next=f"then `{come_back}` goes on with the run") from None
        raise
    finally:
        screen.close()
    if session.outcome is None:
        return session.code or 0
    await engine.release(started)
    if output == "text":
        await _tell_end(session.outcome, session.tails, target, options)
    if session.code is not None:
        return session.code
    return 0 if session.outcome.state is State.SUCCEEDED else 1


def _screen(output: str) -> Screen:
    if output == "json":
        return JsonLines(click.echo, lambda text: click.echo(text, err=True))
    return LiveTree() if sys.stdout.isatty() else Lines(click.echo)


async def _tell_end(outcome: Outcome, tails: Tails, target: Target, options: TargetOptions) -> None:
    now, view = SystemClock().now(), outcome.view
    rows = render.table(view, now)
    if len(rows) > 200:
        rows = [row for row in rows if row[1] != State.SUCCEEDED]
    click.echo()
    if rows:
        lines = render.plain_table(("STEP", "STATE", "DURATION", "ATTEMPT", "REASON"), rows)
        for line, style in zip(lines, [None, *(row[1] for row in rows)], strict=True):
            colour = {"succeeded": "green", "failed": "red", "lost": "red", "cancelled": "yellow"}.get(style or "")
            click.secho(line, fg=colour, bold=style is None)
    for step in view.steps:
        if step.state in (State.FAILED, State.LOST):
            log = await last_lines(target.cluster, target.namespace, step, TAIL, tails.kept(step.name))
            command = "" if target.ends_with_us else options.logs_command(view.name, title(step), view.namespace)
            click.echo()
            for line in render.explain(step, log, command, TAIL):
                click.echo(line)
    click.echo()
    mark = render.MARKS[outcome.state]
    click.secho(
        f"{mark} Run {view.name} {render.summary(view)}, in {render.lasted(view, now)}",
        fg="green" if outcome.state is State.SUCCEEDED else "red",
    )
