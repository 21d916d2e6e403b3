"""Who may begin: counts what is active, or takes places that processes share; and says when there may be room again."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from weakref import WeakValueDictionary

from jobyard.contracts import Clock, Cluster
from jobyard.engine import limits
from jobyard.engine.limits import Claim, Full, Place
from jobyard.engine.lines import Lines
from jobyard.engine.places import Places
from jobyard.engine.refusal import LOOK_FOR_ROOM
from jobyard.engine.rounds import pause
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.workflow import Step, Workflow

ANY = 1_000_000
"""Places of a scope that nobody has limited."""


class Limiter:
    """The limits of one namespace."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, sight: Sight, *, alone: bool = False) -> None:
        """`alone`: who starts the runs of this namespace. It goes by what is seen here, and writes no places; those that others took count."""
        self._clock = clock
        self._sight = sight
        self._alone = alone
        self.places = Places(cluster, clock, namespace, sight, alone=alone)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By scope: who takes places there, and may give them back, is alone at it."""
        self._promised: defaultdict[str, set[str]] = defaultdict(set)
        """From scope to the runs, by id, that were let in and whose records were not seen yet."""
        self._workflows: dict[str, int] = {}
        """The limits that workflows set themselves (`maxRuns`), by scope."""
        self.lines = Lines(self._free)
        self._tickets = itertools.count(1)
        self._visible: defaultdict[str, dict[str, Callable[[], None]]] = defaultdict(dict)
        """From scope to the runs, by id, that wait for a place where everybody can see them, and how each is told of one."""
        self.looks = 0
        """How often it was looked whether a run may come in."""

    def waits_for(self, workflow: Workflow) -> bool:
        """Whether a run of this workflow has to have a place before it begins."""
        return bool(limits.of_run(workflow, "", self._numbers()))

    def _numbers(self) -> dict[str, int]:
        return limits.numbers(self._sight.limits)

    def _free(self, scope: str) -> int:
        return self._numbers().get(scope, self._workflows.get(scope, ANY)) - len(self._active(scope))

    def _active(self, scope: str) -> set[str]:
        """The runs, by id, that count for a scope: also those that wait for a place where everybody can see them."""
        return set(self._counting(scope))

    def _counting(self, scope: str) -> Iterator[str]:
        """The same one by one, in the order in which they were seen; some may come twice."""
        yield from self._promised.get(scope, ())
        for uid in self._sight.active(scope):
            run = self._sight.of(uid)
            if run is not None and not self._is_put_off(run):
                yield run.id

    def _is_put_off(self, run: RunSight) -> bool:
        """Whether a run waits for its source, to begin or to be completed, longer than that takes where nothing went wrong. It may do so
        for ever, and counts again once it begins. Until then it counts, or a source would let go of more than there is room for."""
        annotations = run.record.metadata.annotations
        is_waiting = names.HELD in annotations or names.INCOMPLETE in annotations
        return is_waiting and self._clock.now() - run.created >= limits.UNUSED and not run.has_begun

    # --- a run that waits in its source ---

    async def enter(self, run: str, workflow: Workflow) -> None:
        """Waits until a run may begin, and promises it a place in each of its limits (until `keep_promise`)."""
        waited, who = "", f"{run} {next(self._tickets)}"  # two may wait for the same run, and one of them may give up
        while True:
            claims = limits.of_run(workflow, run, self._numbers())
            full = self._look(claims, waited)
            if waited:
                self.lines.looked(waited, who, served=full is None or full.scope != waited)
            if full is None:
                for claim in claims:
                    self._promised[claim.scope].add(run)
                return
            waited = full.scope
            await self.lines.wait(waited, who)

    def keep_promise(self, run: str) -> None:
        """The run's record was seen, or there will be none: it is counted by what is seen from now on."""
        for scope in [scope for scope, runs in self._promised.items() if run in runs]:
            self._promised[scope].discard(run)
            if not self._promised[scope]:
                del self._promised[scope]
            self._offer(scope)

    def settle(self) -> None:
        """Offers what has come free to those that wait for it."""
        freed, self._sight.freed = self._sight.freed, set()
        for scope in freed:
            self._offer(scope)

    def _offer(self, scope: str) -> None:
        waiting = self._visible.get(scope)
        if waiting:
            room = self._free(scope) + sum(run in waiting for run in self._active(scope))
            for run in heapq.nsmallest(max(room, 0), waiting, key=self._age):
                waiting[run]()
        self.lines.settle(scope)
        if scope in self._workflows and not (waiting or self.lines.has(scope) or self._active(scope)):
            self._workflows.pop(scope, None)

    def line_up(self, seen: RunSight, scopes: Collection[str], call: Callable[[], None]) -> None:
        """A run that everybody can see waits for a place in these scopes, in no others, and is told by `call` when there may be one. The
        oldest come first, and before those that wait in their sources."""
        for scope in [scope for scope, waiting in self._visible.items() if seen.id in waiting and scope not in scopes]:
            del self._visible[scope][seen.id]
            if not self._visible[scope]:
                del self._visible[scope]
            self._offer(scope)
        for scope in scopes:
            self._visible[scope][seen.id] = call

    def pause(self, scope: str) -> timedelta:
        """After how long a run that waits for a place where everybody can see it looks again though nobody told it of one."""
        return pause(LOOK_FOR_ROOM, len(self._visible.get(scope, ())))

    def _look(self, claims: Sequence[Claim], waited: str) -> Full | None:
        """Whether a new run would have to wait, as far as is known here. Who comes later does not go before those that wait."""
        self.looks += 1
        for claim in claims:
            if claim.scope.startswith(limits.WORKFLOW):
                self._workflows[claim.scope] = claim.limit
            others = self._active(claim.scope) - {claim.holder}
            if len(others) >= claim.limit or (claim.scope != waited and self.lines.has(claim.scope)):
                return self._full(claim, others)
        return None

    def _full(self, claim: Claim, holders: Collection[str]) -> Full:
        """In words for people, who know runs by their names."""
        shown = [self._sight.runs[each].record.metadata.name if each in self._sight.runs else each for each in holders]
        return Full(scope=claim.scope, limit=claim.limit, holders=tuple(shown))

    # --- places that processes share ---

    async def admit(self, run: str, workflow: Workflow, step: Step | None = None, job: str = "") -> Full | None:
        """Takes every place that a run, and this Job of it, still need; None when it may start. Raises Unavailable, Conflict."""
        set_ = self._numbers()
        claims = [*limits.of_run(workflow, run, set_), *(limits.of_job(step, job, set_) if step else ())]
        if self._alone or self._sight.without_config_maps:
            return await self._count(run, claims)
        async with self._alone_at(claims):  # a place that is here now may be given back as long as another is at it
            added: list[tuple[Claim, Place]] = []
            for claim in [claim for claim in claims if not self.places.has(claim)]:
                got = await self.places.take(claim, run, self._unplaced(claim, run))
                if isinstance(got, Full):
                    await self.places.give_back(added)
                    return self._full(claim, got.holders)
                if got is not None:
                    added.append((claim, got))
        return None

    @asynccontextmanager
    async def _alone_at(self, claims: Sequence[Claim]) -> AsyncIterator[None]:
        async with AsyncExitStack() as turns:
            for scope in sorted({claim.scope for claim in claims}):  # in one order, so that no two wait for each other
                turn = self._turns.get(scope)
                if turn is None:
                    turn = self._turns[scope] = asyncio.Lock()
                await turns.enter_async_context(turn)
            yield

    async def _count(self, run: str, claims: Sequence[Claim]) -> Full | None:
        """The same by what is seen, and without a place of one's own. Of those that wait, the oldest go first."""
        for claim in claims:
            if claim.holder == run and self._goes_on(run):
                continue
            others = self._before(claim) if claim.holder == run else self._sight.jobs_of(claim.scope) - {claim.holder}
            held = limits.holders(self._sight.places.get(claim.object_name))
            for holder, place in held.items():
                if holder not in {claim.holder, *others} and not await self.places.is_over(holder, place):
                    others.add(holder)  # another process took it, and is about to start
            if len(others) >= claim.limit:
                return self._full(claim, others)
        return None

    def _before(self, claim: Claim) -> set[str]:
        """The runs that come before the one that claims a place: those that have begun, then the older ones; as many as there are places, for
        of thousands that wait each looks."""
        begun, older, age = set[str](), list[str](), self._age(claim.holder)
        for each in self._counting(claim.scope):
            if len(begun) >= claim.limit:
                break
            if each != claim.holder and self._has_begun(each):
                begun.add(each)
            elif each != claim.holder and len(older) < claim.limit and self._age(each) < age:
                older.append(each)
        return begun | set(older[: claim.limit - len(begun)])

    def _unplaced(self, claim: Claim, run: str) -> list[str]:
        """Who is seen to count for a claim's scope and may have no place: a leader takes none. Not for a run that goes on: it would wait for
        others that wait for it, where a limit was set while they ran."""
        if claim.holder != run:
            return sorted(self._sight.jobs_of(claim.scope) - {claim.holder})
        if self._goes_on(run):
            return []
        seen = (self._sight.of(uid) for uid in self._sight.active(claim.scope))
        return [each.id for each in seen if each is not None and each.has_begun and each.id != run]

    def _goes_on(self, run: str) -> bool:
        """Whether a run is seen to have begun."""
        known = self._sight.runs.get(run)
        return known is not None and known.has_begun

    def _has_begun(self, run: str) -> bool:
        """Whether a run that counts has begun already, or was let in and is about to."""
        known = self._sight.runs.get(run)
        return known is None or known.has_begun

    def _age(self, run: str) -> tuple[str, str]:
        known = self._sight.runs.get(run)
        return (str(known.created) if known else "", run)
