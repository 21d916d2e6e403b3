"""What goes on on the local cluster, and would end with it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import rich_click as click

from jobyard.cli.hints import say
from jobyard.model.errors import JobyardError, WrongInput, number

PATIENCE = 5.0
"""Seconds that the local cluster has to say what goes on: who stops it may do so because it does not answer."""
SHOWN = 20


class StillActive(WrongInput):
    """The local cluster is to be stopped while something goes on on it, and nobody said that this is meant."""

    sentence = "{count}, so the local cluster was left as it is; --force ends it all"
    count: str


@dataclass(frozen=True, kw_only=True)
class Active:
    """A run, or a Job that belongs to none, that has not ended."""

    what: str
    name: str
    namespace: str
    state: str


def may_end(folder: Path, *, force: bool) -> None:
    """Says what goes on and would end. Without `force` asks whoever is there; raises StillActive where nobody says yes."""
    from jobyard.cli import render

    try:
        found = asyncio.run(_active(folder))
    except (JobyardError, OSError, TimeoutError) as error:
        say(f"What is still going on there is not known: {error or 'the local cluster does not answer'}")
        return
    if not found:
        return
    kinds = {kind: sum(each.what == kind for each in found) for kind in ("run", "Job")}
    count = " and ".join(number(many, kind) for kind, many in kinds.items() if many) + (" goes on" if len(found) == 1 else " go on")
    say(f"{count}, and {'end' if len(found) > 1 else 'ends'} with the local cluster:")
    rows = [(each.what, each.name, each.state, each.namespace) for each in found[:SHOWN]]
    for line in render.plain_table(("", "NAME", "STATE", "NAMESPACE"), rows):
        click.echo(f"  {line}", err=True)
    if len(found) > SHOWN:
        click.echo(f"  and {len(found) - SHOWN} more", err=True)
    if not force and not (_somebody_is_there() and click.confirm("End them?", err=True)):
        raise StillActive(count=count)


def _somebody_is_there() -> bool:
    import sys

    return sys.stdin.isatty() and sys.stderr.isatty()


async def _active(folder: Path) -> list[Active]:
    from jobyard.cluster.client import open_cluster
    from jobyard.cluster.kubeconfig import connect
    from jobyard.engine import face
    from jobyard.engine.clock import SystemClock
    from jobyard.model import names
    from jobyard.model.job import read
    from jobyard.model.objects import JOBS

    found: list[Active] = []
    async with asyncio.timeout(PATIENCE), open_cluster(connect(kubeconfig=str(folder / "kubeconfig"))) as cluster:
        for namespace in await cluster.namespaces():
            open_runs = (await face.page(cluster, SystemClock(), namespace, size=500)).runs
            found += [Active(what="run", name=run.name, namespace=namespace, state=run.state) for run in open_runs if not run.state.is_end]
            for job in await cluster.list(JOBS, namespace, labels=f"{names.MANAGED_BY}!={names.JOBYARD}"):
                state = read(job).state
                if not state.is_end and not job.spec.suspend:
                    found.append(Active(what="Job", name=job.metadata.name, namespace=namespace, state=state))
    return found
