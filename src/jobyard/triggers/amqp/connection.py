"""A connection to a broker, with one channel: everything that is said to RabbitMQ passes here, and every failure comes out in words."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import aio_pika
import aiormq.exceptions as amqp
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from yarl import URL

from jobyard import external
from jobyard.model.errors import Unavailable
from jobyard.triggers.amqp.settings import Brokers, Tls
from jobyard.triggers.amqp.troubles import QueueUnavailable, broker_trouble

for _name in ("aio_pika", "aiormq"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)  # they would quote messages and addresses; what fails is told by us

ANSWER = 20.0
"""Seconds within which a broker has to answer a call."""
CONNECT = 10.0
LEAVE = 2.0
"""Seconds for saying good-bye: the broker notices in any case."""
HEARTBEAT = 15
"""Seconds; a connection that is silent for three of them is dead."""


def server_of(url: str) -> str:
    """The broker of an address, as it may be shown."""
    read = URL(url)
    return f"{read.host}:{read.port or (5671 if read.scheme == 'amqps' else 5672)}"


def vhost_of(url: str) -> str:
    """The virtual host that an address means, as aiormq reads it."""
    path = URL(url).path
    return "/" if path in ("", "/") else path[1:].replace("%2F", "/")


class Connection:
    """An open connection and its channel. Made by `open_connection`."""

    def __init__(self, server: str, link: AbstractConnection, channel: AbstractChannel) -> None:
        self.server = server
        self.channel = channel
        self._link = link

    async def ask_aside(self, what: str, call: Callable[[AbstractChannel], Awaitable[Any]]) -> Any:
        """One call on a channel of its own: the broker closes a channel on which it refuses something. Raises BrokerUnavailable."""

        async def aside() -> Any:
            async with self._link.channel() as channel:
                return await call(channel)

        return await self.ask(what, aside)

    async def ask(self, what: str, call: Callable[[], Awaitable[Any]], seconds: float = ANSWER) -> Any:
        """One call to the broker. Raises BrokerUnavailable."""
        with external.call(f"amqp: {what}"), self._in_words():
            async with asyncio.timeout(seconds):
                return await call()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        with in_words(self.server):
            yield


@contextmanager
def in_words(server: str) -> Iterator[None]:
    """Whatever the library raises is the broker's trouble. It also cancels who waits for an answer that will not come: only somebody who
    cancelled us means it. Raises BrokerUnavailable."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise broker_trouble(server, error) from error
    except Unavailable:
        raise
    except Exception as error:
        raise broker_trouble(server, error) from error


@asynccontextmanager
async def open_connection(brokers: Brokers, lost: Callable[[Unavailable], None], *, returns: bool = False) -> AsyncIterator[Connection]:
    """A connection to the first of the brokers that answers. `lost`: is told once why it is over, unless we closed it; `returns`: what is
    published and can't be routed raises. Raises BrokerUnavailable."""
    trouble: Unavailable | None = None
    for url in brokers.urls:
        server = server_of(url)
        try:
            with external.call(f"amqp: connect to {server}"), in_words(server):
                async with asyncio.timeout(CONNECT):
                    link = await aio_pika.connect(_with_heartbeat(url), ssl_context=_trust(url, brokers.tls))
        except Unavailable as error:
            trouble = error
            continue
        try:
            link.close_callbacks.add(partial(_told, server, lost))
            with in_words(server):
                async with asyncio.timeout(ANSWER):
                    channel = await link.channel(publisher_confirms=True, on_return_raises=returns)
            channel.close_callbacks.add(partial(_told, server, lost))
            yield Connection(server, link, channel)
        finally:
            with contextlib.suppress(Unavailable), in_words(server):
                async with asyncio.timeout(LEAVE):
                    await link.close()
        return
    raise trouble or broker_trouble("nowhere", OSError())


def _told(server: str, lost: Callable[[Unavailable], None], _: object, error: BaseException | None) -> None:
    lost(broker_trouble(server, error or amqp.ConnectionClosed(320, "")))


def _with_heartbeat(url: str) -> URL:
    read = URL(url)
    return read if "heartbeat" in read.query else read.update_query(heartbeat=HEARTBEAT)


def _trust(url: str, tls: Tls) -> ssl.SSLContext | None:
    if URL(url).scheme != "amqps":
        return None
    context = ssl.create_default_context(cafile=tls.ca or None)
    if tls.cert:
        context.load_cert_chain(tls.cert, tls.key or None)
    return context


class Queue:
    """A queue as it is consumed. Passive from the first: one that exists with whatever arguments is used as it is."""

    def __init__(self, connection: Connection, name: str, vhost: str, lost: Callable[[Unavailable], None]) -> None:
        self._connection = connection
        self._name = name
        self._vhost = vhost
        self._lost = lost
        self._queue: AbstractQueue | None = None
        self._tag = ""

    async def look(self) -> int:
        """How many messages wait. Raises QueueUnavailable, BrokerUnavailable."""
        try:
            self._queue = await self._connection.ask(
                f"look at queue {self._name}", lambda: self._connection.channel.declare_queue(self._name, passive=True)
            )
        except Unavailable as error:
            raise self._unavailable(error.__cause__) or error from error.__cause__
        return self._queue.declaration_result.message_count or 0

    async def open(self, prefetch: int, deliver: Callable[[AbstractIncomingMessage], None]) -> None:
        """Consumes: at most `prefetch` messages are in hand at a time. Raises QueueUnavailable, BrokerUnavailable."""
        queue = self._queue
        if queue is None:
            raise RuntimeError("a queue is looked at before it is consumed")
        channel = await self._connection.channel.get_underlay_channel()
        channel.on_consumer_cancel_callbacks.add(self._cancelled)

        async def take(message: AbstractIncomingMessage) -> None:
            deliver(message)

        await self._connection.ask(f"prefetch {prefetch}", lambda: self._connection.channel.set_qos(prefetch_count=prefetch))
        try:
            self._tag = await self._connection.ask(f"consume {self._name}", lambda: queue.consume(take))
        except Unavailable as error:
            raise self._unavailable(error.__cause__) or error from error.__cause__

    async def close(self) -> None:
        """Consumes no more; what was delivered before stays in hand. Raises BrokerUnavailable."""
        queue, tag, self._tag = self._queue, self._tag, ""
        if queue is not None and tag:
            await self._connection.ask("consume no more", lambda: queue.cancel(tag))

    async def acknowledge(self, message: AbstractIncomingMessage) -> None:
        """Raises BrokerUnavailable; the broker may have heard it all the same."""
        await self._connection.ask("acknowledge", message.ack)

    async def give_back(self, message: AbstractIncomingMessage) -> None:
        """Raises BrokerUnavailable."""
        await self._connection.ask("give back", lambda: message.nack(requeue=True))

    def _cancelled(self, frame: object) -> None:
        self._lost(self._trouble("was deleted, or its node is away", "it is looked for again"))

    def _unavailable(self, cause: BaseException | None) -> QueueUnavailable | None:
        match cause:
            case amqp.ChannelNotFoundEntity():
                return self._trouble("does not exist", "it is waited for; whoever uses it declares it")
            case amqp.ChannelAccessRefused():
                return self._trouble("may not be read by this user", f'it needs the permission read "^{self._name}$"')
            case amqp.ChannelLockedResource():
                return self._trouble("is another connection's alone", "it is asked for again")
        return None

    def _trouble(self, what: str, remedy: str) -> QueueUnavailable:
        return QueueUnavailable(queue=self._name, vhost=self._vhost, what=what, remedy=remedy)
