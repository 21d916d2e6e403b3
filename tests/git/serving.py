"""A repository, served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from jobyard.contracts import Engine
from jobyard.triggers.git.clone import Clone, open_url
from jobyard.triggers.git.policy import Policy
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.trigger import GitTrigger, Pass
from tests.manifests import Tree
from tests.waiting import BOUND

IDENTITY = ("Goji Bot", "goji-bot@goji")


def text(*trees: Tree) -> str:
    """Manifests as a file holds them."""
    return yaml.safe_dump_all(trees)


async def trigger(url: str | Path, namespace: str, tell: Callable[[str], None] = lambda _: None, **told: Any) -> GitTrigger:
    """A trigger of a repository's main branch, with a clone of its own; `told`: its settings."""
    return of(await open_url(str(url), "main", IDENTITY), namespace, tell, **told)


def of(found: Clone, namespace: str, tell: Callable[[str], None] = lambda _: None, **told: Any) -> GitTrigger:
    """A trigger of a clone."""
    policy = told.pop("policy", Policy(default_namespace=namespace))
    return GitTrigger(found.repository, Settings(policy=policy, **told), found.url, tell=tell)


async def until_idle(serving: GitTrigger, engine: Engine) -> Pass:
    """Serves until nothing is queued or running."""
    async with asyncio.timeout(BOUND):
        return await serving.run_until_idle(engine)
