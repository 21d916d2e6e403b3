"""The trigger: look at all queues that are due, by one query; decide; begin runs; again when a run ends, something is heard, or it is time.

A queue has no items that we could take, only a level. So a run's key is a generation (`model.generation`): two that look at once ask for the
same run, and nothing is lost or doubled by a crash at any point. A queue whose run is refused, or waits for room, holds up no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from errno import ECONNRESET

from jobyard.contracts import Clock, Runs
from jobyard.model.errors import JobyardError, innermost
from jobyard.model.generation import superseded
from jobyard.model.run import Run, RunRequest, State
from jobyard.triggers.postgres.depth import Depth
from jobyard.triggers.postgres.meter import Meter, open_meter
from jobyard.triggers.postgres.preset import PGBOSS
from jobyard.triggers.postgres.rule import End, Start
from jobyard.triggers.postgres.settings import TriggerSettings
from jobyard.triggers.postgres.slot import LONGEST, NEAR, Slot, by_level, cap, finished, origin
from jobyard.triggers.postgres.trouble import Wanted, explain

LEAST = 0.01
"""The shortest, in seconds."""
RELEASE_EVERY = 60.0
"""Seconds between two looks for runs that may be released."""

Tell = Callable[[str], None]


class QueueTrigger:
    """Runs Jobs while queues of a database have work."""

    def __init__(self, name: str, settings: TriggerSettings, clock: Clock, tell: Tell = lambda _: None) -> None:
        """`tell`: is told, in words, what goes wrong with one queue while the others go on."""
        self.name = name
        self.settings = settings
        self.clock = clock
        self.tell = tell
        self.wanted = asyncio.Event()
        """Something has happened: look."""
        self.is_cut = False
        """The connection has ended."""
        self.slots: dict[str, Slot] = {}
        """The queues as they are served; empty while none is."""
        self._told: set[str] = set()

    async def run(self, engine: Runs) -> None:
        """Raises PostgresTrouble: the database can't be asked just now."""
        try:
            async with open_meter(self.settings, self.clock, self.name, self._hear) as meter, asyncio.TaskGroup() as tasks:
                now, self.is_cut = self.clock.now(), False
                self.slots = {each.queue: Slot(each, now) for each in self.settings.queues}
                if meter.deaf:
                    self._tell_once(f"trigger {self.name} only polls, every check interval: {meter.deaf}")
                tasks.create_task(self._keep_releasing(engine), name=f"{self.name}: releasing")
                await _Serving(self, engine, meter, tasks).go()
        except BaseExceptionGroup as group:
            raise innermost(group) from group
        finally:
            self.slots = {}

    def look_soon(self) -> None:
        """Somebody wants us to look at every queue."""
        now = self.clock.now()
        news = [slot.hear(now) for slot in self.slots.values()]
        if any(news):
            self.wanted.set()

    def _hear(self, payload: str | None) -> None:
        """A notification, or (None) the end of the connection."""
        now = self.clock.now()
        slot = self.slots.get(payload or "")
        if payload is None:
            self.is_cut = True
            self.wanted.set()
        elif slot is not None:
            if slot.hear(now):
                self.wanted.set()
        elif self.settings.preset != PGBOSS:  # else it is of a queue that others serve
            self.look_soon()

    def _tell_once(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self.tell(what)

    async def runs(self, engine: Runs) -> list[Run]:
        """All that were not released, of every namespace that a queue's runs are in."""
        found: list[Run] = []
        for namespace in sorted({each.namespace for each in self.settings.queues}):
            found += await engine.runs(self.name, namespace)
        return list({run.uid: run for run in found}.values())

    async def _keep_releasing(self, engine: Runs) -> None:
        """Lets go of runs whose successors are old enough."""
        while True:
            for queue, mine in by_level(await self.runs(engine)).items():
                now = self.clock.now()
                for run in superseded(mine, now) if queue in self.slots else finished(mine, now):
                    with contextlib.suppress(JobyardError):  # the next look tries again
                        await engine.release(run)
            await asyncio.sleep(RELEASE_EVERY)


class _Serving:
    """One connection's time of serving."""

    def __init__(self, trigger: QueueTrigger, engine: Runs, meter: Meter, tasks: asyncio.TaskGroup) -> None:
        self._trigger = trigger
        self._engine = engine
        self._meter = meter
        self._tasks = tasks
        self._slots = trigger.slots
        self._cap = cap(trigger.settings.queues)
        self._following: set[str] = set()
        """Uids of runs whose ends are awaited."""
        self._submits: dict[str, list[asyncio.Task[None]]] = {name: [] for name in self._slots}

    async def go(self) -> None:
        """Until cancelled, or the database can't be asked."""
        while True:
            self._trigger.wanted.clear()
            if self._trigger.is_cut:
                raise explain(ConnectionResetError(ECONNRESET, os.strerror(ECONNRESET)), self._trigger.settings.address, Wanted())
            await self._look()
            await self._pause()

    async def _pause(self) -> None:
        now = self._trigger.clock.now()
        until = min([*(slot.due for slot in self._slots.values()), now + LONGEST])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max((until - now).total_seconds(), LEAST)):
                await self._trigger.wanted.wait()

    async def _look(self) -> None:
        await self._take_runs()
        now = self._trigger.clock.now()
        asked = [slot for slot in self._slots.values() if slot.is_due(now) and self._wants_depth(slot, now)]
        if not asked:
            return
        asked += [slot for slot in self._slots.values() if slot not in asked and slot.is_due(now, NEAR) and self._wants_depth(slot, now)]
        for slot in asked:
            slot.begin_look()
        # After the runs were taken: what they have claimed since counts once less, never twice.
        depths = await self._meter.look([slot.queue for slot in asked], self._cap)
        now = self._trigger.clock.now()
        for slot in asked:
            self._decide(slot, depths, now)

    def _wants_depth(self, slot: Slot, now: datetime) -> bool:
        """Whether its depth decides anything: what starts, or whether what waits for room is still wanted."""
        rests = slot.rest(now)
        return not rests or bool(self._submits[slot.queue])

    def _decide(self, slot: Slot, depths: Mapping[str, Depth], now: datetime) -> None:
        depth = depths.get(slot.queue)
        if depth is not None and not depth.waiting:
            for task in self._submits[slot.queue]:  # somebody else has done what they were for
                task.cancel()
        step = slot.decide(depth, now)
        if isinstance(step, Start) and depth is not None:
            numbers = slot.next_generations(step.count)
            slot.asked.update(numbers)
            self._submits[slot.queue].append(self._tasks.create_task(self._begin(slot, numbers, depth), name=slot.key(numbers[0])))
        if self._submits[slot.queue]:
            slot.look_after(slot.settings.waits.check, now)

    async def _take_runs(self) -> None:
        now = self._trigger.clock.now()
        mine = by_level(await self._trigger.runs(self._engine))
        for name, slot in self._slots.items():
            slot.take(mine.get(name, ()), now)
            for run in slot.runs:
                if not run.state.is_end:
                    self._follow(slot, run)

    # --- one run ---

    async def _begin(self, slot: Slot, numbers: Sequence[int], depth: Depth) -> None:
        """Begins runs, one after the other: whoever sees one of them has seen those before it, and counts on from it rightly."""
        try:
            for number in numbers:
                if not await self._submit(slot, number, depth):
                    break
        except JobyardError as error:
            slot.remember(End.ERROR, self._trigger.clock.now())
            self._tell(slot, f"no Job could be made: {error}")
        finally:
            slot.asked.difference_update(numbers)
            task = asyncio.current_task()
            self._submits[slot.queue] = [each for each in self._submits[slot.queue] if each is not task]
            self._wake(slot)

    async def _submit(self, slot: Slot, number: int, depth: Depth) -> bool:
        """Whether the run of this number goes on, or went on not long ago."""
        settings = slot.settings
        run = await self._engine.submit(
            RunRequest(
                trigger=self._trigger.name,
                key=slot.key(number),
                workflow=settings.workflow,
                namespace=settings.namespace,
                inputs=settings.inputs,
                origin=origin(slot.queue, depth),
            )
        )
        if run.released:
            slot.skip(number)
            return False
        slot.note(run, number)
        slot.told = ""
        self._follow(slot, run)
        return True

    def _tell(self, slot: Slot, what: str) -> None:
        """Says it once, until another thing is to be said or a run could be begun."""
        if slot.told != what:
            slot.told = what
            self._trigger.tell(f"queue {slot.queue}: {what}")

    def _follow(self, slot: Slot, run: Run) -> None:
        if run.uid not in self._following:
            self._following.add(run.uid)
            self._tasks.create_task(self._await_end(slot, run), name=f"{run.name}: outcome")

    async def _await_end(self, slot: Slot, run: Run) -> None:
        try:
            outcome = await self._engine.outcome(run)
            if outcome.state is State.LOST and run.uid not in {each.uid for each in await self._trigger.runs(self._engine)}:
                slot.remember(End.FAILURE, self._trigger.clock.now())
                self._tell(slot, f"the Job of run {run.name} was deleted before it ended")
        except JobyardError as error:
            slot.remember(End.FAILURE, self._trigger.clock.now())
            self._tell(slot, f"run {run.name}: {error}")
        finally:
            self._following.discard(run.uid)
            self._wake(slot)

    def _wake(self, slot: Slot) -> None:
        slot.wake(self._trigger.clock.now())
        self._trigger.wanted.set()
