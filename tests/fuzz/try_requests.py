"""Sends hostile webhooks to `jobyard git watch` while good files are pushed and told of."""

from __future__ import annotations

import asyncio
import statistics
import uuid
from collections.abc import Sequence
from pathlib import Path

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from tests.fuzz.requests import Raw, requests
from tests.fuzz.try_objects import batched, clear
from tests.fuzz.verdict import Verdict
from tests.fuzz.watched import LATE, Watched, watching

AT_ONCE = 100
PATIENCE = 100.0
"""Seconds until a connection has to have ended: longer than any of the port's own times."""
A_ROUND = 50


async def try_requests(kubeconfig: Path, seeds: Sequence[int]) -> Verdict:
    namespace = f"f-{uuid.uuid4().hex[:10]}"
    counts = {"calls": 0, "refused": 0}
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
        await cluster.create_namespace(namespace)
        try:
            async with watching(kubeconfig, namespace) as there:
                await there.batch()
                alone, together = [], []
                for some in batched(seeds, A_ROUND):
                    alone.append(await there.batch())
                    harm = asyncio.create_task(_harm(there, some, counts))
                    together.append(await there.batch())
                    await harm
                if statistics.median(together) > LATE * statistics.median(alone):
                    there.words.append(f"good work came late: {together} seconds in company, {alone} alone")
            words = there.words
        finally:
            await clear(cluster, namespace)
            await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}", f"delete Namespace {namespace}")
    return Verdict(seeds=len(seeds), calls=counts["calls"], refused=counts["refused"], words=tuple(words))


async def _harm(there: Watched, seeds: Sequence[int], counts: dict[str, int]) -> None:
    door = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int, raw: Raw) -> None:
        async with door:
            counts["calls"] += 1
            status = await _ask(there, seed, raw)
            counts["refused"] += status != 200
            if raw.is_good and status != 200:
                there.words.append(f"seed {seed}: {status} for what a forge sends: {raw}")
            if status >= 500:
                there.words.append(f"seed {seed}: {status} for {raw}")

    await asyncio.gather(*(one(seed, each) for seed in seeds for each in requests(seed, there.secret)))


async def _ask(there: Watched, seed: int, raw: Raw) -> int:
    """The status of the first answer; 0 when the connection was closed without one."""
    answer = b""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
            try:
                writer.write(raw.data)
                while piece := await reader.read(65536):
                    answer = (answer + piece)[:65536]
            finally:
                writer.close()
    except TimeoutError:
        there.words.append(f"seed {seed}: still open after {PATIENCE:.0f} s: {raw}")
    except ConnectionError:
        pass
    if there.secret.encode() in answer:
        there.words.append(f"seed {seed}: the secret was answered to {raw}")
    words = answer.split(b"\r\n", 1)[0].split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
