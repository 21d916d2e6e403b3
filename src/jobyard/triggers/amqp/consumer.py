"""One connection's worth of consuming: messages come, become runs, are acknowledged; until something is in the way.

The order that makes it safe: the Job, then its Secret (`submit` returns when both are there), then the acknowledgement. Whatever dies in
between, the message comes again, asks for the same run, and is acknowledged. `window` says how many may be in hand, `verdicts` what a failure
means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from aio_pika.abc import AbstractIncomingMessage

from jobyard.contracts import Engine
from jobyard.model import names
from jobyard.model.errors import Unavailable
from jobyard.model.run import Run, RunRequest
from jobyard.triggers.amqp import verdicts, window
from jobyard.triggers.amqp.connection import Queue
from jobyard.triggers.amqp.dead_letters import Target, open_target
from jobyard.triggers.amqp.following import Following
from jobyard.triggers.amqp.message import Message
from jobyard.triggers.amqp.orders import base, has_id, order
from jobyard.triggers.amqp.payload import Payload
from jobyard.triggers.amqp.settings import QueueSettings
from jobyard.triggers.amqp.troubles import ASK_AGAIN, LaunchRefused, LetterRefused, StandsStill
from jobyard.triggers.amqp.verdicts import Fate, Verdict
from jobyard.triggers.amqp.window import Window

log = logging.getLogger("jobyard.amqp")

LOOK_EVERY = 30.0
"""Seconds between two looks at a queue of which nothing is heard: one may be deaf and look well."""
BY_HAND = 2
"""Failures in a row after which a queue's dead letters are a person's business."""
LONGEST = 3600.0
"""Seconds until a launch is tried again that was refused however often a trial said that it would pass."""
DRAIN = 3.0
"""Seconds that launches may still take once nothing new is to be taken."""


@dataclass(eq=False, kw_only=True)
class InHand:
    """A message that was delivered, and is neither acknowledged nor given back."""

    message: AbstractIncomingMessage = field(repr=False)
    of_open: bool = True
    """It came from the consumer that is open now."""
    request: RunRequest | None = field(default=None, repr=False)
    run: Run | None = None
    verdict: Verdict | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it is known what becomes of it."""
        return self.run is not None or self.verdict is not None


