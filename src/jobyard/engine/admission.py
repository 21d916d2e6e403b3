"""How a request becomes a run: room in its limits first, then its record, in the home that is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from weakref import WeakValueDictionary

from jobyard import access
from jobyard.access import JOB_RECORDS, RECORDS, lacking
from jobyard.contracts import Cluster
from jobyard.engine import job_home
from jobyard.engine.home import Record
from jobyard.engine.ledger import Ledger, kind_of
from jobyard.engine.limiter import Limiter
from jobyard.engine.lines import Ticket
from jobyard.engine.refusal import Tries, Verdict, judge
from jobyard.engine.sight import Sight
from jobyard.model.errors import Conflict, Forbidden, LaunchTooSlow, PlaceUnavailable, Rejected, RightsUnavailable
from jobyard.model.run import Reason, RunRequest
from jobyard.patience import CLUSTER

PLACE_AGAIN = 20.0
"""Seconds after which a source may ask again for a place that the cluster does not let us take."""


@dataclass
class _Attempt:
    """What is known of a request that is being let in."""

    as_job: bool
    """Its run may be one Job: nothing has kept it from starting at once."""
    begun: float
    """By the event loop's clock."""
    busy: int = 0
    """How often in a row others were faster at the places of a limit."""
    barred: int = 0
    """How often a right, or credentials, were missing."""
    tries: Tries = field(default_factory=Tries)


class Admission:
    """The door of one namespace."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        sight: Sight,
        ledger: Ledger,
        limiter: Limiter,
        see: Callable[[Record], object],
        gives_up: timedelta | None,
    ) -> None:
        """`see`: takes in a record that was made, before what was promised to its run is let go. `gives_up`: how long a right may be missing
        before who waits is told; None: at once, for whoever submits comes back."""
        self._cluster = cluster
        self._namespace = namespace
        self._sight = sight
        self._ledger = ledger
        self._limiter = limiter
        self._see = see
        self._gives_up = gives_up
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, run: str) -> asyncio.Lock:
        """Held by who makes what belongs to the run with this id, or takes it away."""
        turn = self._turns.get(run)
        if turn is None:
            turn = self._turns[run] = asyncio.Lock()
        return turn

    async def admit(self, request: RunRequest) -> tuple[Record, bool]:
        """The request's record, made once there is room for its run. What waits for longer than a moment has no place meanwhile, and takes one
        anew. Raises Rejected, Unavailable."""
        run, flow = request.run_id, request.workflow
        wants_to_know = request.waits or request.accepted
        ticket = Ticket(run=run, workflow=flow)
        attempt = _Attempt(as_job=wants_to_know or not self._limiter.waits_for(flow), begun=asyncio.get_running_loop().time())
        while True:
            if request.waits:
                await self._limiter.enter(ticket)
            try:
                async with self.turn(run):
                    made = await self._make_with_a_place(request, attempt) if request.waits else await self._make(request, attempt)
                if made is not None:
                    self._see(made[0])
                    return made
                wait = CLUSTER.draw(attempt.busy) if attempt.busy else 0.0
            except LaunchTooSlow:
                wait = 0.0  # the place may be another's by now
            except Rejected as refused:
                wait = await self._wait(refused, request, attempt)
            finally:
                self._limiter.keep_promise(ticket)
            await asyncio.sleep(wait)

    async def try_out(self, request: RunRequest) -> None:
        """Asks whether the request's run could be made now, but for its limits; makes nothing. Raises Rejected where it would be refused for
        good, as far as one try tells, and Unavailable where that passes."""
        try:
            await self._ledger.try_out(request)
        except Rejected as refused:
            verdict = await self._judge(refused, request, Tries())
            if verdict.reason == Reason.NO_RIGHT:
                wait = verdict.wait.total_seconds() if verdict.wait is not None else None
                raise RightsUnavailable(namespace=self._namespace, what=verdict.message, retry_after=wait) from refused
            raise

    async def _make_with_a_place(self, request: RunRequest, attempt: _Attempt) -> tuple[Record, bool] | None:
        """As `_make`; None where another process has the place, or is about to: its ConfigMap says so before we can see whose it is. What the
        cluster says of the place is no word about the request. Raises Rejected, Unavailable."""
        if not (job_home.is_plain(request) and self._limiter.waits_for(request.workflow)):
            return await self._make(request, attempt)
        async with AsyncExitStack() as stack:
            try:
                full = await stack.enter_async_context(self._limiter.room(request.run_id, request.workflow))
            except Conflict:
                attempt.busy += 1
                return None
            except Rejected as refused:
                raise PlaceUnavailable(namespace=self._namespace, what=str(refused), retry_after=PLACE_AGAIN) from refused
            attempt.busy = 0
            return None if full is not None else await self._make(request, attempt)

    async def _make(self, request: RunRequest, attempt: _Attempt) -> tuple[Record, bool]:
        """The request's record in the home that is its own. A run that can't start at once is one that everybody can see to wait, or to have
        failed, unless its source wants to know. Raises Rejected, Unavailable."""
        made: tuple[Record, bool] | None = None
        if attempt.as_job:
            made = await self._ledger.create_job(request)
        elif job_home.is_plain(request) and (job := await self._ledger.find_job(request)) is not None:
            made = job, True  # somebody else asked for the same while it could start at once
        return made if made is not None else await self._ledger.create_record(request)

    async def _wait(self, refused: Rejected, request: RunRequest, attempt: _Attempt) -> float:
        """How many seconds to wait after a refusal before the next try. Raises what is for good, and Unavailable for what passes by itself
        where whoever submits comes back."""
        if refused.reason == Reason.NO_RIGHT:  # our own word: it can't be had in this namespace
            raise refused
        wants_to_know = request.waits or request.accepted
        verdict = await self._judge(refused, request, attempt.tries)
        if attempt.as_job and not wants_to_know and job_home.is_plain(request) and not self._sight.without_config_maps:
            await self._ledger.withdraw(request)  # or it would run beside the other
            attempt.as_job = False
            return 0.0
        is_barred = verdict.reason == Reason.NO_RIGHT
        if verdict.wait is None or not (wants_to_know or is_barred):
            await self._ledger.withdraw(request)
            raise refused
        if is_barred and self._gives_up is None:
            wait = verdict.wait.total_seconds()
            raise RightsUnavailable(namespace=self._namespace, what=verdict.message, retry_after=wait) from refused
        if is_barred and self._gives_up is not None:
            if asyncio.get_running_loop().time() - attempt.begun >= self._gives_up.total_seconds():
                raise refused
            attempt.barred += 1
            return CLUSTER.draw(attempt.barred)
        return verdict.wait.total_seconds()

    async def _judge(self, refused: Rejected, request: RunRequest, tries: Tries) -> Verdict:
        """What the refusal of a record, or of what stands beside it, means. Names the rights that are missing."""
        if not isinstance(refused, Forbidden):
            return judge(refused, tries.one_more(refused, None), None, self._namespace)
        wanted = [JOB_RECORDS, *(() if self._sight.without_config_maps else (RECORDS,))]
        for each in request.objects:
            wanted.append(access.to(await kind_of(self._cluster, each), "create", why="what the run brings with it"))
        missing = await lacking(self._cluster, self._namespace, wanted)
        may = None if missing is None else not missing
        verdict = judge(refused, tries.one_more(refused, may), may, self._namespace)
        return replace(verdict, message=f"Jobyard may not {', '.join(missing)}") if missing else verdict
