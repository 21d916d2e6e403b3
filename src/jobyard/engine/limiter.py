"""Who may begin: counts what is active, or takes places that processes share; and says when there may be room again."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from weakref import WeakValueDictionary

from jobyard.contracts import Clock, Cluster
from jobyard.engine import home, limits
from jobyard.engine.limits import Claim, Full, Place
from jobyard.engine.lines import PATIENCE, Lines, Ticket
from jobyard.engine.places import Places
from jobyard.engine.promises import Promises
from jobyard.engine.refusal import LOOK_FOR_ROOM
from jobyard.engine.rounds import pause
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.errors import LaunchTooSlow
from jobyard.model.objects import ConfigMap
from jobyard.model.workflow import Step, Workflow

ANY = 1_000_000
"""Places of a scope that nobody has limited."""


@dataclass
class _Waiting:
    """A run that waits for a place where everybody can see it."""

    scopes: set[str] = field(default_factory=set)
    """Where it stands in line, and counts."""
    lacked: set[str] = field(default_factory=set)
    """Where it stood in line since it began to wait."""
    came_back: bool = False
    """It lacked a place again that it had been offered: others went by it meanwhile."""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """Who was found to hold places of a scope though nothing of them is seen here: other processes took them."""

    holders: frozenset[str]
    name: str
    places: ConfigMap | None
    """What said so, under its name."""
    until: float
    """How long it is believed, by the event loop's clock. Then one asks again for all."""


