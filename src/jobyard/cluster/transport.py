"""HTTP itself, behind one seam: a call and its answer, a stream and its lines, and what went wrong in words.

aiohttp, because what a run costs is mostly what its calls cost: a create takes a third of the processor time that it takes by httpx2.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from yarl import URL

from jobyard import __version__

CALL_TIMEOUT = 30.0
URGENT_TIMEOUT = 5.0
CONNECT_TIMEOUT = 10.0
QUIET_LIMIT = 330.0
"""Seconds of silence after which a stream is given up; the server ends a watch itself before that."""
CALLS_AT_ONCE, URGENT_AT_ONCE = 32, 16
LARGE = 1024 * 1024
"""Bytes of a body that are too many to be sent in one go."""
HEADER_LIMIT = 64 * 1024
"""Characters of one header of an answer."""
LINE_LIMIT = 1024 * 1024
"""Bytes of a line of a log."""
OBJECT_LIMIT = 64 * 1024 * 1024
"""Bytes of a line that is an object: more than any can have that etcd keeps, however it is escaped."""
REFUSAL_LIMIT, REFUSAL_TIMEOUT = 64 * 1024, 5.0
"""Bytes that are read of a body that says why something is refused, and seconds that are waited for it."""
_MUST_BE_CUT = sys.version_info < (3, 12, 7)
"""Older Pythons never end a TLS connection that was closed where the server does not say farewell, too."""


class Broken(Exception):
    """No answer came, or none that is HTTP. The call may have been carried out. Says what the server did, as a predicate."""


class Nobody(Broken):
    """Nobody listens there, the host is not known, or it is not who it should be: nothing was carried out."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server said to a call."""

    status: int
    body: bytes = b""
    retry_after: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stream:
    """An answer whose body comes bit by bit."""

    status: int
    retry_after: str | None
    chunks: AsyncIterator[bytes]


