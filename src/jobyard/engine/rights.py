"""Which rights are missing: asked after the cluster has refused something, never before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from jobyard.contracts import Cluster
from jobyard.model.errors import Unauthorized
from jobyard.model.objects import CONFIG_MAPS, JOBS, Kind

Right = tuple[str, Kind[Any]]
"""A verb, and the kind of object that it is about."""

JOB_RECORDS: Sequence[Right] = (("create", JOBS), ("get", JOBS), ("list", JOBS))
"""What it takes to make a Job, or to find it there."""
RECORDS: Sequence[Right] = tuple((verb, CONFIG_MAPS) for verb in ("create", "get", "list", "watch", "patch"))
"""What it takes to keep a run's record in a ConfigMap."""


async def lacking(cluster: Cluster, namespace: str, wanted: Iterable[Right]) -> list[str] | None:
    """Those of the rights that a review says we lack; None where the cluster does not say. Raises Unavailable."""
    asked = list(wanted)
    try:
        answers = await asyncio.gather(*(cluster.may(verb, kind, namespace) for verb, kind in asked))
    except Unauthorized:
        return None
    missing = [f"{verb} {_shown(kind)}" for (verb, kind), may in zip(asked, answers, strict=True) if may is False]
    return missing if missing or all(answers) else None


def _shown(kind: Kind[Any]) -> str:
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural
