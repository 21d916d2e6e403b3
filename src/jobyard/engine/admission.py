"""How a request becomes a run: room in its limits first, then its record, in the home that is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobyard.contracts import Cluster
from jobyard.engine import home
from jobyard.engine.home import Record
from jobyard.engine.ledger import Ledger
from jobyard.engine.limiter import Limiter
from jobyard.engine.refusal import judge
from jobyard.model.errors import Forbidden, Rejected, Unavailable
from jobyard.model.objects import JOBS
from jobyard.model.run import Reason, RunRequest
from jobyard.patience import CLUSTER


class Admission:
    """The door of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, ledger: Ledger, limiter: Limiter, see: Callable[[Record], object]) -> None:
        """`see`: takes in a record that was made, before what was promised to its run is let go."""
        self._cluster = cluster
        self._namespace = namespace
        self._ledger = ledger
        self._limiter = limiter
        self._see = see

    async def admit(self, request: RunRequest) -> tuple[Record, bool]:
        """The request's record, made once there is room for its run."""
        run, flow = request.run_id, request.workflow
        failures = 0
        while True:
            if request.waits:
                await self._limiter.enter(run, flow)
            try:
                needs_place = request.waits and home.is_plain(request) and self._limiter.waits_for(flow)
                if not needs_place or await self._limiter.admit(run, flow) is None:
                    made, existed = await self._make(request)
                    self._see(made)
                    return made, existed
            finally:
                self._limiter.keep_promise(run)
            # Another process has the place, or has just had it: its ConfigMap says so before we can see whose it is.
            failures += 1
            await asyncio.sleep(CLUSTER.draw(failures))

    async def _make(self, request: RunRequest) -> tuple[Record, bool]:
        """The request's record in the home that is its own. A run that can't start at once is one that everybody can see to wait, or to have
        failed, unless its source wants to know. Raises Rejected, Unavailable."""
        tries = 0
        while request.waits or request.accepted or not self._limiter.waits_for(request.workflow):
            try:
                made = await self._ledger.create_job(request)
                return made if made is not None else await self._ledger.create_record(request)
            except Rejected as refused:
                if not home.is_plain(request):
                    raise
                tries += 1
                may = await self._cluster.may("create", JOBS, self._namespace) if isinstance(refused, Forbidden) else None
                verdict = judge(refused, tries, may, self._namespace)
                if not (request.waits or request.accepted):
                    break
                if verdict.wait is None:
                    raise
                if verdict.reason == Reason.NO_RIGHT:
                    what, remedy = f"does not let us create Jobs in namespace {self._namespace} ({verdict.message})", "give us the right"
                    wait = verdict.wait.total_seconds()
                    raise Unavailable(server="", what=what, remedy=remedy, retry_after=wait) from refused
                await asyncio.sleep(verdict.wait.total_seconds())
        return await self._ledger.create_record(request)
