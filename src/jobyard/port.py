"""A port that strangers may knock at: how long they may take, how much they may say, how many they may be; and nothing they say ends it.

Whatever listens is served by `listening`: uvicorn, with connections that are bounded here. uvicorn itself waits for ever for a request that
was begun, keeps headers of any length, and takes in as many connections and pipelined requests as come.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger("jobyard.port")
_silent = logging.Logger("jobyard.port.uvicorn", logging.CRITICAL + 1)
"""Where uvicorn says what strangers did wrong: anybody could fill a log with it."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a connection may take. Times are in seconds, sizes in bytes."""

    connections: int = 128
    """How many there may be. Beyond them whoever has been idle longest makes way, then whoever has waited longest with half a request; where
    nobody has, the newcomer."""
    header: float = 10.0
    """From the first moment, or from the first byte of a further request, to the end of its header."""
    header_bytes: int = 32 * 1024
    """Of a request's line and header."""
    body: float = 60.0
    """From the end of the header to the end of the body."""
    silence: float = 15.0
    """In which nothing more of a body comes."""
    idle: float = 5.0
    """Between a request's answer and the next request."""
    age: float = 300.0
    """Of a connection that begins another request: it is the last."""
    stalled: float = 30.0
    """In which nobody reads an answer that is there to be read."""
    pipelined: int = 8
    """How many requests may wait for the answer to one before them."""
    overhead: int = 64 * 1024
    """Of a body: what of it is no content (chunks' sizes, trailers), beyond as much as it has content."""
    leftover: int = 32 * MIB
    """Of a body that is read on though its request was answered, so that who sends it hears the answer."""


# --- one connection ---


