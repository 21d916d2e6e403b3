"""What `jobyard triggers` does: reads a service's board, and writes on it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import rich_click as click

from jobyard.access import Right, demand, to
from jobyard.cli import render
from jobyard.cli.hints import say, wrap
from jobyard.cli.printing import print_json, print_table
from jobyard.engine.clock import SystemClock
from jobyard.model.duration import show
from jobyard.model.errors import Forbidden
from jobyard.model.objects import CONFIG_MAPS
from jobyard.service.board import Board, Level, NoSuchService, Notes, find_board, find_trigger
from jobyard.service.in_sight import leader
from jobyard.service.options import TargetOptions
from jobyard.service.shapes import NOT_SERVED, trigger_json
from jobyard.service.target import Target, open_target
from jobyard.supervise import Stage

HEAD = ("TRIGGER", "STATE", "SINCE", "WHY")
READ = to(CONFIG_MAPS, "list", why="see how triggers stand")
WRITE = to(CONFIG_MAPS, "list", "get", "patch", why="pause and resume triggers")


@asynccontextmanager
async def _opened(service: str | None, options: TargetOptions, right: Right) -> AsyncIterator[tuple[Target, Board, Notes]]:
    """The board that is meant. Raises NoSuchService; MissingRights where the cluster refused what takes this right."""
    async with open_target(options) as target:
        try:
            board, notes = await find_board(target.cluster, target.namespace, service)
            yield target, board, notes
        except NoSuchService:
            await target.require_namespace()
            raise
        except Forbidden:
            await demand(target.cluster, target.namespace, [right])
            raise


async def print_triggers(service: str | None, options: TargetOptions, output: str) -> None:
    """The triggers, a line each. Raises NoSuchService."""
    async with _opened(service, options, READ) as (target, _, notes):
        leads = await leader(target.cluster, SystemClock(), target.namespace, notes)
    now = SystemClock().now()
    if output == "json":
        for name in notes.triggers:
            print_json(trigger_json(name, notes, leads))
        return
    rows = [(name, *words(notes, name, now, is_led=leads != "")) for name in notes.triggers]
    for line in table(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None) if rows else ():
        click.echo(line)
    if not rows:
        say(f"Service {notes.service} has no triggers: its settings name none.")
    queues = [(name, *level_words(each, now)) for name in notes.triggers for each in queues_of(notes, name)]
    if queues:
        say("")
        print_table(("TRIGGER", "QUEUE", "WAITING", "OLDEST", "RUNS", "NEXT"), queues)
    if line := caveat(notes, leads, now):
        say(line)


def table(rows: Sequence[tuple[str, str, str, str]], width: int | None) -> list[str]:
    """The triggers' lines. Where a reason is wider than the terminal, reasons stand below their triggers: none is cut. Pure."""
    whole = render.plain_table(HEAD, rows)
    if width is None or max(map(len, whole)) <= width:
        return whole
    head, *short = render.plain_table(HEAD[:-1], [row[:-1] for row in rows])
    lines = [head]
    for line, (*_, why) in zip(short, rows, strict=True):
        lines += [line, *(wrap(f"  {why}", width).splitlines() if why else ())]
    return lines


def words(notes: Notes, name: str, now: datetime, *, is_led: bool = True) -> tuple[str, str, str]:
    """State, since when, and why. Pure. `is_led`: whether somebody leads the service, as far as we know."""
    standing, pause = notes.standing(name), notes.pauses.get(name)
    if standing is None:
        by = f"; paused by {pause.by}, {_ago(pause.at, now)}" if pause is not None else ""
        return NOT_SERVED, "", f"the settings name no such trigger{by}"
    since = _ago(standing.since, now)
    if pause is not None:
        return standing.state, since, f"by {pause.by}"
    state = standing.state if is_led else f"was {standing.state}"
    if standing.state == Stage.RUNNING:
        return state, since, ""
    why = [standing.error] if standing.error else []
    if standing.failures > 1:
        why.append(f"failed {standing.failures} times in a row")
    if standing.until is not None and standing.until > now:
        why.append(f"goes on in {show(standing.until - now)}")
    return state, since, "; ".join(why)


