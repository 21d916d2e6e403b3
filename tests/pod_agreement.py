"""Compares what we say of pods by the Pod Security Standards with what an API server says: dry runs in namespaces that enforce a level.

`scripts/check-agrees pods [FIRST-LAST]` runs this file: it counts both kinds of disagreement over a range of seeds, and prints each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.files.document import load
from jobyard.files.pod_security.judge import judge
from jobyard.model.errors import Forbidden, Rejected, Unavailable
from jobyard.model.objects import Kind, Other
from jobyard.model.pod_level import PodLevel
from tests.pod_mutants import mutants
from tests.waiting import until

AT_ONCE = 8
LEVELS = (PodLevel.BASELINE, PodLevel.RESTRICTED)
SERVICE_ACCOUNTS = Kind("api/v1", "serviceaccounts", "ServiceAccount", Other)
VIOLATES = "violates PodSecurity"


@dataclass(frozen=True, kw_only=True)
class PodVerdicts:
    """What is said of one pod by one level, by us and by the server; empty for nothing. `theirs` is None when the server refused the pod
    before it came to its level."""

    seed: int
    level: PodLevel
    ours: tuple[str, ...]
    theirs: str | None

    @property
    def agree(self) -> bool:
        return self.theirs is None or bool(self.ours) == bool(self.theirs)

    def __str__(self) -> str:
        ours = "; ".join(self.ours[:3]) or "nothing"
        return f"seed {self.seed}, {self.level}: we say {ours}. The server says {self.theirs or 'nothing'}"


@asynccontextmanager
async def enforcing(cluster: HttpCluster) -> AsyncIterator[dict[PodLevel, str]]:
    """A namespace for each level that enforces it, as of 1.36."""
    made: dict[PodLevel, str] = {}
    try:
        for level in LEVELS:
            name = f"pods-{level}-{uuid.uuid4().hex[:8]}"
            labels = {"pod-security.kubernetes.io/enforce": str(level), "pod-security.kubernetes.io/enforce-version": "v1.36"}
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            await cluster.call("POST", "/api/v1/namespaces", f"create Namespace {name}", body=msgspec.json.encode(body))
            made[level] = name
        for name in made.values():
            await until(cluster, SERVICE_ACCOUNTS, name, "default", lambda _: True)  # without it no pod is let in
        yield made
    finally:
        for name in made.values():
            await cluster.call("DELETE", f"/api/v1/namespaces/{name}", f"delete Namespace {name}")


async def theirs(cluster: HttpCluster, namespace: str, tree: Any) -> str | None:
    """What the server says of a pod by the level of a namespace."""
    path, params = f"/api/v1/namespaces/{namespace}/pods", {"dryRun": "All"}
    try:
        await cluster.call("POST", path, "create it", params=params, body=msgspec.json.encode(tree))
    except Forbidden as refused:
        return refused.message.partition(VIOLATES)[2] or None
    except (Rejected, Unavailable):  # no pod at all, or one over which the server stumbles
        return None
    return ""


async def all_verdicts(cluster: HttpCluster, namespaces: dict[PodLevel, str], trees: Iterable[tuple[int, Any]]) -> list[PodVerdicts]:
    """The verdicts on every pod, by each level."""
    door = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int, tree: Any, level: PodLevel) -> PodVerdicts:
        async with door:  # judging, too: thousands at once would keep those waiting who have asked
            documents, _ = load(json.dumps(tree).encode(), "mutant.json")
            ours = tuple(str(finding) for document in documents for finding in judge(document, level))
            said = await theirs(cluster, namespaces[level], documents[0].tree if documents else None)
        return PodVerdicts(seed=seed, level=level, ours=ours, theirs=said)

    return list(await asyncio.gather(*(one(seed, tree, level) for seed, tree in trees for level in LEVELS)))


def count(found: Sequence[PodVerdicts]) -> str:
    """The verdicts in one line a level."""
    lines = []
    for level in LEVELS:
        judged = [each for each in found if each.level is level and each.theirs is not None]
        refused = [each for each in judged if each.theirs]
        missed = sum(not each.ours for each in refused)
        others = sum(bool(each.ours) and not each.theirs for each in judged)
        lines.append(
            f"{level}: the server judges {len(judged)} and refuses {len(refused)}. We allow {missed} of these, and refuse {others} others."
        )
    return "\n".join(lines)


async def _main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/check-agrees pods", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("seeds", nargs="?", default="0-3000", help="FIRST-LAST, or one seed (default: %(default)s)")
    first, _, last = parser.parse_args().seeds.partition("-")
    async with open_cluster(connect(kubeconfig=os.environ["JOBYARD_TEST_KUBECONFIG"])) as cluster, enforcing(cluster) as namespaces:
        found = await all_verdicts(cluster, namespaces, mutants(range(int(first), int(last or first) + 1)))
    for each in found:
        if not each.agree:
            print(each)
    print(count(found))
    return 0 if all(each.agree for each in found) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
