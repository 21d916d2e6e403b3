"""How much one reading may take: a file, and all that it names. What comes in is bounded here, so that nothing behind needs to ask again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar

from jobyard.model.finding import Finding, Position

SIZE = 10 * 1024 * 1024
"""Bytes of a file."""
DEPTH = 100
"""How deep lists and mappings may stand in each other. What recurses over a value behind this needs no bound of its own."""
NODES = 1_000_000
"""Values, each alias counted as all that it stands for."""
EXPANDED = 64 * 1024 * 1024
"""Bytes of text in them, each alias counted as all that it stands for."""
SECONDS = 10
"""Of processor time: on a busy machine a good file takes longer, and is good all the same."""
MISTAKES = 1_000
"""As many as anybody may want to read. Each costs time: a guess at what was meant."""
_OFTEN = 512
"""How many steps are made between two looks at the clock."""


class TooMuch(Exception):
    """The reading goes beyond its borders: it ends here, and `finding` says where and why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


seconds_left: ContextVar[float | None] = ContextVar("seconds_left", default=None)
"""What the next reading may take, where some of its time was taken for the same file before."""


class Budget:
    """What one reading has left. Begins with it, in the same thread."""

    def __init__(self) -> None:
        self._nodes = self._bytes = self._mistakes = self._steps = 0
        left = seconds_left.get()
        self._until = time.thread_time() + (SECONDS if left is None else left)

    def expand(self, nodes: int, size: int, where: Callable[[], Position]) -> None:
        """Takes in that many values, with that many bytes of text. Raises TooMuch."""
        self._nodes += nodes
        self._bytes += size
        if self._nodes > NODES:
            raise TooMuch(
                Finding(position=where(), what="too many values", expected=f"at most {NODES:,}, aliases counted", remedy="split it")
            )
        if self._bytes > EXPANDED:
            raise TooMuch(
                Finding(position=where(), what="too much text", expected=f"at most {EXPANDED:,} bytes, aliases counted", remedy="split it")
            )
        self.step(where)

    def step(self, where: Callable[[], Position]) -> None:
        """Something small was done. Raises TooMuch when all of it together takes too long."""
        self._steps += 1
        if self._steps % _OFTEN == 0:
            self.stride(where)

    def stride(self, where: Callable[[], Position]) -> None:
        """Something larger was done, or is about to be. Raises TooMuch when all of it together takes too long."""
        if time.thread_time() > self._until:
            raise TooMuch(Finding(position=where(), what="it takes too long to read", expected=f"at most {SECONDS} s", remedy="split it"))

    def mistake(self, position: Position) -> None:
        """A mistake was found. Raises TooMuch when there are more than anybody reads."""
        self._mistakes += 1
        if self._mistakes > MISTAKES:
            raise TooMuch(Finding(position=position, what=f"more than {MISTAKES:,} mistakes", remedy="fix those before it first"))
        self.stride(lambda: position)  # a guess at what was meant takes its time
