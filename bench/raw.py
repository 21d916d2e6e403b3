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

    async def create(self, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._client.post(self._path(plural), content=json.dumps(body), headers={"Content-Type": "application/json"})
        made: dict[str, Any] = json.loads(answer.raise_for_status().content)
        return made

    async def patch(self, plural: str, name: str, change: dict[str, Any]) -> None:
        """A JSON merge patch; `name` may go on with a subresource."""
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = await self._client.patch(f"{self._path(plural)}/{name}", content=json.dumps(change), headers=headers)
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

    async def watch(self, plural: str) -> AsyncIterator[dict[str, Any] | None]:
        """None when the stream is open; then what is there, and every change, until the server closes it."""
        async with self._client.stream("GET", self._path(plural), params={"watch": "1", "timeoutSeconds": "3600"}, timeout=None) as answer:
            answer.raise_for_status()
            yield None
            async for line in answer.aiter_lines():
                yield json.loads(line)

    async def completed(self) -> AsyncIterator[str]:
        """The name of each Job, once, when it is complete."""
        told: set[str] = set()
        async for change in self.watch("jobs"):
            if change is not None:
                job = change["object"]
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
