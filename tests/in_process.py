"""An API server that is a function in this process: for what the client makes of answers, and for a time that is not real."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from jobyard.cluster.client import HttpCluster
from jobyard.cluster.credentials import Credentials
from jobyard.cluster.kubeconfig import Connection
from jobyard.cluster.transport import Answer, Pools, Stream


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


Serve = Callable[[Asked], Awaitable[Answer]]


def answer(status: int, body: Any = None, retry_after: str | None = None) -> Answer:
    """`body`: bytes as they are, anything else as JSON."""
    return Answer(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode(), retry_after=retry_after)


class InProcess:
    """The Transport to it."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve

    async def call(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        split = urlsplit(url)
        return await self._serve(
            Asked(method=method, path=split.path, params=dict(parse_qsl(split.query)), headers=headers, body=body or b"")
        )

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Stream]:
        told = await self.call("GET", url, headers)

        async def chunks() -> AsyncIterator[bytes]:
            yield told.body

        yield Stream(status=told.status, retry_after=told.retry_after, chunks=chunks())


def client(serve: Serve, credentials: Credentials | None = None) -> HttpCluster:
    """A cluster that is this function."""
    server = InProcess(serve)
    return HttpCluster(
        Connection(server="http://api", credentials=credentials or Credentials()), Pools(calls=server, streams=server, urgent=server)
    )
