"""`jobyard clean`: deletes runs that are over, with their Jobs, pods and logs."""

from __future__ import annotations

import asyncio

import rich_click as click

from jobyard.cli.hints import say
from jobyard.cli.options import cluster_options, output_option
from jobyard.cli.printing import print_json
from jobyard.service.options import TargetOptions


@click.command()
@click.option(
    "--older-than",
    metavar="DURATION",
    help="Also delete runs whose workflow sets no retention, once they ended this long ago (30m, 12h, 7d).",
)
@click.option("--keep", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Always keep the N newest.")
@click.option(
    "--unreleased",
    is_flag=True,
    help="Also delete the runs that a source never released, seven days after the others: for a source that is gone. If it comes back, it "
    "runs those files or messages again.",
)
@click.option("--dry-run", is_flag=True, help="Say which runs, and delete nothing.")
@cluster_options
@output_option
def clean(older_than: str | None, keep: int, unreleased: bool, dry_run: bool, target: TargetOptions, output: str) -> None:
    """Delete the runs whose retention has passed, with their Jobs, pods and logs.

    A workflow's `retention` says how long its runs are kept after they end. A run that has not ended is never deleted, nor is
    one that its source (Git, a queue) still needs, unless --unreleased is given.
    """
    from jobyard.model import duration
    from jobyard.model.errors import number

    try:
        age = duration.parse(older_than) if older_than is not None else None
    except ValueError as error:
        raise click.UsageError(f"--older-than: {error}") from None
    gone, namespace = asyncio.run(_clean(target, age, keep, unreleased, dry_run))
    if output == "json":
        for run in gone:
            print_json({"run": run, "deleted": not dry_run})
        return
    for run in gone:
        click.echo(run)
    verb = "would be deleted (--dry-run)" if dry_run else "deleted"
    say(f"{number(len(gone), 'run')} {verb} in namespace {namespace}.")


async def _clean(options: TargetOptions, age: object, keep: int, unreleased: bool, dry_run: bool) -> tuple[list[str], str]:
    from collections import Counter
    from datetime import timedelta

    from jobyard.engine.clock import SystemClock
    from jobyard.engine.sweep import find_expired, sweep, why_kept
    from jobyard.model.errors import JobyardError, number
    from jobyard.model.retention import Keeping
    from jobyard.service.target import open_target

    default = age if isinstance(age, timedelta) else None
    cared_for = () if unreleased else None
    async with open_target(options) as target:
        if dry_run:
            going = await find_expired(target.cluster, SystemClock(), target.namespace, Keeping(runs=default), keep, cared_for)
        else:
            refused: list[JobyardError] = []
            going = await sweep(target.cluster, SystemClock(), target.namespace, Keeping(runs=default), keep, cared_for, refused=refused)
            if refused and not going:
                raise refused[0]
            for why, count in Counter(map(why_kept, refused)).items():
                say(f"{number(count, 'run')} could not be deleted: {why}")
        if not going:
            await target.require_namespace()
        return [run.name for run in going], target.namespace