@dataclass(eq=False, kw_only=True)
class Memory:
    """What a queue's trigger remembers from one connection to the next; none of it is needed after a restart."""

    launched: int = 0
    without_id: int = 0
    dead: int = 0
    given_back: int = 0
    failed_launches: int = 0
    """In a row: messages that were given back."""
    failed_letters: int = 0
    """In a row: dead letters that could not be published."""
    refused: RunRequest | None = None
    """What could not be launched: tried out, without a message, before the next is taken."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    """The queue has been consumed."""


class Consumer:
    """Consumes a queue as long as its connection lasts, and nothing is in the way."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        settings: QueueSettings,
        vhost: str,
        namespace: str,
        queue: Queue,
        following: Following,
        memory: Memory,
        news: asyncio.Event,
    ) -> None:
        """`news`: is set when something may have to be done."""
        self._engine = engine
        self._name = name
        self._settings = settings
        self._vhost = vhost
        self._namespace = namespace
        self._queue = queue
        self._following = following
        self._memory = memory
        self._news = news
        self._lost: Unavailable | None = None
        self._stopping: StandsStill | None = None
        """Why nothing more is taken; told once what is in hand was let go."""
        self._leaving = False
        """Told to stop."""
        self._in_hand: list[InHand] = []
        self._work: set[asyncio.Task[None]] = set()
        self._prefetch = 0
        self._slots = 0
        self._room: asyncio.Task[int] | None = None
        self._heard = 0
        """Messages delivered."""
        self._letters = AsyncExitStack()
        self._target: Target | None = None

    def lose(self, why: Unavailable) -> None:
        """The connection is over."""
        self._lost = self._lost or why
        self._news.set()

    async def run(self) -> None:
        """Goes on until cancelled; then nothing new is taken, and what is under way comes to its end, for a moment. Raises why it can't go on:
        StandsStill, BrokerUnavailable, QueueUnavailable."""
        working = asyncio.create_task(self._keep_working(), name=f"consumes queue {self._settings.queue}")
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            self._leaving = True
            self._news.set()
            await asyncio.wait([working], timeout=DRAIN)
            raise
        finally:
            left = [working, *self._work, *([self._room] if self._room else [])]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _keep_working(self) -> None:
        watching = asyncio.create_task(self._watch(), name=f"looks at queue {self._settings.queue}")
        watching.add_done_callback(lambda _: self._news.set())
        self._work.add(watching)
        try:
            await self._queue.look()
            while not self._leaving or self._in_hand:
                self._news.clear()
                if watching.done():
                    watching.result()
                await self._step()
                if not self._leaving or self._in_hand:
                    await self._news.wait()
        finally:
            with contextlib.suppress(Unavailable):
                await self._letters.aclose()

    async def _step(self) -> None:
        """Does all that can be done now."""
        if self._lost is not None:
            raise self._lost
        if self._leaving:
            await self._close()
        for each in [each for each in self._in_hand if each.is_settled]:
            await self._settle(each)
        if self._stopping is not None and not self._in_hand:
            raise self._stopping
        if self._stopping is None and not self._leaving and not self._prefetch:
            await self._open()

    # --- the window ---

    @property
    def _window(self) -> Window:
        earlier = sum(not each.of_open for each in self._in_hand)
        return Window(slots=self._slots, active=len(self._following), earlier=earlier, prefetch=self._prefetch)

    async def _open(self) -> None:
        """Opens the consumer where there is a slot, and room in every other limit; waits for that without holding anything."""
        taken = len(self._following) + len(self._in_hand)
        slots = window.ANY if self._settings.limit is None else self._settings.limit
        if taken >= slots:
            return
        if self._room is None:
            self._room = asyncio.create_task(self._engine.room(base(self._settings, self._namespace), self._namespace))
            self._room.add_done_callback(lambda _: self._news.set())
        if not self._room.done():
            return
        room, self._room = self._room.result(), None
        self._slots = min(slots, taken + room)
        prefetch = window.opening(replace(self._window, prefetch=0))
        if prefetch:
            await self._queue.open(prefetch, self._take)
            self._prefetch = prefetch
            self._memory.opened.set()

    async def _close(self) -> None:
        if self._prefetch:
            await self._queue.close()  # what the broker sends until it has heard this is delivered before it returns
            self._prefetch = 0
            for each in self._in_hand:
                each.of_open = False

    async def _watch(self) -> None:
        """Looks at a queue that is silent: where messages wait for an open consumer, something is broken that looks whole."""
        heard, waited = -1, False
        while True:
            await asyncio.sleep(LOOK_EVERY)
            is_idle = bool(self._prefetch) and not self._in_hand and heard == self._heard
            heard = self._heard
            waits = await self._queue.look() > 0 if is_idle else False
            if waits and waited and heard == self._heard:
                raise StandsStill(queue=self._settings.queue, what="it has messages, and none comes", remedy="it is consumed again")
            waited = waits

    # --- a message ---

    def _take(self, message: AbstractIncomingMessage) -> None:
        self._heard += 1
        each = InHand(message=message)
        self._in_hand.append(each)
        task = asyncio.create_task(self._launch(each), name=f"message of queue {self._settings.queue}")
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        task.add_done_callback(lambda _: self._news.set())

    async def _launch(self, each: InHand) -> None:
        """Makes the message's run, or learns why there can be none."""
        try:
            each.request = request = self._order(each.message)
            async with asyncio.timeout(verdicts.IN_HAND):
                each.run = await self._engine.submit(request)
        except Exception as error:  # noqa: BLE001 - a message's own, whatever it is
            each.verdict = verdicts.verdict(error)

    def _order(self, message: AbstractIncomingMessage) -> RunRequest:
        settings, memory = self._settings, self._memory
        read = Message(
            body=message.body, message_id=message.message_id or "", content_type=message.content_type or "", headers=message.headers
        )
        if not has_id(settings, read):
            if not memory.without_id:
                log.warning(
                    "queue %s: a message has no id (idFrom: %s). Each delivery of such a message is a run of its own: none is lost, but one "
                    "may run twice after a crash",
                    settings.queue,
                    settings.id_from,
                )
            memory.without_id += 1
        return order(self._name, self._vhost, settings, read, secrets.token_hex(16), self._namespace)

    async def _settle(self, each: InHand) -> None:
        """Lets the message go, one way or the other."""
        if each.run is not None:
            await self._acknowledge_run(each, each.run)
        elif each.verdict is not None and each.verdict.fate is Fate.SET_ASIDE:
            await self._set_aside(each, each.verdict)
        elif each.verdict is not None:
            memory = self._memory
            memory.refused, memory.failed_launches = each.request, memory.failed_launches + 1
            wait = min(ASK_AGAIN * 2 ** (memory.failed_launches - 2), LONGEST) if memory.failed_launches > 1 else None
            refused = LaunchRefused(queue=self._settings.queue, what=self._said(each.verdict), retry_after=wait)
            await self._give_back(each, refused)

    async def _acknowledge_run(self, each: InHand, run: Run) -> None:
        goes_on = not (run.state.is_end or run.released or self._following.has(run))
        if window.must_close(self._window, is_open_ones=each.of_open, leaves_active=goes_on):
            await self._close()
        self._in_hand.remove(each)
        self._following.follow(run)
        await self._queue.acknowledge(each.message)
        self._memory.launched += not run.existed
        self._memory.failed_launches = 0
        if window.is_worth_opening_anew(self._window, sum(each.of_open for each in self._in_hand)):
            await self._close()

    async def _set_aside(self, each: InHand, verdict: Verdict) -> None:
        """Publishes a dead letter, then acknowledges."""
        settings, memory = self._settings, self._memory
        if settings.dead_letters is None:
            what = f"dead letters are turned off ({self._said(verdict)})"
            memory.failed_letters = BY_HAND
            await self._give_back(each, LetterRefused(queue=settings.queue, what=what, retry_after=ASK_AGAIN))
            return
        try:
            if self._target is None:
                self._target = await self._letters.enter_async_context(open_target(settings.brokers, settings.dead_letters, settings.queue))
            job = names.record(each.request.prefix, each.request.run_id) if each.request else ""
            await self._target.send(each.message, verdict.why, job)
        except LetterRefused as refused:
            memory.failed_letters += 1
            self._target = None
            await self._letters.aclose()
            await self._give_back(each, refused)
            return
        self._in_hand.remove(each)
        await self._queue.acknowledge(each.message)
        memory.failed_letters, memory.dead = 0, memory.dead + 1
        log.warning("queue %s: a message was set aside as a dead letter: %s", settings.queue, self._said(verdict))

    async def _give_back(self, each: InHand, why: StandsStill) -> None:
        """Takes nothing more, and has the broker keep the message: once, for it counts each time."""
        self._stopping = self._stopping or why
        await self._close()
        self._in_hand.remove(each)
        await self._queue.give_back(each.message)
        self._memory.given_back += 1

    def _said(self, verdict: Verdict) -> str:
        """Why, as it may be told: a refusal may quote what stands in a Job, and there the message may stand."""
        return verdict.word if self._settings.payload is Payload.ENV and verdict.may_quote else verdict.why
