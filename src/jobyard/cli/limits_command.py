"""`jobyard limits`: how much may be active at once in a namespace, and who holds the places."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import rich_click as click

from jobyard.cli.hints import say
from jobyard.cli.options import cluster_options, output_option
from jobyard.cli.printing import print_json, print_table
from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.service.target import Target

Row = tuple[str, int | None, list[str], str]
"""A limit: its name, its places where they are set, who holds one, and the service whose settings say so; '' for none."""


@click.group()
def limits() -> None:
    """Show or set how many runs or Jobs may be active at once.

    The limit `namespace` counts every run. Others count what names them in its workflow file, under `limits` of the workflow or of a step.
    """


@limits.command(name="list")
@cluster_options
@output_option
def list_(target: TargetOptions, output: str) -> None:
    """List the limits of a namespace and who holds their places."""
    rows, namespace = asyncio.run(_list(target))
    if output == "json":
        for row in rows:
            _print_json(row)
        return
    if not rows:
        say(f"No limits in namespace {namespace}. `jobyard limits set NAME NUMBER` sets one; the name `namespace` stands for all runs.")
        return
    shown = [
        (name, str(limit) if limit is not None else "not set", str(len(holders)), ", ".join(holders), f"service {keeper}" if keeper else "")
        for name, limit, holders, keeper in rows
    ]
    columns = len(shown[0]) if any(keeper for *_, keeper in rows) else len(shown[0]) - 1
    print_table(("LIMIT", "PLACES", "TAKEN", "BY", "SET BY")[:columns], [row[:columns] for row in shown])


@limits.command(name="set")
@click.argument("name")
@click.argument("number", type=click.IntRange(min=0))
@cluster_options
@output_option
def set_(name: str, number: int, target: TargetOptions, output: str) -> None:
    """Set the limit NAME to NUMBER. What is running goes on; with 0, nothing new starts.

    A limit that a service's settings name is theirs to say.
    """
    from jobyard.files.workflow_schema import is_limit_name
    from jobyard.model.errors import number as number_of

    if not is_limit_name(name):
        raise click.UsageError(f"{name} can't name a limit: use lower-case letters, digits and -, with a letter or digit first and last")
    row, namespace = asyncio.run(_set(target, name, number))
    if output == "json":
        _print_json(row)
    else:
        taken = number_of(len(row[2]), "place")
        say(f"Limit {name} is {number} in namespace {namespace}; {taken} taken.", err=False)


@limits.command()
@click.argument("name")
@cluster_options
@output_option
def unset(name: str, target: TargetOptions, output: str) -> None:
    """Remove the limit NAME."""
    row, namespace = asyncio.run(_set(target, name, None))
    if output == "json":
        _print_json(row)
    else:
        say(f"Limit {name} is no longer set in namespace {namespace}.", err=False)


def _print_json(row: Row) -> None:
    name, places, holders, keeper = row
    print_json({"limit": name, "places": places, "holders": holders, "service": keeper or None})


async def _list(options: TargetOptions) -> tuple[list[Row], str]:
    from jobyard.service.target import open_target

    async with open_target(options) as target:
        rows = await _rows(target)
        if not rows:
            await target.require_namespace()
        return rows, target.namespace


async def _rows(target: Target) -> list[Row]:
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.limit_settings import limit_keepers, list_limits

    keepers = await limit_keepers(target.cluster, target.namespace)
    return [(*row, keepers.get(row[0], "")) for row in await list_limits(target.cluster, SystemClock(), target.namespace)]


async def _set(options: TargetOptions, name: str, number: int | None) -> tuple[Row, str]:
    """Sets or, with None, removes a limit; the limit as it stands then. Raises LimitKept; NoSuchLimit for one that can't be removed."""
    from jobyard.engine.limit_settings import limit_names, set_limit
    from jobyard.model.errors import NoSuchLimit
    from jobyard.model.finding import did_you_mean
    from jobyard.service.target import open_target

    async with open_target(options) as target:
        if number is None:
            known = await limit_names(target.cluster, target.namespace)
            if name not in known:
                if not known:
                    await target.require_namespace()
                there = f"those that are set: {', '.join(known)}" if known else "nor is any other"
                raise NoSuchLimit(limit=name, namespace=target.namespace, hint=did_you_mean(name, known) or there)
        await _require_free(target, name, is_new=number is not None)
        await set_limit(target.cluster, target.namespace, name, None if number is None else str(number))
        return next((row for row in await _rows(target) if row[0] == name), (name, number, [], "")), target.namespace


async def _require_free(target: Target, name: str, *, is_new: bool) -> None:
    """A service that leads would set the limit back; one of which nothing tells whether it does, perhaps. Raises LimitKept."""
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.limit_settings import limit_keepers
    from jobyard.model.errors import LimitKept
    from jobyard.service.board import Notes, find_boards
    from jobyard.service.in_sight import leader

    service = (await limit_keepers(target.cluster, target.namespace)).get(name)
    if service is None:
        return
    notes = (await find_boards(target.cluster, target.namespace)).get(service, Notes(service=service))
    leads = await leader(target.cluster, SystemClock(), target.namespace, notes)
    if leads == "":
        say(f"Service {service}, whose settings name this limit, does not run just now. When it does, it sets the limit again.")
    if leads or (leads is None and is_new):
        hint = "" if leads else f"; if that service is gone, `jobyard limits unset {name}` frees it"
        raise LimitKept(limit=name, namespace=target.namespace, service=service, hint=hint)
