"""The yardstick: an HTTP client that does the least that the same work needs, and keeps no promise."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from jobyard.cluster.kubeconfig import connect, load_client_certificate

IN_FLIGHT = 16
PAGE = 500


class Raw:
    """A client of one namespace."""

    def __init__(self, client: httpx2.AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def _path(self, plural: str) -> str:
        return f"/{'apis/batch/v1' if plural == 'jobs' else 'api/v1'}/namespaces/{self._namespace}/{plural}"

    async def create(self, plural: str, body: dict[str, Any]) -> None:
        answer = await self._client.post(self._path(plural), content=json.dumps(body), headers={"Content-Type": "application/json"})
        answer.raise_for_status()

    async def create_all(self, plural: str, bodies: Iterable[dict[str, Any]]) -> None:
        room = asyncio.Semaphore(IN_FLIGHT)

        async def one(body: dict[str, Any]) -> None:
            async with room:
                await self.create(plural, body)

        await asyncio.gather(*(one(body) for body in bodies))

    async def list(self, plural: str) -> list[Any]:
        found: list[Any] = []
        params = {"limit": str(PAGE)}
        while True:
            page = json.loads((await self._client.get(self._path(plural), params=params)).raise_for_status().content)
            found += page["items"]
            following = page["metadata"].get("continue")
            if not following:
                return found
            params = {"limit": str(PAGE), "continue": following}

    async def completed(self) -> AsyncIterator[str]:
        """The name of each Job, once, when it is complete."""
        told: set[str] = set()
        async with self._client.stream("GET", self._path("jobs"), params={"watch": "1"}, timeout=None) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                job = json.loads(line)["object"]
                name = job["metadata"]["name"]
                if name not in told and any(each["type"] == "Complete" for each in job.get("status", {}).get("conditions", ())):
                    told.add(name)
                    yield name


@asynccontextmanager
async def open_raw(kubeconfig: Path, namespace: str) -> AsyncIterator[Raw]:
    connection = connect(kubeconfig=str(kubeconfig))
    headers = {}
    if header := await connection.credentials.header():
        headers["Authorization"] = header
    context = connection.tls()
    if certificate := await connection.credentials.certificate():
        load_client_certificate(context, *certificate)
    async with httpx2.AsyncClient(base_url=connection.server, headers=headers, verify=context, timeout=60) as client:
        yield Raw(client, namespace)


def pack_and_read(manifests: list[dict[str, Any]]) -> int:
    """What a record needs at least: the manifests compressed, and read again."""
    return len(json.loads(gzip.decompress(gzip.compress(json.dumps(manifests).encode(), compresslevel=6))))
