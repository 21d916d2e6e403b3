"""Rights: what may be done with a resource, and whether we may. Asked before a command begins (half a run is worse than a sentence), and
after the cluster has refused something."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jobyard.contracts import Cluster
from jobyard.model.errors import MissingRights, Unauthorized, Unavailable
from jobyard.model.objects import CONFIG_MAPS, JOBS, PODS, Kind, Other


@dataclass(frozen=True, kw_only=True)
class Right:
    """What may be done with a resource, and what for."""

    group: str
    resource: str
    """In the plural; `pods/log` for what is below it."""
    verbs: tuple[str, ...]
    why: str
    without: str = ""
    """What is missed, without harm, where a Role leaves it out; empty where it is needed."""

    def in_words(self, *verbs: str) -> list[str]:
        """`create jobs.batch` and its like: for each of its verbs, or for these."""
        shown = f"{self.resource}.{self.group}" if self.group else self.resource
        return [f"{verb} {shown}" for verb in verbs or self.verbs]


def to(kind: Kind[Any], *verbs: str, why: str) -> Right:
    """The right to do this with objects of a kind."""
    return Right(group=kind.group, resource=kind.plural, verbs=verbs, why=why)


RUN = (
    to(JOBS, "create", "list", "watch", "patch", why="start steps, see what becomes of them, stop them"),
    to(PODS, "list", "watch", why="why a step does not run or failed"),
    to(CONFIG_MAPS, "create", "list", "watch", "patch", why="the run's record"),
)
"""Without these nothing can be run at all."""
GO_ON = RUN[:2]
"""Without these no run that is there can be driven; one that is a Job needs no record in a ConfigMap."""
CANCEL = (to(JOBS, "list", "watch", "patch", why="stop steps, and see them end"), RUN[1])
"""Without these no run can be ended."""
JOB_RECORDS = to(JOBS, "create", "get", "list", why="make a Job, or find it there")
RECORDS = to(CONFIG_MAPS, "create", "get", "list", "watch", "patch", why="keep a run's record in a ConfigMap")


async def demand(cluster: Cluster, namespace: str, rights: Sequence[Right] = RUN) -> None:
    """Asks for all of `rights` at once. Raises MissingRights for those that the cluster says we lack; what it does not say is taken for given.

    A cluster that is away, or does not know us, is for whoever makes the first call: that may pass.
    """
    try:
        missing = await lacking(cluster, namespace, rights)
    except Unavailable:
        return
    if missing:
        raise MissingRights(rights=", ".join(missing), namespace=namespace)


async def lacking(cluster: Cluster, namespace: str, rights: Iterable[Right]) -> list[str] | None:
    """Those of the rights, in words, that a review says we lack; None where the cluster does not say. Raises Unavailable."""
    asked = [(right, verb) for right in rights for verb in right.verbs]
    try:
        answers = await asyncio.gather(*(_may(cluster, namespace, right, verb) for right, verb in asked))
    except Unauthorized:
        return None
    missing = [words for (right, verb), may in zip(asked, answers, strict=True) if may is False for words in right.in_words(verb)]
    return missing if missing or all(answers) else None


async def _may(cluster: Cluster, namespace: str, right: Right, verb: str) -> bool | None:
    plural, _, subresource = right.resource.partition("/")
    api = f"apis/{right.group}/v1" if right.group else "api/v1"
    return await cluster.may(verb, Kind(api, plural, plural, Other), namespace, subresource=subresource)
