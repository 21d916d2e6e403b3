"""What is seen of one run; and from it, what a decision may depend on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from jobyard.engine import home, job_home
from jobyard.engine import record as records
from jobyard.engine.attempt import read_attempt
from jobyard.engine.decision import Attempt, Decision, Observed, Refusal, Slot
from jobyard.engine.home import Record, StoredRequest
from jobyard.model import names
from jobyard.model.explained import explained, held_up_by
from jobyard.model.job import read
from jobyard.model.objects import ConfigMap, Event, Job, Pod
from jobyard.model.run import Reason, Role, Run, RunView, State, StepResult, StepView
from jobyard.model.workflow import Workflow

EVENTS_LIMIT = 10
"""How many warnings about one object are kept, the newest."""

_EPOCH = datetime.fromtimestamp(0, UTC)


class RunSight:
    """A run's record and what belongs to it, as the watches saw it last. By uid: another record of the same name is another run."""

    def __init__(self, record: Record) -> None:
        self.record: Record = record
        self.is_gone = False
        """The record has left the watch, deleted or released."""
        self.gone_by = ""
        """The version by which it has, where that is known."""
        self.is_leaving = False
        """We are releasing it just now: the watch may tell so before the call is answered."""
        self.owned: dict[str, ConfigMap] = {}
        """The further parts and pages of the record, by name."""
        self.is_whole = False
        """All of them that there were are among what is seen."""
        self.jobs: dict[str, Job] = {record.metadata.name: record} if isinstance(record, Job) else {}
        self.pods: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        """By the uid of their Job: its name may have been another's before."""
        self.events: defaultdict[str, dict[str, Event]] = defaultdict(dict)
        """By the uid of what they are about."""
        self.missing: dict[str, Job] = {}
        """Jobs that left the watch before they were seen to end: to be asked for by name before they are called lost."""
        self.vanished: dict[Slot, int] = {}
        self._where: dict[str, tuple[str, str]] = {}
        """From uid to where it is kept: in jobs or owned under a name, or among the pods of a Job or the events about something."""
        self._stored: StoredRequest | None = None
        self._results: dict[str, tuple[str, Mapping[Slot, StepResult]]] = {}
        self._attempts: dict[str, Attempt | None] = {}

    @property
    def id(self) -> str:
        return self.record.metadata.labels.get(names.RUN, "")

    @property
    def uid(self) -> str:
        return self.record.metadata.uid

    @property
    def keeps(self) -> bool:
        """Whether the record keeps results of its own: the ConfigMap home."""
        return isinstance(self.record, ConfigMap)

    @property
    def released(self) -> bool:
        return names.ENDED in self.record.metadata.labels

    @property
    def has_begun(self) -> bool:
        """Whether a Job of it was made. What was carried over was made for an earlier run: its workflow need not be read."""
        return bool(self.jobs or self.missing or self.vanished) or any(result.job for result in self._recorded().values())

    def run(self, namespace: str) -> Run:
        """What the record says of the run."""
        return home.read(self.record, namespace)

    def job(self, uid: str) -> Job | None:
        """The Job with this uid."""
        place, name = self._where.get(uid, ("", ""))
        return self.jobs.get(name) if place == "jobs" else None

    # --- what the watches tell ---

    def uids(self) -> list[str]:
        """Of all that is known to belong to the run."""
        return [self.uid, *self._where]

    def everything(self) -> Iterator[ConfigMap | Job | Pod | Event]:
        """All that is seen of it."""
        yield from {each.metadata.uid: each for each in (self.record, *self.owned.values(), *self.jobs.values())}.values()
        for pods in self.pods.values():
            yield from pods.values()
        for events in self.events.values():
            yield from events.values()

    def see_record(self, record: Record) -> None:
        self.record = record
        self.gone_by = ""
        if isinstance(record, Job):
            self.see_job(record)

    def see_owned(self, owned: ConfigMap) -> None:
        """A further part or a page of the record."""
        self.owned[owned.metadata.name] = owned
        self._where[owned.metadata.uid] = ("owned", owned.metadata.name)

    def see_job(self, job: Job) -> None:
        self.jobs[job.metadata.name] = job
        self.missing.pop(job.metadata.name, None)
        self._attempts.pop(job.metadata.uid, None)
        if job.metadata.uid != self.uid:
            self._where[job.metadata.uid] = ("jobs", job.metadata.name)

    def see_pod(self, job: str, pod: Pod) -> None:
        """`job`: its Job's uid."""
        self.pods[job][pod.metadata.name] = pod
        self._attempts.pop(job, None)
        self._where[pod.metadata.uid] = (job, pod.metadata.name)

    def see_event(self, event: Event, *, about: str = "") -> list[str]:
        """Says the uids of those that are kept no more. `about`: the uid of what it is kept with, where that is not what it is about itself."""
        place = about or event.involved_object.uid
        kept = self.events[place]
        kept.pop(event.metadata.name, None)
        kept[event.metadata.name] = event
        self._where[event.metadata.uid] = (place, event.metadata.name)
        old = [kept.pop(name).metadata.uid for name in list(kept)[:-EVENTS_LIMIT]]
        for uid in old:
            self._where.pop(uid, None)
        return old

    def forget(self, uid: str) -> list[str]:
        """What has this uid left the watch; says the uids of all that is kept no more. A Job that was not seen to end is missing; a pod
        that had ended is remembered: its Job may still have to be explained, and its output read."""
        place, name = self._where.get(uid, ("", ""))
        if place == "jobs":
            job = self.jobs.pop(name)
            if not read(job).state.is_end:
                self.missing[name] = job
            self._attempts.pop(uid, None)
            pods = [pod.metadata.uid for pod in self.pods.pop(uid, {}).values()]
            events = [event.metadata.uid for each in (uid, *pods) for event in self.events.pop(each, {}).values()]
            gone = [uid, *pods, *events]
        elif place == "owned":
            del self.owned[name]
            gone = [uid]
        elif (pod := self.pods.get(place, {}).get(name)) is not None and pod.metadata.uid == uid:
            if pod.status.phase in ("Succeeded", "Failed"):
                return []
            del self.pods[place][name]
            self._attempts.pop(place, None)
            gone = [uid]
            for event in self.events.pop(uid, {}).values():  # what kept it from running is told of its Job
                gone += self.see_event(event, about=place)
        else:
            about = self.events.get(place, {})
            about.pop(name, None)
            if not about:
                self.events.pop(place, None)
            gone = [uid]
        for each in gone:
            self._where.pop(each, None)
        return gone

    def lose(self, job: Job) -> None:
        """The Job was asked for by name, and is not there: it vanished before it ended."""
        self.missing.pop(job.metadata.name, None)
        attempt = self._attempt(job)
        if attempt is not None:
            self.vanished[attempt.role, attempt.step] = attempt.attempt
        self._attempts.pop(job.metadata.uid, None)

    # --- what the record says ---

    def stored(self) -> StoredRequest | None:
        """What the run was asked to do; None while a part of it is missing, or where somebody damaged it. It never changes: read once."""
        if self._stored is None:
            record = self.record
            found = records.stored(record, self.owned) if isinstance(record, ConfigMap) else job_home.stored(record)
            self._stored = found if found is not None and found.workflow.steps else None
        return self._stored

    @property
    def workflow(self) -> Workflow | None:
        found = self.stored()
        return found.workflow if found else None

    def results(self) -> Mapping[Slot, StepResult]:
        """What is recorded of the run's steps: what was carried over, what its record says, and its pages. Each is read once a version."""
        if isinstance(self.record, Job) and self.released:
            return self._released_result(self.record)
        stored = self.stored()
        carried = {(each.role, each.step): each.result for each in stored.carried} if stored else {}
        return {**carried, **self._recorded()}

    def _recorded(self) -> Mapping[Slot, StepResult]:
        """What the record and its pages say."""
        found: dict[Slot, StepResult] = {}
        record = self.record
        if isinstance(record, Job) or not (record.data or self.owned):
            return found
        for each in (record, *(page for page in self.owned.values() if page.metadata.labels.get(names.ROLE) == "page")):
            name, version = each.metadata.name, each.metadata.resource_version
            known = self._results.get(name)
            if known is None or known[0] != version:
                known = self._results[name] = (version, records.results(each))
            found.update(known[1])
        return found

    def _released_result(self, record: Job) -> Mapping[Slot, StepResult]:
        """A released Job's annotations say how its run ended: what became of the Job since is no business of ours."""
        end, step = home.end(record), record.metadata.annotations.get(names.STEP, "")
        if end is None:
            return {}
        told = StepResult(**{**read(record).facts(), "state": end.state, "reason": end.reason, "finished": end.finished})
        attempt = self._attempt(record)
        given = attempt.outputs if attempt and end.state is State.SUCCEEDED else None
        return {(Role.STEP, step): replace(told, job=record.metadata.name, attempt=1, outputs=given)}

    # --- what a decision may depend on ---

    def observe(
        self,
        refusals: Mapping[tuple[Role, str, int], Refusal],
        unexplained: Collection[str] = (),
    ) -> Observed:
        """What a decision about this run may depend on.

        `unexplained`: Jobs that have ended and whose pods are still to be seen. They count as running: one stream may run ahead of the other.
        """
        annotations = self.record.metadata.annotations
        end = home.end(self.record) if self.keeps or self.released else None
        attempts: defaultdict[Slot, list[Attempt]] = defaultdict(list)
        for job in self.jobs.values():
            attempt = self._attempt(job)
            if attempt and attempt.job in unexplained:
                attempt = replace(attempt, state=State.RUNNING, reason="", message="", finished=None)
            if attempt:
                attempts[attempt.role, attempt.step].append(attempt)
        recorded = self.results()
        waits = Reason.HELD if names.HELD in annotations else Reason.INCOMPLETE if names.INCOMPLETE in annotations else ""
        return Observed(
            created=self.created,
            begun=self._begun(attempts, recorded),
            state=end.state if end else State.PENDING,
            reason=end.reason if end else "",
            finished=end.finished if end else None,
            cancelled=names.CANCEL in annotations,
            waits=waits,
            keeps=self.keeps,
            recorded=recorded,
            vanished=self.vanished,
            attempts={slot: tuple(sorted(each, key=lambda attempt: attempt.attempt)) for slot, each in attempts.items()},
            refusals=refusals,
        )

    @property
    def created(self) -> datetime:
        return self.record.metadata.creation_timestamp or _EPOCH

    def _begun(self, attempts: Mapping[Slot, list[Attempt]], recorded: Mapping[Slot, StepResult]) -> datetime | None:
        """Since when the run's timeout counts: its first Job. What it waited for before (a place, its `begin`) is no time of its own."""
        stored = self.stored()
        carried = {(each.role, each.step) for each in stored.carried} if stored else set()
        firsts = [each.created for some in attempts.values() for each in some]
        firsts += [result.started for slot, result in recorded.items() if result.started and slot not in carried]
        return min(firsts, default=None)

    def unexplained(self) -> list[Job]:
        """The run's Jobs that have ended though no pod of theirs was seen to: one stream may run ahead of the other."""
        late = []
        for job in self.jobs.values():
            attempt = self._attempt(job)  # worked out once for all that was seen: this is asked at every look
            if attempt is None or not attempt.state.is_end or attempt.stopping:
                continue
            if not (job.status.succeeded or job.status.failed):
                continue
            if not any(pod.status.phase in ("Succeeded", "Failed") for pod in self.pods.get(job.metadata.uid, {}).values()):
                late.append(job)
        return late

    def _attempt(self, job: Job) -> Attempt | None:
        """What the Job tells, with its pods, worked out once for all that was seen of them; None when it is not an attempt of this run."""
        uid, workflow = job.metadata.uid, self.workflow
        if workflow is None:
            return None
        if uid not in self._attempts:
            self._attempts[uid] = read_attempt(job, self.pods.get(uid, {}).values(), workflow, run=self.id, record=self.uid)
        return self._attempts[uid]

    # --- what is shown ---

    def show(self, namespace: str, decision: Decision, unreachable: str = "") -> RunView:
        """The run as it stands, each step explained. One of which nothing runs, and something is held up, does not run either."""
        run = self.run(namespace)
        steps = tuple(self._explain(step) for step in decision.steps)
        held = "" if decision.state.is_end else held_up_by(steps)
        return RunView(
            id=run.id,
            name=run.name,
            workflow=run.workflow,
            namespace=namespace,
            trigger=run.trigger,
            state=State.PENDING if held else decision.state,
            reason=held or decision.reason,
            started=run.created,
            finished=decision.finished,
            steps=steps,
            origin=run.origin,
            unreachable=unreachable,
        )

    def _explain(self, view: StepView) -> StepView:
        """The step with its diagnosis, where there is something to explain."""
        if view.state in (State.SUCCEEDED, State.SKIPPED) or not view.job:
            return view
        job = self.jobs.get(view.job)
        if job is None:
            return view
        pods = list(self.pods.get(job.metadata.uid, {}).values())
        about: list[Event] = [*self.events.get(job.metadata.uid, {}).values()]
        for pod in pods:
            about += self.events.get(pod.metadata.uid, {}).values()
        return explained(view, job, pods, about)
