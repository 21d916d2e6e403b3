"""`jobyard runs`: what there is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import rich_click as click

from jobyard.cli.hints import say
from jobyard.cli.options import cluster_options, output_option
from jobyard.cli.printing import print_json, print_table
from jobyard.model import duration
from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.model.run import Run


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="List at most N.")
@click.option("--all", "all_", is_flag=True, help="List all of them.")
@cluster_options
@output_option
def runs(limit: int, all_: bool, target: TargetOptions, output: str) -> None:
    """List the runs of a namespace: active ones first, then those that ended, newest day first."""
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.service.shapes import listed_json

    found, more, namespace = asyncio.run(_list(target, None if all_ else limit))
    now = SystemClock().now()
    if output == "json":
        for run in found:
            print_json(listed_json(run))
        return
    if not found:
        say(f"No runs yet in namespace {namespace}. `jobyard run FILE` starts one.")
        return
    rows = [
        (
            run.name,
            run.workflow,
            str(run.state),
            render.clock(run.created, now),
            duration.show((run.finished or now) - run.created),
            run.reason,
        )
        for run in found
    ]
    print_table(("RUN", "WORKFLOW", "STATE", "STARTED", "DURATION", "REASON"), rows, ("WORKFLOW", "DURATION", "STARTED"))
    if more:
        say(f"These are the first {len(found)}; --limit N lists more, --all lists all.")


async def _list(options: TargetOptions, limit: int | None) -> tuple[list[Run], bool, str]:
    from jobyard.engine import face
    from jobyard.engine.clock import SystemClock
    from jobyard.service.target import open_target

    found: list[Run] = []
    async with open_target(options) as target:
        after = ""
        while True:
            size = 500 if limit is None else limit - len(found)
            page = await face.page(target.cluster, SystemClock(), target.namespace, after, size)
            found += page.runs
            after = page.following
            if not after or (limit is not None and len(found) >= limit):
                break
        if not found:
            await target.require_namespace()
        return found, bool(after), target.namespace