class _Connection(HttpToolsProtocol):
    """A connection of uvicorn's that keeps to its bounds. A subclass has them; see `_bounded`."""

    bounds: Bounds
    waiting: dict[_Connection, None]
    """Those that have not said a whole request: who has waited longest comes first."""
    idle: dict[_Connection, None]
    """Those whose requests are answered: who has been idle longest comes first."""

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self.logger = _silent
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._is_in_body = False
        self._made = self.loop.time()
        self._body_ends = 0.0
        self._overhead = 0
        """Bytes of the header so far; in a body, those that were no content."""
        self._leftover = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        while len(self.connections) >= self.bounds.connections:
            oldest = next(iter(self.idle), None) or next(iter(self.waiting), None)
            if oldest is None:
                self.transport = transport
                transport.abort()
                return
            oldest.drop()
        if hasattr(transport, "max_size"):
            transport.max_size = _READ
        super().connection_made(transport)
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._until(None)
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def drop(self) -> None:
        """Ends it at once, whoever is at the other end."""
        self._forget()
        self.connections.discard(self)
        self.transport.abort()

    def _forget(self) -> None:
        self.waiting.pop(self, None)
        self.idle.pop(self, None)

    # --- time ---

    def _until(self, seconds: float | None) -> None:
        """Drops the connection after a time, unless told otherwise before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.drop) if seconds is not None else None

    def _await_header(self) -> None:
        self.idle.pop(self, None)
        self.waiting[self] = None
        self._overhead = 0
        self._until(self.bounds.header)

    def _await_body(self) -> None:
        self._until(max(min(self._body_ends - self.loop.time(), self.bounds.silence), 0.0))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self not in self.waiting:  # the first byte of a further request
            self._await_header()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._is_in_body, self._overhead, self._leftover = True, 0, 0
        self._body_ends = self.loop.time() + self.bounds.body
        if self.cycle is not None and self.loop.time() - self._made > self.bounds.age:
            self.cycle.keep_alive = False
        self._await_body()

    def on_body(self, body: bytes) -> None:
        # All that came was counted, and as much again may be no content; but no more for what came long ago.
        self._overhead = max(self._overhead - 2 * len(body), -self.bounds.overhead)
        if self.cycle.response_complete:
            self._leftover += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_in_body, self._overhead = False, 0
        self.waiting.pop(self, None)
        self._until(None)
        if self.cycle.response_complete and not self.transport.is_closing():
            self.idle[self] = None
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_in_body:
            self._unset_keepalive_if_required()  # the body has a time of its own
        elif self.cycle.response_complete and not self.transport.is_closing():  # else another one's turn has come
            self.idle[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(self.bounds.stalled, self.drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    # --- size ---

    def data_received(self, data: bytes) -> None:
        try:
            for start in range(0, len(data), _SLICE):
                if self.transport is None or self.transport.is_closing():
                    return
                if not self._is_in_body and self not in self.waiting and (self.cycle is None or self.cycle.response_complete):
                    self._await_header()
                piece = data[start : start + _SLICE]
                self._overhead += len(piece)
                super().data_received(piece)
                if self._is_too_much():
                    return
            if self._is_in_body:
                self._await_body()
        except Exception as error:
            log.debug("a connection was dropped", exc_info=error)
            self.drop()

    def _is_too_much(self) -> bool:
        bounds = self.bounds
        if not self._is_in_body and self._overhead > bounds.header_bytes and self in self.waiting:
            self._refuse(431, b"Request Header Fields Too Large")
        elif (
            (self._is_in_body and self._overhead > bounds.overhead)
            or self._leftover > bounds.leftover
            or len(self.pipeline) > bounds.pipelined
        ):
            self.drop()
        else:
            return False
        return True

    def _refuse(self, status: int, words: bytes) -> None:
        """Answers what no application was asked, and closes."""
        if not self.transport.is_closing():
            head = b"HTTP/1.1 %d %s\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            self.transport.write(head % (status, words, len(words), words))
            self.transport.close()


_READ = 32 * 1024
"""Bytes that are taken from a connection at once. asyncio takes 256 KiB, and a thousand connections of that are a lot."""
_SLICE = 16 * 1024
"""Bytes that are looked at before it is asked whether that is too much: a packet may be a thousand requests."""


def _bounded(bounds_: Bounds) -> type[_Connection]:
    class Connection(_Connection):
        bounds = bounds_
        waiting: dict[_Connection, None] = {}
        idle: dict[_Connection, None] = {}

    return Connection


# --- what is served ---


class Contained:
    """An application whose every request is one try block, and whose bodies have a limit."""

    def __init__(self, app: App, body_limit: int) -> None:
        """`body_limit`: bytes; more is answered 413, and nothing of it is kept."""
        self._app = app
        self._limit = body_limit

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise TooLong(self._limit)
            return message

        try:
            if _length(scope) > self._limit:
                raise TooLong(self._limit)
            await self._app(scope, limited, answer)
        except TooLong as error:
            await answer.plainly(413, str(error))
        except Exception as error:
            log.warning("a request for %.100r broke: %s: %s", scope.get("path"), type(error).__name__, error)
            log.debug("how it broke", exc_info=error)
            await answer.plainly(500, "Internal Server Error")


class TooLong(Exception):
    """A request's body goes beyond the limit. An application lets it through, or answers it itself."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"Payload Too Large: at most {limit:,} bytes")


class _Answer:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._has_begun = False

    async def __call__(self, message: Message) -> None:
        self._has_begun = True
        await self._send(message)

    async def plainly(self, status: int, words: str) -> None:
        """Answers in a sentence, where nothing was answered yet."""
        if self._has_begun:
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(words.encode())).encode())]
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": words.encode()})


def _length(scope: Message) -> int:
    """What the header says of the body's length; 0 where it does not say."""
    told = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(told) if told.isdigit() and len(told) < 20 else 0


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(app: App, host: str, port: int, bounds: Bounds = Bounds()) -> AsyncIterator[int]:
    """Serves an application; yields the port. Raises OSError when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    config = uvicorn.Config(
        app,
        http=_bounded(bounds),
        lifespan="off",
        log_config=None,
        access_log=False,
        ws="none",
        server_header=False,
        timeout_keep_alive=int(bounds.idle),
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()
