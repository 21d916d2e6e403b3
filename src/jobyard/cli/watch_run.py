"""Shows a run live, and tells its end."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import rich_click as click

from jobyard.cli import render
from jobyard.cli.follow import follow
from jobyard.cli.hints import say
from jobyard.cli.leaving import on_leaving
from jobyard.cli.printing import fit
from jobyard.cli.screens import JsonLines, Lines, LiveTree, Screen
from jobyard.cli.tails import TAIL, Tails
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine
from jobyard.engine.logs import last_lines
from jobyard.model.errors import innermost, number
from jobyard.model.run import Run, RunView, State
from jobyard.service.evidence import with_logs
from jobyard.service.lifeline import LocalClusterEnded
from jobyard.service.reasons import title
from jobyard.service.target import Target
from jobyard.service.there import let_go


async def watch_run(engine: ClusterEngine, started: Run, target: Target, output: str, *, steps: int | None = None) -> int:
    """Shows a run live until it ends or the user leaves; then how it ended. Returns the exit code. `steps`: how many it has, where known."""
    come_back = f"jobyard run --resume {started.name}{target.options.words()}"
    screen = _screen(output)
    size = "" if steps is None else f": {number(steps, 'step')}"
    try:
        if output == "text":
            screen.say(f"Run {started.name}{size} in namespace {target.namespace}")
        if started.released:
            return await _tell_what_is_over(engine, started, target, screen, output)
        session = await follow(engine, started, target, screen, SystemClock(), come_back)
        if session.outcome is not None:
            screen.show(await _as_told(session.outcome.view, target, output), {}, SystemClock().now())
    except asyncio.CancelledError:
        if target.has_ended():
            raise LocalClusterEnded(what_next=f"then `{come_back}` goes on with the run") from None
        raise
    except BaseException as error:
        if isinstance(innermost(error), BrokenPipeError) and not target.ends_with_us:
            say(f"Nobody reads the output any more. {await on_leaving(engine, started, target, come_back)}")
        raise
    finally:
        screen.close()
    if session.outcome is None:
        return session.code or 0
    await let_go(engine, started)
    if output == "text":
        await _tell_end(session.outcome.view, session.tails, target)
    if session.code is not None:
        return session.code
    return 0 if session.outcome.state is State.SUCCEEDED else 1


async def _tell_what_is_over(engine: ClusterEngine, run: Run, target: Target, screen: Screen, output: str) -> int:
    """A run that is released is watched by nobody any more; what there is of it is looked up once."""
    view = await engine.view(run.name, run.namespace)
    if output == "json":
        screen.show(await _as_told(view, target, output), {}, SystemClock().now())
    screen.close()
    if output == "text":
        await _tell_end(view, None, target)
    return 0 if view.state is State.SUCCEEDED else 1


async def _as_told(view: RunView, target: Target, output: str) -> RunView:
    """The end of a run as a program is told it: with the end of the logs of what failed, as `show` tells it. A person is told them below."""
    return replace(view, steps=await with_logs(target.cluster, target.namespace, view.steps)) if output == "json" else view


def _screen(output: str) -> Screen:
    if output == "json":
        return JsonLines(click.echo, say)
    return LiveTree() if sys.stdout.isatty() else Lines(click.echo)


async def _tell_end(view: RunView, tails: Tails | None, target: Target) -> None:
    """How a run ended; `tails`: what was seen of its logs while it went on."""
    now = SystemClock().now()
    rows = render.table(view, now)
    if len(rows) > 200:
        rows = [row for row in rows if row[1] != State.SUCCEEDED]
    click.echo()
    if rows:
        lines = fit(("STEP", "STATE", "DURATION", "ATTEMPT", "REASON"), rows, ("ATTEMPT",))
        for line, style in zip(lines, [None, *(row[1] for row in rows)], strict=True):
            colour = {"succeeded": "green", "failed": "red", "lost": "red", "cancelled": "yellow"}.get(style or "")
            click.secho(line, fg=colour, bold=style is None)
    for step in view.steps:
        if step.state in (State.FAILED, State.LOST):
            log = await last_lines(target.cluster, target.namespace, step, TAIL, tails.kept(step.job) if tails else ())
            has_log = step.diagnosis is not None and step.diagnosis.has_log and not target.ends_with_us
            click.echo()
            for line in render.explain(step, now, log):
                say(line, err=False)
            for line in render.end_of_log(log, target.logs_command(view.name, title(step)) if has_log else "", TAIL):
                click.echo(line)
    click.echo()
    mark = render.MARKS[view.state]
    colour = "green" if view.state is State.SUCCEEDED else "red"
    click.secho(f"{mark} Run {view.name} {render.summary(view)}, in {render.lasted(view, now)}", fg=colour)
