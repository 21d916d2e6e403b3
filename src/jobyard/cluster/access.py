"""Whether we have the rights that something needs, asked before it begins: half a run is worse than a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jobyard.cluster.rights import Right
from jobyard.contracts import Cluster
from jobyard.model.errors import MissingRights, Unauthorized, Unavailable
from jobyard.model.objects import Kind, Other

RUN = (
    Right(
        group="batch", resource="jobs", verbs=("create", "list", "watch", "patch"), why="start steps, see what becomes of them, stop them"
    ),
    Right(group="", resource="pods", verbs=("list", "watch"), why="why a step does not run or failed"),
    Right(group="", resource="configmaps", verbs=("create", "list", "watch", "patch"), why="the run's record"),
)
"""Without these nothing can be run at all."""


async def demand(cluster: Cluster, namespace: str, rights: Sequence[Right] = RUN) -> None:
    """Asks for all of `rights` at once. Raises MissingRights for those that the cluster says we lack; what it does not say is taken for given.

    A cluster that is away, or does not know us, is for whoever makes the first call: that may pass.
    """
    missing = await lacking(cluster, namespace, rights)
    if missing:
        raise MissingRights(rights=", ".join(missing), namespace=namespace)


async def lacking(cluster: Cluster, namespace: str, rights: Sequence[Right]) -> list[str]:
    """Those of `rights`, in words, that the cluster says we lack. A service asks once it sees its Jobs whether it may have what it can do
    without: the Lease, for one; without, it runs as the only replica."""
    wanted = [(right, verb) for right in rights for verb in right.verbs]
    answers = await asyncio.gather(*(_may(cluster, namespace, right, verb) for right, verb in wanted))
    return [f"{verb} {_shown(right)}" for (right, verb), may in zip(wanted, answers, strict=True) if may is False]


async def _may(cluster: Cluster, namespace: str, right: Right, verb: str) -> bool | None:
    plural, _, subresource = right.resource.partition("/")
    api = f"apis/{right.group}/v1" if right.group else "api/v1"
    try:
        return await cluster.may(verb, Kind(api, plural, plural, Other), namespace, subresource=subresource)
    except (Unavailable, Unauthorized):
        return None


def _shown(right: Right) -> str:
    return f"{right.resource}.{right.group}" if right.group else right.resource
