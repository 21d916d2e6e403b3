"""The trigger of a repository, its cluster and its engines put together for a command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from jobyard.cli.git_options import GitOptions, ServeOptions, open_repository, settings
from jobyard.cli.obstacles import Obstacles
from jobyard.cli.target import open_target
from jobyard.cli.target_options import TargetOptions
from jobyard.engine.clock import SystemClock
from jobyard.engine.namespaces import Namespaces, open_namespaces
from jobyard.triggers.git.moves import Move
from jobyard.triggers.git.trigger import GitTrigger


@asynccontextmanager
async def open_trigger(
    git: GitOptions,
    serve: ServeOptions,
    options: TargetOptions,
    say: Callable[[Move], None],
    *,
    in_cluster: bool | None = None,
    **more: Any,
) -> AsyncIterator[tuple[GitTrigger, Namespaces]]:
    """A trigger and the engine to run it with; `more` are further settings. Every namespace that is named is open: what was left there
    is seen to as well. What keeps a run from running is said on stderr. Raises NoRepository, GitFailed, NoCluster."""
    found = await open_repository(git)
    obstacles = Obstacles(lambda run: run.origin.get("file", run.id).rpartition("/")[2])
    async with (
        open_target(options, in_cluster=in_cluster) as target,
        open_namespaces(target.cluster, SystemClock(), target.namespace, obstacles.note) as engine,
        obstacles.said(engine),
    ):
        told = settings(git, serve, target.namespace, **more)
        for name in told.policy.namespaces or ():
            await engine.of(name)
        yield GitTrigger(found.repository, told, found.url, say), engine
