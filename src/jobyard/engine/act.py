"""Carries out a decision's actions. Each may be repeated at any time: a crash in between costs nothing but the repetition."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

from jobyard.contracts import Clock, Cluster
from jobyard.engine import limits
from jobyard.engine import record as records
from jobyard.engine.attempt import job_name
from jobyard.engine.decision import Action, Create, Delete, Kill, Refusal, Stop, Write
from jobyard.engine.home import is_record, job_labels, key_of
from jobyard.engine.ledger import Ledger
from jobyard.engine.limiter import Limiter
from jobyard.engine.limits import Full
from jobyard.engine.patching import patch_this
from jobyard.engine.refusal import NOTHING_TELLS, Tries, judge
from jobyard.engine.rounds import Rounds
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.errors import Conflict, Forbidden, NotFound, PlaceholderUnknown, Rejected
from jobyard.model.job import owned_by, owner_reference, read, render
from jobyard.model.objects import CONFIG_MAPS, JOBS, PODS, ConfigMap, Job, Manifest
from jobyard.model.parameters import environment
from jobyard.model.run import Reason, Role, State
from jobyard.model.template import lookup
from jobyard.model.workflow import Step, Workflow

IN_FLIGHT = 16
"""Calls of one run under way at once. More gain nothing on an API server (837/s at 32, 741/s at 8) and starve others."""

FRESH = 1.0
"""Seconds after which a decision is too old to create Jobs by."""

LOOK_FOR_NAME = timedelta(seconds=1)
"""How long to wait before asking again for a name that another Job of the same source still has."""

Outputs = Mapping[str, Mapping[str, object]]
"""What each step that succeeded gave, by its name."""
Attempted = tuple[Role, str, int]
"""An attempt of a step, by role, step and number."""


class Actor:
    """Carries out the actions of one run, and remembers what the cluster refused."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        namespace: str,
        sight: Sight,
        ledger: Ledger,
        limiter: Limiter,
        rounds: Rounds,
        run: RunSight,
        workflow: Workflow,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._sight = sight
        self._ledger = ledger
        self._limiter = limiter
        self._rounds = rounds
        self._run = run
        self._workflow = workflow
        self._tries: defaultdict[Attempted, Tries] = defaultdict(Tries)
        self.refusals: dict[Attempted, Refusal] = {}
        self.lacking: dict[Attempted, Full] = {}
        """Which limits have no room for Jobs that are due."""
        self._full: dict[str, Full] = {}
        """Those of them that were found full while the last decision was carried out: one Job asks for all."""
        self._shut: Refusal | None = None
        """What then kept a Job of this run, and keeps every other alike."""

    def look_for_room(self) -> bool:
        """There may be room in a limit again: forgets that there was none. Says whether that was so."""
        found = bool(self.lacking)
        for attempted in self.lacking:
            self.refusals.pop(attempted, None)
        self.lacking.clear()
        return found

    def ask_again(self) -> bool:
        """What nothing tells the end of may be over: forgets that it kept Jobs from being made. Says whether it did."""
        kept = [attempted for attempted, refusal in self.refusals.items() if refusal.reason in NOTHING_TELLS]
        for attempted in kept:
            del self.refusals[attempted]
        return bool(kept)

    async def act(self, actions: tuple[Action, ...]) -> bool:
        """Does `actions`: what runs first, then the record, then what goes away. Raises Unavailable or Rejected.

        One that fails does not hold back the others; the first failure is raised once all were tried. A decision grows old while it is
        carried out: Jobs that were not yet created after a while are left for the next look, which may know of a cancel. Says whether
        some were.
        """
        loop = asyncio.get_running_loop()
        self._full, self._shut = {}, None
        stale = loop.time() + FRESH
        left = False
        outputs = self._outputs() if any(isinstance(each, Create) for each in actions) else {}
        first: list[Action] = [each for each in actions if isinstance(each, Create | Stop | Kill)]
        room = asyncio.Semaphore(IN_FLIGHT)
        failures: list[Exception] = []

        async def one(action: Action) -> None:
            nonlocal left
            async with room:
                if isinstance(action, Create) and loop.time() > stale:
                    left = True
                    return
                try:
                    await self._do(action, outputs)
                except Exception as error:  # noqa: BLE001 - raised below, when the others are through
                    failures.append(error)

        async with asyncio.TaskGroup() as group:
            for action in first:
                group.create_task(one(action))
        for action in actions:
            if isinstance(action, Write | Delete):
                await one(action)
        if failures:
            raise failures[0]
        return left

    async def _do(self, action: Action, outputs: Outputs) -> None:
        match action:
            case Create():
                await self._create(action, outputs)
            case Stop():
                await self._stop(action.job, action.reason)
            case Kill():
                job = self._run.jobs.get(action.job)
                for pod in list(self._run.pods.get(job.metadata.uid, {}).values()) if job else ():
                    await self._cluster.delete(PODS, self._namespace, pod.metadata.name, uid=pod.metadata.uid, grace=0)
            case Write():
                await self._write(action)
            case Delete():
                for name in action.jobs:
                    job = self._run.jobs.get(name)
                    if job is not None:  # else it is gone, and by now a stranger's may have its name
                        await self._cluster.delete(JOBS, self._namespace, name, uid=job.metadata.uid)

    async def _create(self, action: Create, outputs: Outputs) -> None:
        attempted = (action.role, action.step, action.attempt)
        step = self._workflow.by_name[action.step]
        self.refusals.pop(attempted, None)  # what was answered before is answered anew
        self.lacking.pop(attempted, None)
        try:
            job = self._render(action, step, outputs)
        except PlaceholderUnknown as error:
            self.refusals[attempted] = Refusal(reason=Reason.OUTPUT_MISSING, message=str(error))
            return
        if job is None:
            return
        name = job["metadata"]["name"]
        if self._shut is not None:
            self.refusals[attempted] = self._shut
            return
        scopes = (*limits.scopes(self._workflow), *step.limits)
        full = next((self._full[scope] for scope in scopes if scope in self._full), None)
        if full is None:
            async with self._limiter.room(self._run.id, self._workflow, step, name) as full:
                if full is None:
                    await self._make(attempted, job)
                    return
        self._full[full.scope] = full
        until = self._clock.now() + self._limiter.pause(full.scope)
        self.refusals[attempted] = Refusal(reason=Reason.WAITING_FOR_LIMIT, message=str(full), until=until)
        self.lacking[attempted] = full

    async def _make(self, attempted: Attempted, job: Manifest) -> None:
        """Makes the Job of an attempt, which has its places."""
        name = job["metadata"]["name"]
        try:
            made = await self._cluster.create(JOBS, self._namespace, job)
        except Conflict as conflict:
            made = await self._adopt(name, conflict)
        except Rejected as refused:
            self.refusals[attempted] = refusal = await self._judge(attempted, refused)
            self._shut = refusal if refusal.reason in NOTHING_TELLS else None
            return
        self._rounds.one_got_through()
        if not owned_by(made, self._run.uid):
            self.refusals[attempted] = await self._make_way(made)
            return
        # Into the cache at once: or a limit of N becomes N + 1 before the watch tells.
        if name not in self._run.jobs:
            self._sight.see(made)

    def _render(self, action: Create, step: Step, outputs: Outputs) -> Manifest | None:
        """The Job of an attempt. Raises PlaceholderUnknown."""
        run, flow = self._run, self._workflow
        template = step.job if action.role is Role.STEP else step.revert
        if template is None:
            return None
        labels = job_labels(run.id, run.run(self._namespace).trigger, action.role, action.step, action.attempt)
        return render(
            template.fill(lookup(flow.values, outputs)),
            name=job_name(flow, run.id, action.role, action.step, action.attempt),
            labels=labels,
            annotations={names.STEP: action.step, **({names.SCOPES: ",".join(step.limits)} if step.limits else {})},
            pod_labels=labels,
            owner=owner_reference(run.record.metadata.name, run.uid),
            env=environment(flow.parameters, flow.values),
            owns_retries=step.retry.limit > 0,
        )

    async def _judge(self, attempted: Attempted, refused: Rejected) -> Refusal:
        may = await self._cluster.may("create", JOBS, self._namespace) if isinstance(refused, Forbidden) else None
        verdict = judge(refused, self._tries[attempted].one_more(refused, may), may, self._namespace)
        wait = self._rounds.pause(verdict.wait) if verdict.wait is not None and verdict.reason in NOTHING_TELLS else verdict.wait
        until = self._clock.now() + wait if wait is not None else None
        return Refusal(reason=verdict.reason, message=verdict.message, until=until)

    async def _make_way(self, other: Job) -> Refusal:
        """What to do about a Job that has the name that ours should have. One of an earlier record of this very run, which somebody deleted,
        goes; so does a finished one of an earlier run of the same source, where names are kept. Any other is left alone."""
        name, labels = other.metadata.name, other.metadata.labels
        theirs, ours = labels.get(names.RUN, ""), self._run.record.metadata.labels.get(names.TRIGGER)
        if is_record(other) and key_of(other) == key_of(self._run.record):
            message = f"This run is Job {name} already: it was asked for twice in the same moment. `jobyard show {name}` tells of it."
            return Refusal(reason=Reason.NAME_TAKEN, message=message)
        is_sources = labels.get(names.MANAGED_BY) == names.JOBYARD and labels.get(names.TRIGGER) == ours and labels.get(names.ROLE) != "run"
        is_old = is_sources and theirs == self._run.id and bool(other.metadata.owner_references)
        if not is_old and not (self._workflow.keeps_names and is_sources):
            message = f"A Job named {name} exists already and does not belong to this run, so it is left alone."
            return Refusal(reason=Reason.NAME_TAKEN, message=message)
        soon = self._clock.now() + LOOK_FOR_NAME
        if theirs != self._run.id and not await self._ledger.makes_way(other.metadata, labels.get(names.TRIGGER, "")):
            if names.read_run(theirs) is None or not await self._ledger.is_open(theirs):
                message = f"A Job named {name} exists already and does not belong to this run, so it is left alone."
                return Refusal(reason=Reason.NAME_TAKEN, message=message)
            message = f"Job {name} of run {theirs} still uses the name: this one starts when that run has ended."
            return Refusal(reason=Reason.WAITING_FOR_NAME, message=message, until=soon)
        await self._cluster.delete(JOBS, self._namespace, name, uid=other.metadata.uid)
        return Refusal(
            reason=Reason.WAITING_FOR_NAME, message=f"Job {name} of an earlier run has finished and is being deleted.", until=soon
        )

    async def _write(self, action: Write) -> None:
        """Writes the pages first, then the record itself: with an end, everything that belongs to it is there before it."""
        known = self._run.record
        if self._run.is_gone or not isinstance(known, ConfigMap):
            return  # deleted: the next look sees
        pages = records.pages(action.results, known, self._workflow)
        own = pages.pop(known.metadata.name, {})
        for name, data in pages.items():
            try:
                self._sight.see(await self._cluster.patch(CONFIG_MAPS, self._namespace, name, {"data": data}))
            except NotFound:
                self._sight.see(await self._cluster.create(CONFIG_MAPS, self._namespace, records.page(known, name, data)))
        waits = action.state is None and any(refusal.until is not None for refusal in self.refusals.values())
        change = records.change(action, own, known, waits=waits)
        if change is not None:
            self._sight.see(await patch_this(self._cluster, CONFIG_MAPS, self._namespace, known, change))

    async def _adopt(self, name: str, conflict: Conflict) -> Job:
        try:
            return await self._cluster.get(JOBS, self._namespace, name)
        except NotFound:
            raise conflict from None  # deleted between the two calls: the next look sees

    def _outputs(self) -> Outputs:
        """What the steps that succeeded gave, recorded or as their Jobs tell."""
        observed = self._run.observe({})
        found: dict[str, dict[str, object]] = {}
        for (role, step), attempts in observed.attempts.items():
            if role is Role.STEP and attempts[-1].outputs is not None:
                found[step] = dict(attempts[-1].outputs)
        for (role, step), result in observed.recorded.items():
            if role is Role.STEP and result.state is State.SUCCEEDED and result.outputs is not None:
                found[step] = dict(result.outputs)
        return found

    async def _stop(self, name: str, reason: str) -> None:
        job = self._run.jobs.get(name)
        annotations = {names.STOP: str(reason), names.STOPPED_AT: self._clock.now().isoformat()}
        started = read(job).started if job else None
        if started is not None:  # Kubernetes may clear it
            annotations[names.STARTED] = started.isoformat()
        change = {"metadata": {"annotations": annotations}, "spec": {"suspend": True}}
        with contextlib.suppress(NotFound):  # gone already: the watch tells
            if job is not None:
                self._sight.see(await patch_this(self._cluster, JOBS, self._namespace, job, change))


def seconds_until(then: datetime | None, now: datetime) -> float | None:
    """Seconds from now until then, not negative; None for never."""
    return None if then is None else max((then - now).total_seconds(), 0.0)
