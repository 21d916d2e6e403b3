"""Whether a trigger may have runs where its requests would not be made now: in the other home, or under another prefix. The namespace is
asked once for each home of its requests; only while it holds such runs, each request looks for its own."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Home = tuple[str, str]
"""Where a request's record is: the kind of object, and what stands before the id in its name."""

AGAIN = 600.0
"""Seconds after which it is asked again whether there still are such runs: retention takes them."""
TRIGGERS, HOMES = 1000, 100
"""How many triggers, and homes of each, are remembered. What is forgotten is asked again."""


@dataclass
class _Answers:
    """What was answered about one trigger."""

    homes: dict[Home, bool] = field(default_factory=dict)
    at: float = 0.0
    """When the first of them was given, by the event loop's clock."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Many that submit at once ask once."""

    @property
    def says_so(self) -> bool:
        return any(self.homes.values()) or len(self.homes) > 1


class Elsewhere:
    """One namespace's part of it. Triggers are known by their labels."""

    def __init__(self, ask: Callable[[str, Home], Awaitable[bool]]) -> None:
        """`ask`: whether the namespace holds a run of this trigger outside of this home."""
        self._ask = ask
        self._answers: OrderedDict[str, _Answers] = OrderedDict()

    async def may_be(self, trigger: str, where: Home) -> bool:
        """Whether a request of the trigger, whose home is `where`, may have its record elsewhere. Raises what the cluster answers."""
        answers = self._answers.setdefault(trigger, _Answers())
        self._answers.move_to_end(trigger)
        while len(self._answers) > TRIGGERS:
            self._answers.popitem(last=False)
        async with answers.asking:
            now = asyncio.get_running_loop().time()
            if len(answers.homes) > HOMES or (answers.says_so and now - answers.at >= AGAIN):
                answers.homes.clear()
            if where not in answers.homes:
                answers.at = answers.at if answers.homes else now
                answers.homes[where] = await self._ask(trigger, where)
            return answers.homes[where] or len(answers.homes) > 1

    def ask_anew(self) -> None:
        """What was said holds no more: another process may have made runs, or more is seen than before."""
        self._answers.clear()
