"""How many messages may be in hand: the consume window. Pure.

A slot is an unfinished run of the queue. The broker may deliver at any moment as many messages as the consumer's prefetch allows, less those
that are in hand; an acknowledgement invites one more. So each message in hand, and each that may still come, has a slot set aside; a message
is acknowledged while the consumer is open only where its run leaves a slot for the one that this invites, and else the consumer is
closed first. Nothing waits in hand for a Job to end, and no message comes that has no slot.

    unfinished runs of acknowledged messages + in hand of closed consumers + prefetch of the open one  <=  limit
"""

from __future__ import annotations

from dataclasses import dataclass

ANY = 10**9
"""Slots of a queue that nobody has limited."""
MOST = 100
"""Messages in hand at the most, however many slots are free: more are no faster."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """What is known when something is to be done."""

    slots: int
    """How many runs may be unfinished: the queue's limit, or less where another limit leaves less."""
    active: int
    """Unfinished runs whose messages are not in hand any more."""
    earlier: int = 0
    """Messages in hand that came from consumers that are closed by now."""
    prefetch: int = 0
    """Of the open consumer; 0 while none is open."""

    @property
    def set_aside(self) -> int:
        """Slots that are taken, or may be at any moment."""
        return self.active + self.earlier + self.prefetch


def opening(window: Window) -> int:
    """The prefetch to open a consumer with, none being open; 0 where there is no slot."""
    in_hand = MOST - window.earlier
    return max(0, min(window.slots - window.set_aside, in_hand))


def must_close(window: Window, *, is_open_ones: bool, leaves_active: bool) -> bool:
    """Whether the consumer has to be closed before a message is acknowledged. `is_open_ones`: it came from the open consumer, so that an
    acknowledgement invites another; `leaves_active`: its run goes on after it."""
    if not (window.prefetch and is_open_ones and leaves_active):
        return False
    return window.set_aside + 1 > window.slots


def is_worth_opening_anew(window: Window, in_hand: int) -> bool:
    """Whether so many slots came free since the consumer was opened that another could have twice as many messages in hand. `in_hand`: what
    is in hand of the open one."""
    closed = Window(slots=window.slots, active=window.active, earlier=window.earlier + in_hand)
    return window.prefetch > 0 and opening(closed) >= 2 * window.prefetch
