"""A proxy before the API server that does to each request what networks and servers do: as a script says, by a seed, or until told.

It speaks plain HTTP (or TLS, where a certificate is given) to the client and whatever the cluster wants to the server; one connection a
request, so that each fault concerns one call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from jobyard.cluster.kubeconfig import Connection, load_client_certificate


class Fault(StrEnum):
    """What may become of a request. Those before `AFTER` mean that the server never sees it."""

    NONE = "none"
    DELAY = "a second of delay"
    CUT_BEFORE = "cut before the server sees it"
    HOLE = "no answer for two seconds, then cut"
    CONFLICT = "409"
    GONE = "410"
    SLOW_DOWN = "429 with Retry-After"
    ERROR = "500 without having done it"
    UNAVAILABLE = "503"
    PAGE = "502 with a proxy's page"
    CUT_AFTER = "done, and cut before the answer"
    ERROR_AFTER = "done, and 500"
    HALF = "half of the answer, then cut"
    DRIP = "the answer in drips"


_STATUS = {
    Fault.CONFLICT: (409, "AlreadyExists"),
    Fault.GONE: (410, "Expired"),
    Fault.SLOW_DOWN: (429, "TooManyRequests"),
    Fault.ERROR: (500, "InternalError"),
    Fault.UNAVAILABLE: (503, "ServiceUnavailable"),
    Fault.ERROR_AFTER: (500, "InternalError"),
}

Rule = Callable[["Asked"], Fault]


@dataclass(frozen=True)
class Asked:
    """A request as a rule sees it."""

    method: str
    path: str
    number: int
    authorization: str = ""


def by_seed(seed: int, *, faults: int = 40, chance: float = 0.35) -> Rule:
    """Random faults, the same for the same seed and the same order of requests; at most so many, so that all comes to an end."""
    chosen = random.Random(seed)
    left = faults

    def rule(asked: Asked) -> Fault:
        nonlocal left
        if left == 0 or chosen.random() > chance:
            return Fault.NONE
        left -= 1
        fault = chosen.choice(list(Fault)[1:])
        # A server says 409 to those who write, and 410 to those who read.
        impossible = Fault.CONFLICT if asked.method == "GET" else Fault.GONE
        return Fault.UNAVAILABLE if fault is impossible else fault

    return rule


def no_faults(asked: Asked) -> Fault:
    return Fault.NONE


@dataclass
class Proxy:
    """A proxy that runs. Its rule may be changed at any time; `down` refuses every connection."""

    url: str
    rule: Rule = no_faults
    down: bool = False
    token: str = ""
    """When set, only this bearer token is let through: others are answered 401."""
    asked: list[Asked] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """What was done to whom, for whoever has to find out why a test failed."""
    under_way: int = 0
    most: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    def cut_all(self) -> None:
        """Cuts every connection there is."""
        for task in self._open:
            task.cancel()


@asynccontextmanager
async def open_proxy(upstream: Connection, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Proxy]:
    """A proxy before the cluster that `upstream` leads to."""
    server_url = urlsplit(upstream.server)
    context: ssl.SSLContext | None = None
    if server_url.scheme == "https":
        context = upstream.tls()
        certificate = await upstream.credentials.certificate()
        if certificate:
            load_client_certificate(context, *certificate)
    proxy = Proxy(url="")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        proxy._open.add(task)
        try:
            await _serve(proxy, upstream, server_url.hostname or "", server_url.port or 443, server_url.path, context, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, EOFError):
            pass  # the client is gone, or we cut it
        finally:
            proxy._open.discard(task)
            writer.transport.abort()

    listener = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
    proxy.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listener.close()
        proxy.cut_all()
        await asyncio.gather(*proxy._open, return_exceptions=True)


async def _serve(
    proxy: Proxy,
    upstream: Connection,
    host: str,
    port: int,
    prefix: str,
    context: ssl.SSLContext | None,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    if proxy.down:
        return
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.rstrip("\r\n").split("\r\n")
    method, path, _ = line.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    asked = Asked(method, path, len(proxy.asked), headers.get("authorization", ""))
    proxy.asked.append(asked)
    proxy.under_way += 1
    proxy.most = max(proxy.most, proxy.under_way)
    proxy.arrived.set()
    try:
        if proxy.token and asked.authorization != f"Bearer {proxy.token}":
            _status(writer, 401, "Unauthorized")
            await writer.drain()
            return
        fault = proxy.rule(asked)
        if fault is not Fault.NONE:
            proxy.told.append(f"{asked.number} {method} {path}: {fault}")
        match fault:
            case Fault.DELAY:
                await asyncio.sleep(1)
            case Fault.CUT_BEFORE:
                return
            case Fault.HOLE:
                await asyncio.sleep(2)
                return
            case Fault.PAGE:
                page = b"<html>Bad Gateway</html>"
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\n")
                writer.write(f"Content-Length: {len(page)}\r\n\r\n".encode() + page)
                await writer.drain()
                return
            case Fault.CONFLICT | Fault.GONE | Fault.SLOW_DOWN | Fault.ERROR | Fault.UNAVAILABLE:
                _status(writer, *_STATUS[fault])
                await writer.drain()
                return
        authorization = await upstream.credentials.header() or ""
        await _forward(writer, fault, host, port, context, method, prefix + path, headers, authorization, body)
    finally:
        proxy.under_way -= 1


async def _forward(
    writer: asyncio.StreamWriter,
    fault: Fault,
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    method: str,
    path: str,
    headers: dict[str, str],
    authorization: str,
    body: bytes,
) -> None:
    server_reader, server_writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        kept = {name: value for name, value in headers.items() if name not in ("host", "connection", "authorization", "accept-encoding")}
        if authorization:
            kept["authorization"] = authorization
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *(f"{name}: {value}" for name, value in kept.items())]
        server_writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await server_writer.drain()
        if fault in (Fault.CUT_AFTER, Fault.ERROR_AFTER):
            await server_reader.readuntil(b"\r\n\r\n")
            if fault is Fault.ERROR_AFTER:
                _status(writer, *_STATUS[fault])
                await writer.drain()
            return
        first = True
        while chunk := await server_reader.read(65536):
            if fault is Fault.HALF and first:
                writer.write(chunk[: max(len(chunk) // 2, 1)])
                await writer.drain()
                return
            if fault is Fault.DRIP and first:
                for start in range(0, len(chunk), max(len(chunk) // 10, 1)):
                    writer.write(chunk[start : start + max(len(chunk) // 10, 1)])
                    await writer.drain()
                    await asyncio.sleep(0.05)
            else:
                writer.write(chunk)
                await writer.drain()
            first = False
        with contextlib.suppress(OSError):
            writer.write_eof() if writer.can_write_eof() else None
    finally:
        server_writer.transport.abort()


def _status(writer: asyncio.StreamWriter, code: int, reason: str) -> None:
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    body = json.dumps({**status, "message": f"a fault: {reason}"}).encode()
    asks = "Retry-After: 1\r\n" if code == 429 else ""
    head = f"HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\nConnection: close\r\n{asks}Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
