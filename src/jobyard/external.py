"""The one place that every call to the outside passes: Kubernetes today; Git, Postgres, AMQP and the history as they come.

Whoever wants to know of the calls observes them here. The crash harness does, and kills this process right before and right after the
n-th. A call is what could be done, or half-done, when we die: a request that is sent, a stream that is opened, a file that is moved.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Observer(Protocol):
    """Is told of every call, in the thread that makes it."""

    def before(self, call: str) -> None:
        """The call is about to be made."""
        ...

    def after(self, call: str, seconds: float) -> None:
        """The call has been answered, or has failed; nothing was yet done with the answer."""
        ...


_observers: list[Observer] = []


@contextmanager
def call(what: str) -> Iterator[None]:
    """Surrounds one call to the outside. `what` names the system and the action, and never holds a secret."""
    for observer in _observers:
        observer.before(what)
    begun = time.monotonic()
    try:
        yield
    finally:
        for observer in _observers:
            observer.after(what, time.monotonic() - begun)


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Has `observer` told of every call, as long as the context lasts."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)
