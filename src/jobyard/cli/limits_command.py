"""`jobyard limits`: how much may be active at once in a namespace, and who holds the places."""

from __future__ import annotations

import asyncio

import rich_click as click

from jobyard.cli.hints import say
from jobyard.cli.options import cluster_options, output_option
from jobyard.cli.printing import print_json, print_table
from jobyard.service.options import TargetOptions

Row = tuple[str, int | None, list[str]]
"""A limit: its name, its places where they are set, who holds one."""


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
    shown = [(name, str(limit) if limit is not None else "not set", str(len(holders)), ", ".join(holders)) for name, limit, holders in rows]
    print_table(("LIMIT", "PLACES", "TAKEN", "BY"), shown)


@limits.command(name="set")
@click.argument("name")
@click.argument("number", type=click.IntRange(min=0))
@cluster_options
@output_option
def set_(name: str, number: int, target: TargetOptions, output: str) -> None:
    """Set the limit NAME to NUMBER. What is running goes on; with 0, nothing new starts."""
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
    name, places, holders = row
    print_json({"limit": name, "places": places, "holders": holders})


async def _list(options: TargetOptions) -> tuple[list[Row], str]:
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.limit_settings import list_limits
    from jobyard.service.target import open_target

    async with open_target(options) as target:
        rows = await list_limits(target.cluster, SystemClock(), target.namespace)
        if not rows:
            await target.require_namespace()
        return rows, target.namespace


async def _set(options: TargetOptions, name: str, number: int | None) -> tuple[Row, str]:
    """Sets or, with None, removes a limit; the limit as it stands then. Raises NoSuchLimit for one that can't be removed."""
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.limit_settings import limit_names, list_limits, set_limit
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
        await set_limit(target.cluster, target.namespace, name, None if number is None else str(number))
        rows = await list_limits(target.cluster, SystemClock(), target.namespace)
        return next((row for row in rows if row[0] == name), (name, number, [])), target.namespace
