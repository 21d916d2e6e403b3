"""The driver of one run: looks, decides, acts, in a loop, from when somebody drives the run until it leaves (released, deleted, forgotten).

What goes wrong with one run is told to whoever awaits it, and ends no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from jobyard.contracts import Clock, Cluster
from jobyard.engine import home
from jobyard.engine.act import Actor, seconds_until
from jobyard.engine.decide import decide
from jobyard.engine.decision import Decision, Refusal
from jobyard.engine.ledger import Ledger
from jobyard.engine.limiter import Limiter
from jobyard.engine.refusal import NOTHING_TELLS
from jobyard.engine.rounds import Rounds
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import JOB_NAME_LABEL, Sight
from jobyard.engine.signals import Signal
from jobyard.model.errors import (
    Conflict,
    CredentialsUnavailable,
    EngineFailed,
    Forbidden,
    JobyardError,
    NoAnswer,
    NotFound,
    Rejected,
    RunDamaged,
    Unauthorized,
    Unavailable,
)
from jobyard.model.job import owned_by
from jobyard.model.objects import JOBS, PODS
from jobyard.model.run import Outcome, Reason, Run, RunView, State
from jobyard.model.workflow import Workflow
from jobyard.patience import CLUSTER, trying_for

log = logging.getLogger("jobyard.engine")

NOTED_AFTER = 5.0
"""Seconds that a Job which is due must have waited to be made before the run's record says so: a write."""
PODS_LATE = timedelta(seconds=2)
"""How long the stream of pods must have been silent before a pod that it has not told of is asked for: two streams tell of a Job's end."""
PODS_AT_LAST = timedelta(seconds=30)
"""How long after the Job's end it is asked for in any case."""
REST = 3
"""How many times as long as a look took the changes that come meanwhile may gather before the next. A look takes time for each step of the
run, and a large run changes all the time: looking at each change would take a whole processor. A small run is looked at at once."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the drivers of a namespace share."""

    cluster: Cluster
    clock: Clock
    namespace: str
    sight: Sight
    ledger: Ledger
    limiter: Limiter
    rounds: Rounds = field(default_factory=Rounds)
    gives_up: timedelta | None
    """How long credentials or rights may be missing before whoever awaits the run is told; None for ever."""
    pods_heard: Callable[[], datetime]
    """When a pod was last told of."""
    unreachable: Callable[[], str]
    """Why the cluster can't be asked just now; '' while it can."""
    looked: Callable[[float], None]
    """Is called with the seconds that a look took."""
    told: Callable[[Run], None]
    """Is called whenever the run's view may have changed."""
    ended: Callable[[Driver], None]
    """Is called once, when the run has ended."""


