"""Where messages go that can't be Jobs: published by us, confirmed by the broker, before the message itself is acknowledged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aio_pika
import aiormq.exceptions as amqp
from aio_pika.abc import AbstractIncomingMessage, DeliveryMode, HeadersType

from jobyard.model.errors import Unavailable
from jobyard.triggers.amqp.connection import Connection, open_connection
from jobyard.triggers.amqp.settings import DEAD, Brokers, DeadLetters
from jobyard.triggers.amqp.troubles import ASK_AGAIN, LetterRefused

REASON, QUEUE, JOB = "x-jobyard-reason", "x-jobyard-queue", "x-jobyard-job"
"""The headers that say why, from where, and which Job it would have been."""
REASON_LIMIT = 1000


class Target:
    """Where dead letters go, by a connection of its own: a broker that lets nobody publish (a full memory) goes on hearing our
    acknowledgements on the other. Made by `open_target`."""

    def __init__(self, connection: Connection, letters: DeadLetters, queue: str) -> None:
        self._connection = connection
        self._letters = letters
        self._queue = queue

    async def look(self) -> None:
        """Whether it is there; our own queue is declared where it is missing. Raises LetterRefused."""
        exchange, own = self._letters.exchange, self._letters.is_own
        ask, name = self._connection.ask_aside, self._letters.routing_key or f"{self._queue}{DEAD}"
        try:
            if exchange:
                await ask(f"look at exchange {exchange}", lambda channel: channel.get_exchange(exchange))
                return
            try:
                await ask(f"look at queue {name}", lambda channel: channel.declare_queue(name, passive=True))
            except Unavailable as error:
                if not (own and isinstance(error.__cause__, amqp.ChannelNotFoundEntity)):
                    raise
                await ask(f"declare queue {name}", lambda channel: channel.declare_queue(name, durable=True))
        except Unavailable as error:
            match error.__cause__:
                case amqp.ChannelNotFoundEntity():
                    raise self._still(f"there is no {self._words}") from error
                case amqp.ChannelAccessRefused():
                    need = f'configure "^{name}$" (or a queue {name} that you declare)' if own else "to look at it"
                    raise self._still(f"the user may not use {self._words}; it needs the permission {need}, and write") from error
            raise self._still(str(error)) from error

    async def send(self, message: AbstractIncomingMessage, reason: str, job: str) -> None:
        """Returns once the broker has the dead letter. Raises LetterRefused."""
        letters, channel = self._letters, self._connection.channel
        letter = _letter(message, reason[:REASON_LIMIT], self._queue, job)
        key = f"{self._queue}{DEAD}" if letters.is_own else letters.routing_key

        async def publish() -> None:
            exchange = await channel.get_exchange(letters.exchange, ensure=False) if letters.exchange else channel.default_exchange
            await exchange.publish(letter, routing_key=key, mandatory=True)

        try:
            await self._connection.ask("publish a dead letter", publish)
        except Unavailable as error:
            if isinstance(error.__cause__, amqp.DeliveryError):
                raise self._still(f"no queue takes it from {self._words}, or the one that should is full") from error
            raise self._still(str(error)) from error

    def _still(self, why: str) -> LetterRefused:
        return LetterRefused(queue=self._queue, what=why, retry_after=ASK_AGAIN)

    @property
    def _words(self) -> str:
        letters = self._letters
        if letters.exchange:
            return f"exchange {letters.exchange} with routing key {letters.routing_key or '(empty)'}"
        return f"queue {letters.routing_key or self._queue + DEAD}"


@asynccontextmanager
async def open_target(brokers: Brokers, letters: DeadLetters, queue: str) -> AsyncIterator[Target]:
    """Where dead letters go, looked at. Raises LetterRefused."""
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(open_connection(brokers, lambda _: None, returns=True))
        except Unavailable as error:
            raise LetterRefused(queue=queue, what=str(error), retry_after=ASK_AGAIN) from error
        target = Target(connection, letters, queue)
        await target.look()
        yield target


def _letter(message: AbstractIncomingMessage, reason: str, queue: str, job: str) -> aio_pika.Message:
    """The message as it was, but for what must not be kept: it stays for ever, and is nobody's own."""
    added: dict[str, Any] = {REASON: reason, QUEUE: queue, **({JOB: job} if job else {})}
    headers: HeadersType = {**message.headers, **added}
    return aio_pika.Message(
        message.body,
        headers=headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )
