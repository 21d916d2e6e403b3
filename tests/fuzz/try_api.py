"""Sends hostile requests to a local cluster, and sees what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.local import daemon
from jobyard.model.errors import NotFound
from jobyard.model.objects import CONFIG_MAPS, JOBS
from tests.fuzz.api import Raw, requests
from tests.fuzz.verdict import Verdict, log_of, traced
from tests.manifests import job

AT_ONCE, A_NAMESPACE = 4, 100
"""Requests at once, and seeds in a namespace."""
PATIENCE = 20.0
"""Seconds until an answer has to have begun."""


async def try_api(kubeconfig: Path, seeds: Sequence[int]) -> Verdict:
    log = log_of(kubeconfig)
    if log is None:
        raise ValueError("only the local cluster's API is tried so: the other one is Kubernetes' own")
    since, process = log.stat().st_size, daemon.running_pid(kubeconfig.parent)
    server = urlsplit(json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    found = Verdict(seeds=len(seeds))
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
        for begin in range(0, len(seeds), A_NAMESPACE):
            found += await _in_a_namespace(cluster, server.port or 0, server.path[1:], seeds[begin : begin + A_NAMESPACE])
    if daemon.running_pid(kubeconfig.parent) != process:
        found += Verdict(words=("the local cluster's process has ended",))
    return found + Verdict(words=tuple(traced(log, since)))


async def _in_a_namespace(cluster: HttpCluster, port: int, token: str, seeds: Sequence[int]) -> Verdict:
    """The seeds in a namespace of their own, which may be gone thereafter: that it be deleted is among what they ask."""
    namespace = f"f-{uuid.uuid4().hex[:10]}"
    door = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int, raw: Raw) -> Verdict:
        async with door:
            try:
                status = await _ask(port, token, raw)
            except TimeoutError:
                return Verdict(calls=1, words=(f"seed {seed}: no answer in {PATIENCE:.0f} s to {raw}",))
        words = (f"seed {seed}: {status} for {raw}",) if status >= 500 else ()
        return Verdict(calls=1, refused=int(status >= 400 or not status), words=words)

    await cluster.create_namespace(namespace)
    await cluster.create(CONFIG_MAPS, namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "known"}})
    await cluster.create(JOBS, namespace, job("known", suspend=True))
    found = await asyncio.gather(*(one(seed, raw) for seed in seeds for raw in requests(seed, namespace)))
    await cluster.list(CONFIG_MAPS, namespace)
    with contextlib.suppress(NotFound):
        await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}", f"delete Namespace {namespace}")
    return sum(found, Verdict())


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