class Driver:
    """One run's worker."""

    def __init__(self, tools: Tools, seen: RunSight) -> None:
        self.seen = seen
        self.run = seen.run(tools.namespace)
        self.dirty = Signal()
        self.watchers: set[Signal] = set()
        self.unreachable = ""
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.launched: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the Jobs that start first were accepted; or has the Rejected."""
        self._tools = tools
        self._actor: Actor | None = None
        self._decision: Decision | None = None
        self._rested = 0.0
        """When it may be looked at again, by the event loop's clock."""
        self._unexplained: dict[str, datetime] = {}
        """Jobs that ended before a pod of theirs was seen to, and since when."""
        self._asked: set[str] = set()
        """Those whose pods were asked for."""
        self._has_looked = False
        self._lost: set[str] = set()
        """Steps whose Jobs were asked for by name and are not there."""
        self._barred: float | None = None
        """Since when credentials or rights are missing, by the event loop's clock."""
        self._waits: tuple[str, float] | None = None
        """Why Jobs that are due are not made, in a word, and since when, by the event loop's clock."""

    def view(self) -> RunView | None:
        """The run as it stood at the last look; None before the first."""
        if self._decision is None:
            return None
        return self.seen.show(self._tools.namespace, self._decision, self.unreachable)

    async def work(self) -> None:
        """Drives the run until it leaves. Raises nothing but a cancellation."""
        try:
            await self._until_it_leaves()
        except JobyardError as error:
            self._fail(error)
        except Exception as error:
            log.warning("run %s can't go on", self.run.name, exc_info=error)
            self._fail(EngineFailed(run=self.run.name, why=f"{type(error).__name__}: {error}"))
        finally:
            self._tools.limiter.line_up(self.seen, (), self.offer_room)
            self._tools.rounds.leave(self.seen.uid)
            self._fail(NoAnswer(what=f"run {self.run.name} is no longer driven here", remedy="ask again"))
            self.tell()

    def _fail(self, error: JobyardError) -> None:
        for future in (self.outcome, self.launched):
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody need be waiting

    def tell(self) -> None:
        """Wakes whoever watches."""
        self._tools.told(self.run)
        for watcher in self.watchers:
            watcher.set()

    def note_reach(self) -> None:
        """The cluster was lost from sight, or is back."""
        self.unreachable = self._tools.unreachable()
        self.tell()

    def offer_room(self) -> None:
        """There may be room in a limit that the run waits for."""
        if self._actor is not None and self._actor.look_for_room():
            self.dirty.set()

    def ask_again(self) -> None:
        """What was refused may be allowed now: another got through."""
        if self._actor is not None and self._actor.ask_again():
            self.dirty.set()

    # --- the loop ---

    async def _until_it_leaves(self) -> None:
        failures, loop, tools = 0, asyncio.get_running_loop(), self._tools
        while True:
            wait: float | None
            try:
                while self.seen.is_leaving:
                    await self.dirty.wait()
                if self.seen.is_gone and await self._has_left():
                    return
                decision = await self._look()
                acted = await self._act(decision)
                failures, self.unreachable = 0, tools.unreachable()
                wait = 0.0 if acted else seconds_until(decision.wake_at, tools.clock.now())
                self._note_barred()
                if decision.state.is_end:
                    self._conclude(decision)
                    wait = wait if decision.actions else None
            except (Unauthorized, Forbidden, CredentialsUnavailable) as error:
                failures += 1
                self.unreachable = str(error)
                self._bar(error)
                wait = CLUSTER.draw(failures)
            except Unavailable as error:
                failures += 1
                self.unreachable = str(error)
                wait = CLUSTER.draw(failures, error)
            except (Conflict, NotFound):  # the cluster moved on meanwhile: look again
                failures += 1
                wait = CLUSTER.draw(failures)
            except Rejected as error:  # an admission hook that does not like a stop, say: it may be mended
                failures += 1
                self.unreachable = str(error)
                self._bar(error)
                wait = CLUSTER.draw(failures)
            self.tell()
            if wait != 0:
                await asyncio.sleep(self._rested - loop.time())
            await self.dirty.wait(wait)

    async def _workflow(self) -> Workflow:
        """The run's workflow. Raises RunDamaged."""
        workflow = self.seen.workflow if await self._tools.ledger.load(self.seen) else None
        if workflow is None:
            raise RunDamaged(run=self.run.name, namespace=self._tools.namespace)
        return workflow

    async def _look(self) -> Decision:
        tools, seen = self._tools, self.seen
        now, loop = tools.clock.now(), asyncio.get_running_loop()
        workflow = await self._workflow()
        if self._actor is None:
            self._actor = Actor(
                tools.cluster, tools.clock, tools.namespace, tools.sight, tools.ledger, tools.limiter, tools.rounds, seen, workflow
            )
        for job in list(seen.missing.values()):
            await self._ask_for(job.metadata.name)
        waiting = await self._explain(now)
        begun = loop.time()
        decision = self._decide(workflow, waiting, now)
        if unsure := [step.job for step in decision.steps if step.state is State.LOST and step.job and step.job not in self._lost]:
            for name in unsure:
                await self._ask_for(name)
                self._lost.add(name)
            decision = self._decide(workflow, waiting, now)
        took = loop.time() - begun
        tools.looked(took)
        self._rested = loop.time() + REST * took
        if waiting:
            again = now + PODS_LATE
            decision = replace(decision, wake_at=min(decision.wake_at or again, again))
        self._decision, self._has_looked = decision, True
        return decision

    def _decide(self, workflow: Workflow, waiting: set[str], now: datetime) -> Decision:
        refusals = self._actor.refusals if self._actor else {}
        observed = self.seen.observe(refusals, waiting)
        return decide(workflow, observed, now)

    async def _act(self, decision: Decision) -> bool:
        """Carries out what was decided; whether to look again at once."""
        actor = self._actor
        if actor is None:
            return False
        before = dict(actor.refusals)
        left = await actor.act(decision.actions)
        waiting = {(step.role, step.name) for step in decision.steps if not step.state.is_end}
        lacking = {full.scope for (role, step, _), full in actor.lacking.items() if (role, step) in waiting}
        self._tools.limiter.line_up(self.seen, lacking, self.offer_room)
        self._note_launch(decision, left)
        waits = [each for (role, step, _), each in actor.refusals.items() if each.until is not None and (role, step) in waiting]
        if any(each.reason in NOTHING_TELLS for each in waits):
            self._tools.rounds.wait(self.seen.uid, self.ask_again)
        else:
            self._tools.rounds.leave(self.seen.uid)
        await self._note_waiting(waits)
        return left or actor.refusals != before

    def _note_launch(self, decision: Decision, left: bool) -> None:
        """Tells whoever waits for it how the first Jobs were received."""
        actor = self._actor
        if self.launched.done() or left or actor is None:
            return
        final = next((refusal for refusal in actor.refusals.values() if refusal.until is None), None)
        if final is not None:
            error = Rejected(action=f"start run {self.run.name}", status=422, reason=final.reason, message=final.message)
            self.launched.set_exception(error)
            self.launched.exception()
        elif decision.state.is_end or (self.seen.jobs and not actor.refusals):
            self.launched.set_result(None)

    async def _note_waiting(self, refusals: Sequence[Refusal]) -> None:
        """Notes on the record why Jobs that are due are not made, once that has lasted: nobody else can see it. One write for each reason."""
        seen, now = self.seen, asyncio.get_running_loop().time()
        if not refusals or not seen.keeps or seen.is_gone:
            self._waits = None
            return
        noted, first = home.waiting(seen.record), refusals[0]
        if noted is not None and any(each.reason == noted.reason for each in refusals):
            return
        if self._waits is None or self._waits[0] != first.reason:
            self._waits = (first.reason, now)
        if now - self._waits[1] >= NOTED_AFTER:
            self._waits = (first.reason, now)  # whatever is answered, it is tried again no sooner than after as long
            with contextlib.suppress(Rejected, Unavailable):
                tools = self._tools
                tools.sight.see(await tools.ledger.change(seen.record, home.note_waiting(first.reason, first.message)))

    def _note_barred(self) -> None:
        actor = self._actor
        barred = next((each for each in actor.refusals.values() if each.reason == Reason.NO_RIGHT), None) if actor else None
        if barred is not None:
            self._bar(Forbidden(action=f"start run {self.run.name}", status=403, reason=barred.reason, message=barred.message))
        else:
            self._barred = None

    def _bar(self, error: JobyardError) -> None:
        """Credentials or rights are missing: that passes by itself. Raises the error where nobody waits for ever."""
        now, gives_up = asyncio.get_running_loop().time(), self._tools.gives_up
        if self._barred is None:
            self._barred = now
            log.warning("run %s in namespace %s waits: %s%s", self.run.name, self._tools.namespace, error, trying_for(gives_up))
        if gives_up is not None and now - self._barred >= gives_up.total_seconds():
            raise error

    def _conclude(self, decision: Decision) -> None:
        if not self.outcome.done():
            view = self.seen.show(self._tools.namespace, decision)
            self.outcome.set_result(Outcome(state=decision.state, reason=decision.reason, view=view))
            self._tools.ended(self)

    async def _has_left(self) -> bool:
        """Whether the run is over for us: released by whoever, or its record deleted. A record that only left the watch is asked for."""
        tools, seen = self._tools, self.seen
        if not seen.released:
            found = await tools.ledger.look_again(seen)
            if found is not None:
                seen.see_record(found)
                if not seen.released:
                    seen.is_gone = False
                    return False
        if not self.outcome.done():
            if seen.released:
                self._decision = self._decide(await self._workflow(), set(), tools.clock.now())
            else:
                # Somebody deleted the record: its Jobs go with it. There is nothing left to drive, and nothing to write on.
                steps = self._decision.steps if self._decision else ()
                finished = tools.clock.now()
                if not seen.keeps:
                    message = f"Its Job {seen.record.metadata.name} is gone, and nobody saw it end."
                    steps = tuple(
                        replace(step, state=State.LOST, reason=Reason.JOB_VANISHED, message=message, finished=finished) for step in steps
                    )
                self._decision = Decision(
                    actions=(), state=State.LOST, reason=Reason.JOB_VANISHED, finished=finished, steps=steps, wake_at=None
                )
            self._conclude(self._decision)
        return True

    async def _ask_for(self, name: str) -> None:
        """A Job that should be there is not seen: it is asked for by name before it is called lost."""
        seen, tools = self.seen, self._tools
        missing = seen.missing.get(name)
        try:
            found = await tools.cluster.get(JOBS, tools.namespace, name)
        except NotFound:
            found = None
        if found is not None and owned_by(found, seen.uid) and (missing is None or missing.metadata.uid == found.metadata.uid):
            seen.see_job(found)
            tools.sight.see(found)
        elif missing is not None:
            seen.lose(missing)

    async def _explain(self, now: datetime) -> set[str]:
        """The Jobs that have ended and whose pods are still to be seen. After a while they are asked for, once: perhaps they are gone. Those of
        Jobs that had ended before anybody looked are asked for at once: the watch does not begin with them."""
        waiting: set[str] = set()
        tools = self._tools
        if self.outcome.done():
            return waiting
        for job in self.seen.unexplained():
            name = job.metadata.name
            since = self._unexplained.setdefault(name, now)
            if self._has_looked and now - max(since, min(tools.pods_heard(), since + PODS_AT_LAST)) < PODS_LATE:
                waiting.add(name)
            elif name not in self._asked:
                self._asked.add(name)
                for pod in await tools.cluster.list(PODS, tools.namespace, labels=f"{JOB_NAME_LABEL}={name}"):
                    tools.sight.see(pod)
        return waiting
