"""Drives a run and shows it until it ends, or until the person at the terminal has had enough."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jobyard.cli.leaving import on_leaving
from jobyard.cli.screens import Screen
from jobyard.cli.tails import Tails
from jobyard.contracts import Clock
from jobyard.engine.engine import ClusterEngine
from jobyard.engine.signals import Signal
from jobyard.model.run import Outcome, Run
from jobyard.service.target import Target

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes, as shells tell them: 128 and the signal's number."""
SECOND_CHANCE = 3.0
"""Seconds in which a second Ctrl-C cancels the run."""


@dataclass
class Session:
    """A run that was followed on a screen, and how that ended. `outcome` is None when who followed left before the run did; `code`: what to
    exit with because of it."""

    outcome: Outcome | None
    code: int | None
    tails: Tails


class Interrupts:
    """Counts Ctrl-C, notes SIGTERM, and wakes who waits for them."""

    def __init__(self) -> None:
        self.count = 0
        self.terminated = False
        self.news = Signal()

    def more(self) -> None:
        """A person at a terminal wants something else."""
        self.count += 1
        self.news.set()

    def terminate(self) -> None:
        """Something ends this process, and will not ask twice."""
        self.terminated = True
        self.more()


@contextmanager
def catch_interrupts() -> Iterator[Interrupts]:
    """Ctrl-C and SIGTERM are noted instead of ending the process."""
    interrupts, loop = Interrupts(), asyncio.get_running_loop()
    handlers = {signal.SIGINT: interrupts.more, signal.SIGTERM: interrupts.terminate}
    for number, noted in handlers.items():
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, noted)
    try:
        yield interrupts
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


async def follow(engine: ClusterEngine, run: Run, target: Target, screen: Screen, clock: Clock, come_back: str) -> Session:
    """Shows the run until it ends. The first Ctrl-C leaves it to itself and says how to come back; a second one soon after cancels it.
    SIGTERM leaves at once; a run that lives only as long as we do is cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tails = Tails(target.cluster, tasks)
        drawing = tasks.create_task(_draw(engine, run, tails, screen, clock))
        ending = tasks.create_task(_outcome(engine, run))
        try:
            with catch_interrupts() as interrupts:
                left = await _until_end_or_interrupt(engine, run, target, screen, interrupts, ending, come_back)
            code = (TERMINATED if interrupts.terminated else INTERRUPTED) if left else None
            result = ending.result() if ending.done() else None
        finally:
            drawing.cancel()
            ending.cancel()
            tails.close()
    if isinstance(result, Exception):
        raise result
    return Session(outcome=result, code=code, tails=tails)


async def _outcome(engine: ClusterEngine, run: Run) -> Outcome | Exception:
    """The outcome, or what kept us from it: told as a value, so that the screen is put away first."""
    try:
        return await engine.outcome(run)
    except Exception as error:  # noqa: BLE001 - raised by `follow`
        return error


async def _draw(engine: ClusterEngine, run: Run, tails: Tails, screen: Screen, clock: Clock) -> None:
    async with engine.changes(run) as changed:
        while True:
            await changed.wait(screen.every)
            view = engine.driven(run)
            if view is None:
                continue
            if screen.wants_logs:
                tails.see(view)
            view = tails.between_tries(view, changed.set)
            screen.show(view, tails.last_lines(), clock.now())
            if screen.every:
                await asyncio.sleep(0.1)  # nobody reads more than ten frames a second


async def _until_end_or_interrupt(
    engine: ClusterEngine,
    run: Run,
    target: Target,
    screen: Screen,
    interrupts: Interrupts,
    ending: asyncio.Task[Outcome | Exception],
    come_back: str,
) -> bool:
    """True when somebody interrupted."""
    ending.add_done_callback(lambda _: interrupts.news.set())
    while not ending.done() and not interrupts.count:
        await interrupts.news.wait()
    if ending.done():
        return False
    if not target.ends_with_us:
        back = await on_leaving(engine, run, target, come_back)
        if interrupts.terminated:
            screen.say(f"Terminated. {back}")
            return True
        screen.say(f"Interrupted. {back}\nCtrl-C again within {SECOND_CHANCE:.0f} s cancels the run.")
        await interrupts.news.wait(SECOND_CHANCE)
        if interrupts.count < 2 or interrupts.terminated:
            return True
    screen.say("Cancelling the run: its Jobs are asked to stop." + ("" if interrupts.terminated else " Ctrl-C once more leaves at once."))
    seen = interrupts.count
    await engine.cancel(run)
    while not ending.done() and interrupts.count == seen:
        await interrupts.news.wait()
    return True
