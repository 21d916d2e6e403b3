"""Sends hostile requests to a local cluster, and sees what it answers."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.local import daemon
from jobyard.model.objects import CONFIG_MAPS
from tests.fuzz.api import Raw, requests
from tests.fuzz.verdict import Verdict, log_of, traced
from tests.manifests import job

AT_ONCE = 4
PATIENCE = 20.0
"""Seconds until an answer has to have begun."""


async def try_api(kubeconfig: Path, seeds: Sequence[int]) -> Verdict:
    log = log_of(kubeconfig)
    if log is None:
        raise ValueError("only the local cluster's API is tried so: the other one is Kubernetes' own")
    since, process = log.stat().st_size, daemon.running_pid(kubeconfig.parent)
    server = urlsplit(json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    namespace = f"f-{uuid.uuid4().hex[:10]}"
    words: list[str] = []
    counts = {"calls": 0, "refused": 0}
    door = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> None:
        async with door:
            for each in requests(seed, namespace):
                counts["calls"] += 1
                try:
                    status = await _ask(server.port or 0, server.path[1:], each)
                except TimeoutError:
                    words.append(f"seed {seed}: no answer in {PATIENCE:.0f} s to {each}")
                    continue
                counts["refused"] += status >= 400 or not status
                if status >= 500:
                    words.append(f"seed {seed}: {status} for {each}")

    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
        await cluster.create_namespace(namespace)
        try:
            await cluster.create(CONFIG_MAPS, namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "known"}})
            for plural, tree in (("jobs", job("known", suspend=True)),):
                await cluster.call("POST", f"/apis/batch/v1/namespaces/{namespace}/{plural}", "begin", body=json.dumps(tree).encode())
            await asyncio.gather(*(one(seed) for seed in seeds))
            await cluster.list(CONFIG_MAPS, namespace)
        finally:
            await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}", f"delete Namespace {namespace}")
    if daemon.running_pid(kubeconfig.parent) != process:
        words.append("the local cluster's process has ended")
    return Verdict(seeds=len(seeds), calls=counts["calls"], refused=counts["refused"], words=(*words, *traced(log, since)))


async def _ask(port: int, token: str, raw: Raw) -> int:
    """The status of the answer; 0 when the connection was closed without one, as for what is no HTTP."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(raw.data.replace(b"@TOKEN@", token.encode()))
            await writer.drain()
            words = (await reader.readline()).split()
        except ConnectionError:
            return 0
        finally:
            writer.close()
    return int(words[1]) if len(words) > 1 else 0
