"""Compares what `check` says of a Job with what an API server says: a strict dry run of each.

`scripts/check-agrees [FIRST-LAST]` runs this file: it counts both kinds of disagreement over a range of seeds, and prints each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.files.document import load
from jobyard.files.folder import Folder
from jobyard.files.manifest import check_job
from jobyard.model.errors import Rejected, Unavailable
from tests.mutants import mutants

AT_ONCE = 8
STRICT = {"dryRun": "All", "fieldValidation": "Strict"}


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What is said of one Job, by us and by the server; empty for nothing."""

    seed: int
    ours: tuple[str, ...]
    theirs: str

    @property
    def agree(self) -> bool:
        return bool(self.ours) == bool(self.theirs)

    def __str__(self) -> str:
        return f"seed {self.seed}: check says {'; '.join(self.ours[:3]) or 'nothing'}. The server says {self.theirs[:300] or 'nothing'}"


async def verdicts(cluster: HttpCluster, namespace: str, seed: int, tree: Any) -> Verdicts:
    """Both verdicts on a Job, which is read from text as a file is."""
    folder = Folder(Path())
    documents, findings = load(json.dumps(tree).encode(), "mutant.json")
    for document in documents:
        check_job(folder, document, literal=True)
    ours = tuple(str(finding) for finding in (*findings, *folder.findings) if finding.is_error)
    body = msgspec.json.encode(documents[0].tree) if documents else b"null"
    theirs = ""
    try:
        await cluster.call("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", "create it", params=STRICT, body=body)
    except Rejected as refused:
        theirs = f"{refused.status} {refused.message}"
    except Unavailable as broken:  # Kubernetes 1.36 stumbles over a few: it looks behind what is not there
        theirs = str(broken)
    return Verdicts(seed=seed, ours=ours, theirs=theirs)


async def all_verdicts(cluster: HttpCluster, namespace: str, trees: Iterable[tuple[int, Any]]) -> list[Verdicts]:
    """The verdicts on every Job."""
    door = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int, tree: Any) -> Verdicts:
        async with door:
            return await verdicts(cluster, namespace, seed, tree)

    return list(await asyncio.gather(*(one(seed, tree) for seed, tree in trees)))


async def _main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/check-agrees", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("seeds", nargs="?", default="0-5000", help="FIRST-LAST, or one seed (default: %(default)s)")
    first, _, last = parser.parse_args().seeds.partition("-")
    async with open_cluster(connect(kubeconfig=os.environ["JOBYARD_TEST_KUBECONFIG"])) as cluster:
        namespace = f"check-{uuid.uuid4().hex[:8]}"
        await cluster.create_namespace(namespace)
        try:
            found = await all_verdicts(cluster, namespace, mutants(range(int(first), int(last or first) + 1)))
        finally:
            await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}", f"delete Namespace {namespace}")
    wrong = [each for each in found if not each.agree]
    for each in wrong:
        print(each)
    accepted = sum(bool(each.theirs) for each in wrong)
    refused = sum(bool(each.theirs) for each in found)
    print(
        f"{len(found)} mutants, of which the server refuses {refused}. Check accepts {accepted} of these, and refuses {len(wrong) - accepted} others."
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