class Transport(Protocol):
    """One pool of connections. A call that is cancelled ends at once, and its connection with it."""

    async def call(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Sends a request, once; a connection that the server had closed meanwhile is tried anew where that can do no harm. Raises Broken."""
        ...

    def stream(self, url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Stream]:
        """Opens a stream; leaving closes it. Raises Broken, also while it is read."""
        ...


class Pool:
    """The Transport over sockets."""

    def __init__(self, session: aiohttp.ClientSession, seconds: float, server_name: str | None = None) -> None:
        self._session = session
        self._seconds = seconds
        self._more: dict[str, Any] = {"allow_redirects": False, **({"server_hostname": server_name} if server_name else {})}

    async def call(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        try:
            data = io.BytesIO(body) if body and len(body) > LARGE else body
            async with self._session.request(method, URL(url, encoded=True), headers=headers, data=data, **self._more) as answer:
                body = await answer.read() if answer.status < 400 else await refusal(self._chunks(answer))
                return Answer(status=answer.status, body=body, retry_after=answer.headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: an address or a header that can't be sent
            raise self._broken(error) from error

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Stream]:
        try:
            answer = await self._session.get(URL(url, encoded=True), headers=headers, **self._more)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._broken(error) from error
        try:
            yield Stream(status=answer.status, retry_after=answer.headers.get("Retry-After"), chunks=self._chunks(answer))
        finally:
            answer.close()

    async def _chunks(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> Broken:
        refused = isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno == errno.ECONNREFUSED
        nobody = refused or isinstance(error, (aiohttp.ClientConnectorDNSError, aiohttp.ClientConnectorCertificateError))
        return (Nobody if nobody else Broken)(self._words(error))

    def _words(self, error: Exception) -> str:
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return f"shows a certificate that is not trusted ({error.certificate_error})"
            case aiohttp.ConnectionTimeoutError():
                return "can't be reached (the connection timed out)"
            case aiohttp.ClientConnectorError() | aiohttp.ClientProxyConnectionError():
                return f"can't be reached ({_detail(error)})"
            case aiohttp.ClientHttpProxyError():
                return f"can't be reached (the proxy answers {error.status} {error.message})"
            case TimeoutError():
                return f"did not answer within {self._seconds:.0f} s"
            case aiohttp.ClientPayloadError() if isinstance(error.__cause__, aiohttp.http_exceptions.ContentEncodingError):
                return f"sent an answer that can't be decompressed ({error.__cause__.message})"
            case aiohttp.ClientResponseError():
                return f"sent an answer that is not HTTP ({error.message})"
            case ValueError() if not isinstance(error, OSError):
                return f"can't be called ({error})"
        return f"closed the connection ({type(error).__name__})"


def _detail(error: aiohttp.ClientConnectorError) -> str:
    """What the system said, without the address, which is ours to name."""
    inner = error.os_error
    if inner.errno is not None and inner.errno > 0:
        return os.strerror(inner.errno)
    return inner.strerror or str(inner) or type(inner).__name__


async def refusal(chunks: AsyncIterator[bytes]) -> bytes:
    """The body of an answer that is an error: what comes of it in a short while, and no more than a person would read. Raises Broken."""
    found = bytearray()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REFUSAL_TIMEOUT):
            async for chunk in chunks:
                found += chunk
                if len(found) >= REFUSAL_LIMIT:
                    break
    return bytes(found[:REFUSAL_LIMIT])


async def lines(chunks: AsyncIterator[bytes], longest: int) -> AsyncIterator[str]:
    """The lines of a body as they come; one of more than `longest` bytes in pieces of as many. Only \\n ends a line: a log may hold any other
    character, and may have no line at all."""
    rest = bytearray()
    async for chunk in chunks:
        for number, part in enumerate(chunk.split(b"\n")):
            if number:
                yield rest.decode(errors="replace")
                rest.clear()
            rest += part
            while len(rest) > longest:
                at = _end_of_character(rest, longest)
                yield rest[:at].decode(errors="replace")
                del rest[:at]
    if rest:
        yield rest.decode(errors="replace")


def _end_of_character(text: bytearray, at: int) -> int:
    """The last place up to `at` where no character of UTF-8 is cut in two; `at` itself, where it is no UTF-8."""
    return next((place for place in range(at, max(at - 4, 0), -1) if text[place] & 0xC0 != 0x80), at)


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Calls, streams and what is urgent have connections of their own: none starves another."""

    calls: Transport
    streams: Transport
    urgent: Transport


@asynccontextmanager
async def open_pools(tls: ssl.SSLContext | None, *, server_name: str | None = None, proxy: str | None = None) -> AsyncIterator[Pools]:
    """Pools to one server. Leaving closes the connections."""

    def session(at_once: int, timeout: aiohttp.ClientTimeout, *, is_kept: bool = True) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=at_once, ssl=tls or True, force_close=not is_kept, enable_cleanup_closed=_MUST_BE_CUT),
            timeout=timeout,
            proxy=proxy,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"jobyard/{__version__}"},
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
        )

    def bound(seconds: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_TIMEOUT))

    # `connect` is the whole way to the server: a proxy that accepts, and then is silent, would hold a stream for ever.
    streaming = aiohttp.ClientTimeout(total=None, connect=CALL_TIMEOUT, sock_connect=CONNECT_TIMEOUT, sock_read=QUIET_LIMIT)
    async with (
        session(CALLS_AT_ONCE, bound(CALL_TIMEOUT)) as calls,
        session(0, streaming, is_kept=False) as streams,
        session(URGENT_AT_ONCE, bound(URGENT_TIMEOUT)) as urgent,
    ):
        yield Pools(
            calls=Pool(calls, CALL_TIMEOUT, server_name),
            streams=Pool(streams, QUIET_LIMIT, server_name),
            urgent=Pool(urgent, URGENT_TIMEOUT, server_name),
        )
