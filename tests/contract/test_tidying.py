"""What an engine that drives a namespace does with what is over: releases what was kept for a while, and sees to retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.namespace import Options
from jobyard.model import names
from jobyard.model.objects import CONFIG_MAPS, JOBS, Kind
from jobyard.model.run import Run, RunRequest, State
from tests.flows import read
from tests.manifests import Tree, job, step, workflow
from tests.waiting import BOUND, until, until_gone

HOUR = timedelta(hours=1)
SMALL: tuple[tuple[Kind[Any], Tree], ...] = ((JOBS, job("plain")), (CONFIG_MAPS, workflow("w", step("a"), step("b"))))
"""A run in each home."""


class ClockAhead:
    def now(self) -> datetime:
        return datetime.now(UTC) + HOUR


@asynccontextmanager
async def tidying(cluster: HttpCluster, namespace: str, options: Options) -> AsyncIterator[ClusterEngine]:
    """An engine an hour later, which drives all there is."""
    async with open_engine(cluster, ClockAhead(), namespace, options) as engine:
        driving = asyncio.create_task(engine.adopt())
        try:
            yield engine
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)


async def ended(engine: ClusterEngine, tree: Tree, folder: Path) -> Run:
    async with asyncio.timeout(BOUND):
        run = await engine.submit(RunRequest(trigger="orders", key="k", workflow=read(tree, folder)))
        assert (await engine.outcome(run)).state is State.SUCCEEDED
    return run


@pytest.mark.parametrize(("kind", "tree"), SMALL, ids=("job", "map"))
async def test_a_run_that_is_kept_for_a_while_is_released_in_time_by_who_drives_it(
    cluster: HttpCluster, namespace: str, tmp_path: Path, kind: Kind[Any], tree: Tree
) -> None:
    async with open_engine(cluster, SystemClock(), namespace) as engine:
        run = await ended(engine, tree, tmp_path)
        other = await engine.submit(RunRequest(trigger="orders", key="other", workflow=read(tree, tmp_path)))
        await engine.outcome(other)
        await engine.release(run, datetime.now(UTC) + HOUR / 2)
        await engine.release(other, datetime.now(UTC) + 2 * HOUR)
        kept = await cluster.get(kind, namespace, run.name)
        assert names.KEPT_UNTIL in kept.metadata.annotations
        assert names.ENDED not in kept.metadata.labels
    async with tidying(cluster, namespace, Options()):
        found = await until(cluster, kind, namespace, run.name, lambda seen: names.ENDED in seen.metadata.labels)
        assert found.metadata.labels[names.STATE] == State.SUCCEEDED
        assert names.ENDED not in (await cluster.get(kind, namespace, other.name)).metadata.labels, "its time has not come"


@pytest.mark.parametrize(("kind", "tree"), SMALL, ids=("job", "map"))
async def test_a_run_whose_retention_is_over_is_deleted_by_who_drives_the_namespace(
    cluster: HttpCluster, namespace: str, tmp_path: Path, kind: Kind[Any], tree: Tree
) -> None:
    async with open_engine(cluster, SystemClock(), namespace) as engine:
        run = await ended(engine, tree, tmp_path)
        await engine.release(run)
    async with tidying(cluster, namespace, Options(retention=timedelta(0))):
        await until_gone(cluster, kind, namespace, run.name)
