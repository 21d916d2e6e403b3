"""Who waits in its source for places in limits: one ticket for all that a run needs, and the older ticket passes first.

A place that comes free goes to who waits longest of those that can begin by it: who lacks another place too keeps nobody back (a limit may
be closed for days). But for one whom others have passed in every limit that it needs: they all move, and it never finds them free at once.
From then on it keeps what comes free until it has all.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from bisect import insort
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from jobyard.engine import limits
from jobyard.engine.limits import NAMESPACE, Claim
from jobyard.model.workflow import Workflow

PATIENCE = 10.0
"""Seconds after which it is looked again whether who waits first may begin, though nothing told of a place: one may have run out of time."""

_Line = tuple[frozenset[str], int]
"""What all who stand in a line need alike: the scopes, and the workflow's own limit."""


@dataclass(eq=False, kw_only=True)
class Ticket:
    """One that waits to be let in. Two may wait for the same run, and one of them may give up."""

    run: str
    workflow: Workflow
    number: int = field(default_factory=itertools.count(1).__next__)
    """In the order in which they came."""
    passed: set[str] = field(default_factory=set)
    """The scopes in which a younger one was let in before it."""
    promised: tuple[str, ...] = ()
    """The scopes in which it has a place, since it was let in."""
    turn: asyncio.Future[None] | None = None

    @property
    def line(self) -> _Line:
        return frozenset(limits.scopes(self.workflow)), self.workflow.max_runs


class Lines:
    """The lines of one namespace."""

    def __init__(
        self, claims: Callable[[Ticket], Sequence[Claim]], active: Callable[[str], Collection[str]], let_in: Callable[[Ticket], None]
    ) -> None:
        """`claims`: the places that a ticket needs. `active`: the runs, by id, that count for a scope. `let_in`: counts what a ticket was promised."""
        self._claims = claims
        self._active = active
        self._let_in = let_in
        self._lines: dict[_Line, list[Ticket]] = {}
        """The oldest first: of a line nobody can begin before its first."""
        self._again: asyncio.TimerHandle | None = None
        self.looks = 0
        """How often it was looked whether somebody may come in."""

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._lines.values()))

    async def wait(self, ticket: Ticket) -> None:
        """Waits until the ticket is let in; at once where there is room and nobody has to go before."""
        ticket.turn = asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(ticket.line, [])
        insort(line, ticket, key=lambda each: each.number)
        if line[0] is ticket:
            self.settle()
        try:
            await ticket.turn
        except BaseException:
            self._leave(ticket)
            raise

    def _leave(self, ticket: Ticket) -> None:
        line = self._lines.get(ticket.line, [])
        if ticket in line:
            line.remove(ticket)
            if not line:
                del self._lines[ticket.line]
            self.settle()  # it may have kept something

    def settle(self) -> None:
        """Lets in whoever may begin now."""
        active: dict[str, set[str]] = {}
        kept = Counter[str]()
        older: list[Ticket] = []
        firsts = [(line[0].number, name) for name, line in self._lines.items()]
        heapq.heapify(firsts)
        while firsts:
            _, name = heapq.heappop(firsts)
            line = self._lines[name]
            ticket = line[0]
            claims = self._claims(ticket)
            self.looks += 1
            for claim in claims:
                if claim.scope not in active:
                    active[claim.scope] = set(self._active(claim.scope))
            full = {
                claim.scope
                for claim in claims
                if len(active[claim.scope]) - (ticket.run in active[claim.scope]) + kept[claim.scope] >= claim.limit
            }
            if not full:
                ticket.promised = tuple(claim.scope for claim in claims)
                for scope in ticket.promised:
                    active[scope].add(ticket.run)
                for each in older:
                    each.passed.update(ticket.promised)
                self._pop(ticket, name)
                if name in self._lines:
                    heapq.heappush(firsts, (line[0].number, name))
                continue
            if NAMESPACE in full:
                break  # which everybody needs
            older.append(ticket)
            if ticket.passed.issuperset(claim.scope for claim in claims):
                kept.update(claim.scope for claim in claims)
        self._look_again()

    def _pop(self, ticket: Ticket, name: _Line) -> None:
        self._lines[name].pop(0)
        if not self._lines[name]:
            del self._lines[name]
        self._let_in(ticket)
        if ticket.turn is not None and not ticket.turn.done():
            ticket.turn.set_result(None)

    def _look_again(self) -> None:
        if self._again is None and self._lines:
            self._again = asyncio.get_running_loop().call_later(PATIENCE, self._late)
        elif self._again is not None and not self._lines:
            self._again.cancel()
            self._again = None

    def _late(self) -> None:
        self._again = None
        self.settle()
