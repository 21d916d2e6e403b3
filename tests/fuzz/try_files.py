"""Pushes hostile files into a queue that `jobyard git watch` serves, with good ones beside them."""

from __future__ import annotations

import asyncio
import os
import statistics
import uuid
from collections.abc import Sequence
from pathlib import Path

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.triggers.git.layout import show
from tests.fuzz.files import hostile
from tests.fuzz.try_objects import batched, clear
from tests.fuzz.verdict import Verdict, log_of, traced
from tests.fuzz.watched import LATE, Watched, watching
from tests.git import odd


async def try_files(kubeconfig: Path, seeds: Sequence[int], *, a_round: int, thrifty: bool = False) -> Verdict:
    """`a_round`: how many files are pushed with one batch of good ones. `thrifty`: few of them start pods."""
    namespace = f"f-{uuid.uuid4().hex[:10]}"
    log = log_of(kubeconfig)
    since = log.stat().st_size if log else 0
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
        await cluster.create_namespace(namespace)
        try:
            async with watching(kubeconfig, namespace) as there:
                await there.batch()
                alone, together = [], []
                for some in batched(seeds, a_round):
                    alone.append(await there.batch())
                    files = {each.name: each.content for each in (hostile(seed, thrifty=thrifty) for seed in some)}
                    together.append(await there.batch(files))
                    await _until_looked_at(there, [*files])
                    await there.clear()
                    await clear(cluster, namespace)
                if statistics.median(together) > LATE * statistics.median(alone):
                    there.words.append(f"good work came late: {together} seconds in company, {alone} alone")
                await there.batch()
                refused = [name for name in odd.names(there.remote, "failed") if name.startswith("h")]
            words = there.words
        finally:
            await clear(cluster, namespace)
            await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}", f"delete Namespace {namespace}")
    return Verdict(seeds=len(seeds), calls=len(seeds), refused=len(refused), words=(*words, *traced(log, since)))


async def _until_looked_at(there: Watched, names: Sequence[bytes]) -> None:
    """Each file has left the queue, or it was said why it has not."""
    left = [show(os.fsdecode(name)) for name in names]

    def waits(name: str) -> bool:
        return f"{name} stays queued" in there.log.read_text(errors="replace")

    try:
        await there.until(*(f"{name}  queued → " for name in left if not waits(name)))
    except TimeoutError:
        said = "\n".join(there.lines)
        for name in left:
            if f"{name}  queued → " not in said and not waits(name):
                there.words.append(f"{name} is neither taken nor refused")
    await asyncio.sleep(0)