def queues_of(notes: Notes, name: str) -> tuple[Level, ...]:
    """The queues that a trigger serves, as far as somebody told. Pure."""
    standing = notes.standing(name)
    return standing.queues if standing is not None and standing.state == Stage.RUNNING else ()


NEXT = {
    "QueueEmpty": "starts when there is work",
    "Running": "when the run has ended",
    "Enough": "what is starting takes what waits",
    "MaxRunning": "as many run as may",
    "AfterSuccess": "after a success",
    "AfterFailure": "after a failure",
    "AfterError": "its Job could not be made or started",
    "AfterStartTimeout": "its pod did not start in time",
    "NoProgress": "the last runs succeeded and took nothing",
    "DepthUnknown": "how much waits is not known",
}
"""What a queue waits for, in words."""


def level_words(level: Level, now: datetime) -> tuple[str, str, str, str, str]:
    """Queue, how many wait, how long the oldest has, how many runs go on, and what comes next. Pure."""
    waiting = "?" if level.waiting is None else f"{level.waiting}{'+' if level.more else ''}"
    oldest = show(now - level.oldest) if level.oldest is not None else ""
    until = f", goes on in {show(level.until - now)}" if level.until is not None and level.until > now else ""
    return level.queue, waiting, oldest, str(level.runs), f"{NEXT.get(level.waits, level.waits)}{until}"


def caveat(notes: Notes, leads: str | None, now: datetime) -> str:
    """What is to be known of who said all this: '' where it is who leads. Pure. `leads`: as `in_sight.leader` has it."""
    said = max((standing.said for standing in notes.standings.values()), default=None)
    by = next((standing.by for standing in notes.standings.values() if standing.said == said), "")
    last = f" Its last report is from {_ago(said, now)}, by process {by}." if said is not None and by else ""
    if leads == "":
        return f"Nobody leads service {notes.service} just now: no trigger takes anything.{last}"
    return f"No lease tells whether service {notes.service} still runs.{last}" if leads is None and last else ""


def _ago(moment: datetime, now: datetime) -> str:
    return f"{show(now - moment)} ago"


async def pause_trigger(name: str, service: str | None, options: TargetOptions) -> None:
    """Raises NoSuchService, NoSuchTrigger, NotOurBoard."""
    async with _opened(service, options, WRITE) as (_, board, notes):
        find_trigger(notes, name)
        earlier, now = notes.pauses.get(name), SystemClock().now()
        if earlier is not None:
            say(f"Trigger {name} is paused already, by {earlier.by}, {_ago(earlier.at, now)}.", err=False)
            return
        await board.pause(name, _me(), now)
        say(
            f"Trigger {name} is paused: it takes nothing new until `jobyard triggers resume {name}`. Runs that have begun go on.", err=False
        )


async def resume_trigger(name: str, service: str | None, options: TargetOptions) -> None:
    """Raises NoSuchService, NoSuchTrigger, NotOurBoard."""
    async with _opened(service, options, WRITE) as (_, board, notes):
        find_trigger(notes, name)
        if name in notes.pauses:
            await board.resume(name)
            say(f"Trigger {name} goes on.", err=False)
            return
        standing, now = notes.standings.get(name), SystemClock().now()
        if standing is not None and standing.state == Stage.BACKING_OFF:
            await board.poke(name, now)
            say(f"Nobody has paused trigger {name}, but it stands still: it is told to look again.", err=False)
            return
        rests = standing is not None and standing.state == Stage.PAUSED and standing.until is not None and standing.until > now
        why = (
            f": it rests, since {standing.error}, and goes on in {show(standing.until - now)}"
            if standing and standing.until and rests
            else ""
        )
        say(f"Nobody has paused trigger {name}{why}.", err=False)


def _me() -> str:
    """Who asks, for others to read."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # in a container, a user may have no name
        who = f"user {os.getuid()}"
    return f"{who}@{socket.gethostname()}"
