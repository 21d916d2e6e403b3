"""`jobyard clean`: deletes runs that are over, with their Jobs, pods and logs."""

from __future__ import annotations

import asyncio
import json

import rich_click as click

from jobyard.cli.options import cluster_options, output_option
from jobyard.service.options import TargetOptions


@click.command()
@click.option(
    "--older-than", metavar="DURATION", help="Also runs whose workflow sets no retention, that long after their end (30m, 12h, 7d)."
)
@click.option("--keep", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Keep the N newest in any case.")
@click.option(
    "--unreleased",
    is_flag=True,
    help="Also a source's runs that it never let go of, seven days after the others: its trigger is gone. One that comes back runs such "
    "a file or message again.",
)
@click.option("--dry-run", is_flag=True, help="Say which, and delete nothing.")
@cluster_options
@output_option
def clean(older_than: str | None, keep: int, unreleased: bool, dry_run: bool, target: TargetOptions, output: str) -> None:
    """Delete the runs whose retention has passed, with their Jobs, pods and logs.

    A workflow's `retention` says how long its runs are kept after their end. What has not ended is never deleted.
    Nor is a run that its source (Git, a queue) still cares for, unless --unreleased says so.
    """
    from jobyard.model import duration

    try:
        age = duration.parse(older_than) if older_than is not None else None
    except ValueError as error:
        raise click.UsageError(f"--older-than: {error}") from None
    gone = asyncio.run(_clean(target, age, keep, unreleased, dry_run))
    if output == "json":
        for run in gone:
            click.echo(json.dumps({"run": run, "deleted": not dry_run}))
        return
    for run in gone:
        click.echo(run)
    verb = "would be deleted (--dry-run)" if dry_run else "deleted"
    click.echo(f"{len(gone)} run{'' if len(gone) == 1 else 's'} {verb}.", err=True)


async def _clean(options: TargetOptions, age: object, keep: int, unreleased: bool, dry_run: bool) -> list[str]:
    from datetime import timedelta

    from jobyard.engine.clock import SystemClock
    from jobyard.engine.sweep import find_expired, sweep
    from jobyard.service.target import open_target

    default = age if isinstance(age, timedelta) else None
    cared_for = () if unreleased else None
    async with open_target(options) as target:
        if dry_run:
            going = await find_expired(target.cluster, SystemClock(), target.namespace, default, keep, cared_for)
        else:
            going = await sweep(target.cluster, SystemClock(), target.namespace, default, keep, cared_for)
        return [run.name for run in going]
