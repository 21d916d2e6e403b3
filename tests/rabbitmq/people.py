"""Who publishes to a queue, and looks into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, DeliveryMode

from tests.rabbitmq.server import VirtualHost


class Person:
    """Somebody with a connection to a virtual host."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._link: AbstractConnection | None = None
        self._opened: AbstractChannel | None = None

    async def reopen(self) -> None:
        """After the broker has closed the channel, or somebody the connection."""
        await self.close()
        self._link = await aio_pika.connect(self._url)
        self._opened = await self._link.channel()

    async def close(self) -> None:
        if self._link is not None:
            await self._link.close()

    @property
    def _channel(self) -> AbstractChannel:
        assert self._opened is not None
        return self._opened

    async def publish(self, queue: str, body: bytes, message_id: str | None = None, headers: Mapping[str, Any] | None = None) -> None:
        """Returns when the broker has the message."""
        message = aio_pika.Message(body, message_id=message_id, headers=dict(headers or {}), delivery_mode=DeliveryMode.PERSISTENT)
        await self._channel.default_exchange.publish(message, queue, mandatory=True)

    async def waiting(self, queue: str) -> int:
        """Messages that are in nobody's hand."""
        found = await self._channel.declare_queue(queue, passive=True)
        return found.declaration_result.message_count or 0

    async def take(self, queue: str) -> AbstractIncomingMessage | None:
        """The next message, acknowledged."""
        found = await self._channel.get_queue(queue, ensure=False)
        message = await found.get(fail=False)
        if message is not None:
            await message.ack()
        return message


@asynccontextmanager
async def person(vhost: VirtualHost) -> AsyncIterator[Person]:
    found = Person(vhost.url)
    await found.reopen()
    try:
        yield found
    finally:
        await found.close()