class Limiter:
    """The limits of one namespace."""

    def __init__(
        self, cluster: Cluster, clock: Clock, namespace: str, sight: Sight, *, leads: Callable[[], bool] = lambda: False, service: str = ""
    ) -> None:
        """`leads`: whether whoever this is for starts the runs of this namespace. It goes by what is seen here, and writes no places, where nobody
        else takes any. `service`: whose runs are its own."""
        self._clock = clock
        self._sight = sight
        self._leads = leads
        self._service = service
        self.places = Places(cluster, clock, namespace, sight, sees_all=leads)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By scope: who takes places there, and may give them back, is alone at it."""
        self._promised = Promises()
        """The runs, by id, that were let in and are not seen to count yet."""
        self._launching = Promises()
        """The same of Jobs, by name, for what they count beside their runs."""
        self._workflows: dict[str, int] = {}
        """The limits that workflows set themselves (`maxRuns`), by scope, where runs wait that everybody can see."""
        self.lines = Lines(self._claims, self._active, self._let_in)
        self._visible: defaultdict[str, dict[str, Callable[[], None]]] = defaultdict(dict)
        """From scope to the runs, by id, that wait for a place where everybody can see them, and how each is told of one."""
        self._waiting: dict[str, _Waiting] = {}
        """The same runs by id."""
        self._answers: dict[str, _Answer] = {}
        """By scope."""
        self._read: tuple[ConfigMap | None, Mapping[str, int]] = (None, {})
        """The namespace's limits as they were read last, and from what."""
        self._offered_by: ConfigMap | None = None
        """The same when it was last looked who may begin by them."""

    @property
    def looks(self) -> int:
        """How often it was looked whether a run may come in."""
        return self.lines.looks

    def waits_for(self, workflow: Workflow) -> bool:
        """Whether a run of this workflow has to have a place before it begins."""
        return bool(limits.of_run(workflow, "", self._numbers()))

    def _numbers(self) -> Mapping[str, int]:
        if self._read[0] is not self._sight.limits:
            self._read = (self._sight.limits, limits.numbers(self._sight.limits))
        return self._read[1]

    def _free(self, scope: str) -> int:
        return self._numbers().get(scope, self._workflows.get(scope, ANY)) - len(self._active(scope))

    def _active(self, scope: str) -> set[str]:
        """The runs, by id, that count for a scope: also those that wait for a place of it where everybody can see them, and those of other
        processes that somebody here has asked about."""
        return {*self._counting(scope), *self._elsewhere(scope)}

    def _elsewhere(self, scope: str) -> Iterator[str]:
        answer = self._answers.get(scope)
        if answer is None:
            return
        if answer.until <= asyncio.get_running_loop().time() or self._sight.places.get(answer.name) is not answer.places:
            del self._answers[scope]
            return
        for holder in answer.holders:
            known = self._sight.runs.get(holder)
            if holder not in self._sight.over and (known is None or home.end(known.record) is None):
                yield holder

    def _remember(self, claim: Claim, holders: Collection[str]) -> None:
        """Who waits in its source need not ask for what was answered to another."""
        unseen, now = frozenset(holders).difference(self._counting(claim.scope)), asyncio.get_running_loop().time()
        self._answers = {scope: answer for scope, answer in self._answers.items() if answer.until > now}
        if unseen:
            places = self._sight.places.get(claim.object_name)
            self._answers[claim.scope] = _Answer(holders=unseen, name=claim.object_name, places=places, until=now + PATIENCE)

    def _counting(self, scope: str) -> Iterator[str]:
        """The same one by one, in the order in which they were seen; some may come twice."""
        yield from self._promised.of(scope)
        for uid in self._sight.active(scope):
            run = self._sight.of(uid)
            if run is not None and self._counts(run, scope):
                yield run.id

    def _counts(self, run: RunSight, scope: str) -> bool:
        """Whether a run counts for a scope that it needs a place of. One that stands in line counts where it does so, and nowhere else: what it
        lacks may not come for days, and others could begin meanwhile. One that was not looked at yet may be about to begin."""
        waiting = self._waiting.get(run.id)
        if run.has_begun:
            return True
        return scope in waiting.scopes if waiting is not None else not self._is_put_off(run)

    def _is_put_off(self, run: RunSight) -> bool:
        """Whether a run waits for its source, to begin or to be completed, longer than that takes where nothing went wrong; or for whatever who
        drives it elsewhere has noted. It may do so for ever, and counts again once it begins. Until then it counts, or a source would let go of
        more than there is room for."""
        annotations = run.record.metadata.annotations
        if names.WAITS in annotations:
            return True
        is_waiting = names.HELD in annotations or names.INCOMPLETE in annotations
        return is_waiting and self._clock.now() - run.created >= limits.UNUSED

    # --- a run that waits in its source ---

    async def enter(self, ticket: Ticket) -> None:
        """Waits until a run may begin, and promises it a place in each of its limits (until `keep_promise`). Who has to wait again keeps its
        ticket, and comes first."""
        if not self._claims(ticket):
            return
        try:
            await self.lines.wait(ticket)
        except BaseException:
            self.keep_promise(ticket)
            raise

    async def free(self, workflow: Workflow) -> int:
        """Waits in line until a run of this workflow may begin; says how many may, as far as is known here, and promises none."""
        ticket = Ticket(run="", workflow=workflow)
        ticket.run = f"asks {ticket.number}"
        try:
            await self.enter(ticket)
            return min((claim.limit - len(self._active(claim.scope) - {ticket.run}) for claim in self._claims(ticket)), default=ANY)
        finally:
            self.keep_promise(ticket)

    def _claims(self, ticket: Ticket) -> list[Claim]:
        return limits.of_run(ticket.workflow, ticket.run, self._numbers())

    def _let_in(self, ticket: Ticket) -> None:
        self._promised.make(ticket.promised, ticket.run)

    def keep_promise(self, ticket: Ticket) -> None:
        """The run's record was seen, or there will be none: it is counted by what is seen from now on."""
        scopes, ticket.promised = ticket.promised, ()
        self._promised.keep(scopes, ticket.run)
        # Where it is seen to count, nothing came free: who waits need not be looked at.
        self._offer([scope for scope in scopes if ticket.run not in self._active(scope)])

    def settle(self) -> None:
        """Offers what has come free to those that wait for it."""
        freed, self._sight.freed = self._sight.freed, set()
        if self._offered_by is not self._sight.limits:
            self._offered_by = self._sight.limits
            freed |= self._visible.keys() | {limits.NAMESPACE}
        self._offer(freed)

    def _offer(self, scopes: Iterable[str]) -> None:
        scopes = set(scopes)
        for scope in scopes:
            waiting = self._visible.get(scope)
            if waiting:
                room = self._free(scope) + sum(run in waiting for run in self._active(scope))
                for run in heapq.nsmallest(max(room, 0), waiting, key=self._age):
                    waiting[run]()
            else:
                self._workflows.pop(scope, None)
        if scopes:
            self.lines.settle()

    def line_up(self, seen: RunSight, scopes: Collection[str], call: Callable[[], None]) -> None:
        """A run that everybody can see waits for a place in these scopes, in no others, and is told by `call` when there may be one. The
        oldest come first, and before those that wait in their sources. Who needs several and comes back to one that it had been offered stands
        in line for all of them from then on: else others would go by it for ever."""
        known = self._waiting.get(seen.id, _Waiting())
        if scopes and not seen.has_begun:
            known.came_back = known.came_back or bool((known.lacked - known.scopes).intersection(scopes))
            known.lacked.update(scopes)
            if known.came_back:
                scopes = known.lacked.intersection(home.scopes(seen.record)).union(scopes)
        left = known.scopes.difference(scopes)
        known.scopes = set(scopes)
        if scopes:
            self._waiting[seen.id] = known
        else:
            self._waiting.pop(seen.id, None)
        for scope in left:
            del self._visible[scope][seen.id]
            if not self._visible[scope]:
                del self._visible[scope]
        for scope in scopes:
            self._visible[scope][seen.id] = call
        self._offer(left)

    def pause(self, scope: str) -> timedelta:
        """After how long a run that waits for a place where everybody can see it looks again though nobody told it of one."""
        return pause(LOOK_FOR_ROOM, len(self._visible.get(scope, ())))

    def _full(self, claim: Claim, holders: Collection[str]) -> Full:
        """In words for people, who know runs by their names."""
        if claim.scope.startswith(limits.WORKFLOW):
            self._workflows[claim.scope] = claim.limit
        shown = [self._sight.runs[each].record.metadata.name if each in self._sight.runs else each for each in holders]
        return Full(scope=claim.scope, limit=claim.limit, holders=tuple(shown))

    # --- places that processes share ---

    def _counts_alone(self, claims: Iterable[Claim]) -> bool:
        """Whether what is seen here is enough to go by, for want of anybody else who starts runs: another service has none open, and nobody has
        taken a place lately."""
        if self._sight.without_config_maps:
            return True
        if not self._leads() or self._sight.has_runs_of_others(self._service):
            return False
        return not any(self.places.are_shared(claim) for claim in claims)

    @asynccontextmanager
    async def room(self, run: str, workflow: Workflow, step: Step | None = None, job: str = "") -> AsyncIterator[Full | None]:
        """As `admit`; while the context lasts, what was let in counts though its Job is not seen yet. A place that other processes see is good
        for a while only: what is done meanwhile is cut then. Raises what `admit` raises, and LaunchTooSlow."""
        full = await (self.admit(run, workflow, step, job) if step else self.admit(run, workflow))
        if full is not None:
            yield full
            return
        needs = self._needs(run, workflow, step, job)
        of_run, of_job = ([claim.scope for claim in claims] for claims in needs)
        self._promised.make(of_run, run)
        self._launching.make(of_job, job)
        is_shared = bool(of_run or of_job) and not self._counts_alone(itertools.chain(*needs))
        try:
            async with asyncio.timeout(limits.LAUNCH.total_seconds() if is_shared else None) as bound:
                yield None
        except TimeoutError:
            if not bound.expired():
                raise
            raise LaunchTooSlow(run=run, seconds=limits.LAUNCH.total_seconds()) from None
        finally:
            self._promised.keep(of_run, run)
            self._launching.keep(of_job, job)
            self._offer([*of_run, *of_job])

    def _needs(self, run: str, workflow: Workflow, step: Step | None, job: str) -> tuple[list[Claim], list[Claim]]:
        """The places that a run needs, and those that this Job of it needs besides."""
        set_ = self._numbers()
        return limits.of_run(workflow, run, set_), limits.of_job(step, job, set_) if step else []

    async def look(self, run: str, workflow: Workflow, step: Step | None = None, job: str = "") -> Full | None:
        """What keeps a run, or this Job of it, from starting, as a leader would see it; None where nothing does. Takes no places."""
        return await self._count(run, list(itertools.chain(*self._needs(run, workflow, step, job))))

    async def admit(self, run: str, workflow: Workflow, step: Step | None = None, job: str = "") -> Full | None:
        """Takes every place that a run, and this Job of it, still need; None when it may start. Raises Unavailable, Conflict."""
        claims = list(itertools.chain(*self._needs(run, workflow, step, job)))
        if self._counts_alone(claims):
            return await self._count(run, claims)
        async with self._alone_at(claims):  # a place that is here now may be given back as long as another is at it
            added: list[tuple[Claim, Place]] = []
            for claim in [claim for claim in claims if not self.places.has(claim)]:
                got = await self.places.take(claim, run, self._unplaced(claim, run))
                if isinstance(got, Full):
                    await self.places.give_back(added)
                    if claim.holder == run:
                        self._remember(claim, got.holders)
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
        claims = [claim for claim in claims if not (claim.holder == run and self._goes_on(run))]
        elsewhere = [await self._held_elsewhere(claim, run) for claim in claims]
        # Nothing is awaited from here on until it is promised: what is counted here stays so.
        for claim, held in zip(claims, elsewhere, strict=True):
            others = self._others(claim, run) | held
            if len(others) >= claim.limit:
                if claim.holder == run:
                    self._remember(claim, others)
                return self._full(claim, others)
        return None

    def _others(self, claim: Claim, run: str) -> set[str]:
        """Who is seen to come before who claims a place: runs for a run, Jobs for a Job."""
        if claim.holder == run:
            return self._before(claim)
        return self._sight.jobs_of(claim.scope).union(self._launching.of(claim.scope)) - {claim.holder}

    async def _held_elsewhere(self, claim: Claim, run: str) -> set[str]:
        """Who holds a place of the scope and is not seen to count: another process took it, and is about to start."""
        held = limits.holders(self._sight.places.get(claim.object_name))
        seen = {claim.holder, *self._others(claim, run)} if held else set[str]()
        return {holder for holder, place in held.items() if holder not in seen and not await self.places.is_over(holder, place)}

    def _before(self, claim: Claim) -> set[str]:
        """The runs that come before the one that claims a place: those that have begun, then the older ones; as many as there are places, for
        of thousands that wait each looks."""
        begun, older, age = set[str](), list[str](), self._age(claim.holder)
        for each in self._counting(claim.scope):
            if len(begun) >= claim.limit:
                break
            if each != claim.holder and self._has_begun(each, claim.scope):
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

    def _has_begun(self, run: str, scope: str) -> bool:
        """Whether a run that counts for a scope has begun already, or was let in and is about to."""
        known = self._sight.runs.get(run)
        return known is None or known.has_begun or run in self._promised.of(scope)

    def _age(self, run: str) -> tuple[str, str]:
        known = self._sight.runs.get(run)
        return (str(known.created) if known else "", run)
