"""HTTP itself: a request that is sent, the lines of a body, and what went wrong in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2

CALL_TIMEOUT = 30.0
LAST_WORD = 2.0
"""Seconds for which a call that is cancelled waits for its answer to begin."""


async def send(client: httpx2.AsyncClient, request: httpx2.Request, *, stream: bool) -> httpx2.Response:
    """Sends a request. A cancellation waits a moment for the answer to begin: httpcore leaves the socket of a TLS handshake that is
    cancelled open (it cleans up after Exception, and a cancellation is none)."""
    sending = asyncio.ensure_future(client.send(request, stream=stream))
    try:
        return await asyncio.shield(sending)
    except asyncio.CancelledError:
        # A second cancellation may end this wait too: what then becomes of the request is seen here, and closed with the client.
        sending.add_done_callback(lambda late: late.cancelled() or late.exception())
        done, _ = await asyncio.wait([sending], timeout=LAST_WORD)
        if not done:
            sending.cancel()
            await asyncio.wait([sending])
        elif not sending.exception():
            await sending.result().aclose()
        raise


async def lines(answer: httpx2.Response) -> AsyncIterator[str]:
    """The lines of a body as they come. Only \\n ends a line: a log may hold any other character."""
    rest = b""
    async for chunk in answer.aiter_bytes():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def words(error: Exception) -> str:
    if isinstance(error, httpx2.ConnectError):
        detail = str(error) or "no connection"
        if "CERTIFICATE_VERIFY_FAILED" in detail:
            return f"shows a certificate that is not trusted ({detail})"
        return f"can't be reached ({detail})"
    if isinstance(error, httpx2.TimeoutException):
        return f"gave no answer in {CALL_TIMEOUT:.0f} s"
    if isinstance(error, httpx2.DecodingError):
        return f"answered with something that can't be unpacked ({error})"
    return f"broke off the connection ({type(error).__name__})"
