"""What `jobyard triggers` does: reads a service's board, and writes on it."""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import rich_click as click

from jobyard.cli.hints import say
from jobyard.cli.printing import print_json, print_table
from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.model.duration import show
from jobyard.service.board import Board, Notes, Standing, find_board, find_trigger
from jobyard.service.options import TargetOptions
from jobyard.service.target import open_target


@asynccontextmanager
async def _opened(service: str | None, options: TargetOptions) -> AsyncIterator[tuple[HttpCluster, Board, Notes]]:
    async with open_target(options) as target:
        board, notes = await find_board(target.cluster, target.namespace, service)
        yield target.cluster, board, notes


async def print_triggers(service: str | None, options: TargetOptions, output: str) -> None:
    """The triggers, a line each. Raises NoSuchService."""
    async with _opened(service, options) as (_, _, notes):
        now = SystemClock().now()
        if output == "json":
            for name in notes.triggers:
                print_json(as_json(name, notes))
            return
        rows = [(name, *words(notes.standings.get(name), notes, name, now)) for name in notes.triggers]
        if not rows:
            say(f"Service {notes.service} has no triggers.")
            return
        print_table(("TRIGGER", "STATE", "SINCE", "WHY"), rows, goes_first=("SINCE",))


def words(standing: Standing | None, notes: Notes, name: str, now: datetime) -> tuple[str, str, str]:
    """State, since when, and why."""
    pause = notes.pauses.get(name)
    if standing is None:
        return "not served", "", f"paused by {pause.by}" if pause else ""
    why = standing.error if standing.state != "running" else ""
    if standing.until is not None and standing.until > now:
        why = f"{why}{'; ' if why else ''}goes on in {show(standing.until - now)}"
    if pause is not None and standing.state != "paused":
        why = f"{pause.by} has asked for a pause"
    return standing.state, f"{show(now - standing.since)} ago", why


def as_json(name: str, notes: Notes) -> dict[str, object]:
    """One trigger for programs."""
    standing, pause = notes.standings.get(name), notes.pauses.get(name)
    told: dict[str, object] = {"trigger": name, "service": notes.service, "state": standing.state if standing else "not served"}
    if standing is not None:
        told |= {"since": standing.since.isoformat(), "process": standing.by, "failures": standing.failures}
        if standing.error and standing.state != "running":
            told["why"] = standing.error
        if standing.until is not None:
            told["until"] = standing.until.isoformat()
    if pause is not None:
        told["paused"] = {"by": pause.by, "at": pause.at.isoformat()}
    return told


async def pause_trigger(name: str, service: str | None, options: TargetOptions) -> None:
    """Raises NoSuchService, NoSuchTrigger."""
    async with _opened(service, options) as (_, board, notes):
        find_trigger(notes, name)
        earlier = notes.pauses.get(name)
        if earlier is not None:
            say(f"Trigger {name} was paused by {earlier.by} at {earlier.at.isoformat(timespec='seconds')} already.", err=False)
            return
        await board.pause(name, f"{getpass.getuser()}@{socket.gethostname()}", SystemClock().now())
        say(f"Trigger {name} is paused: it takes nothing new until `jobyard triggers resume {name}`.", err=False)


async def resume_trigger(name: str, service: str | None, options: TargetOptions) -> None:
    """Raises NoSuchService, NoSuchTrigger."""
    async with _opened(service, options) as (_, board, notes):
        find_trigger(notes, name)
        if name not in notes.pauses:
            click.echo(f"Trigger {name} is not paused.")
            return
        await board.resume(name)
        click.echo(f"Trigger {name} goes on.")
