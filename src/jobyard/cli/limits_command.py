"""`jobyard limits`: how much may be active at once in a namespace, and who holds the places."""

from __future__ import annotations

import asyncio
import json

import rich_click as click

from jobyard.cli.options import cluster_options, output_option
from jobyard.service.options import TargetOptions


@click.group()
def limits() -> None:
    """Show or set how many runs, or Jobs, may be active at once.

    The limit `namespace` counts every run; others count what names them in its workflow file (`limits`, of the workflow or of a step).
    """


@limits.command(name="list")
@cluster_options
@output_option
def list_(target: TargetOptions, output: str) -> None:
    """List the limits of a namespace and who holds their places."""
    from jobyard.cli import render

    rows = asyncio.run(_list(target))
    if output == "json":
        for name, limit, holders in rows:
            click.echo(json.dumps({"limit": name, "places": limit, "holders": holders}))
        return
    if not rows:
        click.echo("No limits. `jobyard limits set NAME NUMBER` sets one; the name `namespace` stands for all runs.", err=True)
        return
    shown = [(name, str(limit) if limit is not None else "not set", str(len(holders)), ", ".join(holders)) for name, limit, holders in rows]
    for line in render.plain_table(("LIMIT", "PLACES", "TAKEN", "BY"), shown):
        click.echo(line)


@limits.command(name="set")
@click.argument("name")
@click.argument("number", type=click.IntRange(min=0))
@cluster_options
def set_(name: str, number: int, target: TargetOptions) -> None:
    """Set the limit NAME to NUMBER. What runs already goes on; 0 lets nothing new start."""
    from jobyard.files.workflow_schema import is_limit_name

    if not is_limit_name(name):
        raise click.UsageError(f"{name} is no name for a limit: lower-case letters, digits and -, a letter or digit first and last")
    asyncio.run(_set(target, name, str(number)))
    click.echo(f"Limit {name} is {number}.")


@limits.command()
@click.argument("name")
@cluster_options
def unset(name: str, target: TargetOptions) -> None:
    """Remove the limit NAME: it limits nothing any more."""
    asyncio.run(_set(target, name, None))
    click.echo(f"There is no limit {name} any more.")


async def _list(options: TargetOptions) -> list[tuple[str, int | None, list[str]]]:
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.limit_settings import list_limits
    from jobyard.service.target import open_target

    async with open_target(options) as target:
        return await list_limits(target.cluster, SystemClock(), target.namespace)


async def _set(options: TargetOptions, name: str, number: str | None) -> None:
    from jobyard.engine.limit_settings import set_limit
    from jobyard.service.target import open_target

    async with open_target(options) as target:
        await set_limit(target.cluster, target.namespace, name, number)
