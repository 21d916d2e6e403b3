"""The trigger of one queue: connects, adopts what was begun, consumes; and stands still where a message would be lost or worn out.

Whatever goes wrong is raised in words, and the supervisor starts it again with back-off: so a broker that is away, a wrong password or a
queue that is missing is told where triggers are told of, and goes on by itself. What made it stand still is remembered, and looked at without a
message before the next is taken.
"""

from __future__ import annotations

import asyncio

from jobyard.contracts import Engine
from jobyard.model.errors import JobyardError, Unavailable, innermost
from jobyard.triggers.amqp import verdicts
from jobyard.triggers.amqp.connection import Queue, open_connection, vhost_of
from jobyard.triggers.amqp.consumer import BY_HAND, Consumer, Memory
from jobyard.triggers.amqp.dead_letters import open_target
from jobyard.triggers.amqp.following import Following
from jobyard.triggers.amqp.settings import QueueSettings
from jobyard.triggers.amqp.troubles import ASK_AGAIN, LaunchRefused, LetterRefused
from jobyard.triggers.amqp.verdicts import Fate


class AmqpTrigger:
    """Runs a Job for each message of one queue."""

    def __init__(self, name: str, settings: QueueSettings, namespace: str) -> None:
        """`namespace`: where its Jobs run, unless the settings say otherwise."""
        self.name = name
        self.settings = settings
        self.namespace = settings.namespace or namespace
        self.memory = Memory()

    def resume(self) -> None:
        """A person has seen to what it stands still for."""
        self.memory.failed_letters, self.memory.refused = 0, None

    async def run(self, engine: Engine) -> None:
        """Raises Unavailable: why it can't go on just now."""
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._run(engine, tasks)
        except BaseExceptionGroup as group:
            raise innermost(group) from group

    async def _run(self, engine: Engine, tasks: asyncio.TaskGroup) -> None:
        try:
            await self._look(engine)
            await self._consume(engine, tasks)
        except asyncio.CancelledError:
            self.resume()  # paused, or other settings, or another process: it begins as if for the first time
            raise

    async def _look(self, engine: Engine) -> None:
        """Whether what made it stand still is over; takes no message. Raises StandsStill."""
        memory, settings = self.memory, self.settings
        if memory.failed_letters >= BY_HAND:
            what = "dead letters are turned off" if settings.dead_letters is None else "that failed twice"
            remedy = f"see to it, then `jobyard triggers resume {self.name}`; its messages stay where they are"
            raise LetterRefused(queue=settings.queue, what=what, remedy=remedy, retry_after=ASK_AGAIN)
        if memory.failed_letters and settings.dead_letters is not None:
            async with open_target(settings.brokers, settings.dead_letters, settings.queue):
                pass
        if memory.refused is not None:
            try:
                await engine.try_out(memory.refused)
            except JobyardError as error:
                found = verdicts.verdict(error)
                if found.fate is Fate.GIVEN_BACK:
                    raise LaunchRefused(queue=settings.queue, what=str(error)) from error
            memory.refused = None

    async def _consume(self, engine: Engine, tasks: asyncio.TaskGroup) -> None:
        settings, news, vhost = self.settings, asyncio.Event(), vhost_of(self.settings.brokers.urls[0])
        consumers: list[Consumer] = []

        def lose(why: Unavailable) -> None:
            for each in consumers:
                each.lose(why)

        async with open_connection(settings.brokers, lose) as connection:
            following = Following(engine, tasks, self.memory.opened, news.set)
            for run in await engine.runs(self.name, self.namespace):
                following.follow(run)
            queue = Queue(connection, settings.queue, vhost, lose)
            consumer = Consumer(engine, self.name, settings, vhost, self.namespace, queue, following, self.memory, news)
            consumers.append(consumer)
            await consumer.run()
