"""What is seen of one run; and from it, what a decision may depend on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from jobyard.engine import home
from jobyard.engine import record as records
from jobyard.engine.decision import Attempt, Decision, Observed, Refusal, Slot
from jobyard.engine.home import Record, StoredRequest
from jobyard.model import names
from jobyard.model.diagnosis import diagnose
from jobyard.model.job import outputs, owned_by, read
from jobyard.model.objects import ConfigMap, Event, Job, Pod
from jobyard.model.run import Reason, Role, Run, RunView, State, StepResult, StepView
from jobyard.model.workflow import Workflow
from jobyard.model.written import moment, whole

EVENTS_LIMIT = 10
"""How many warnings about one object are kept, the newest."""

STOP_MARGIN = timedelta(minutes=1)
"""How long after their grace period the pods of a stopped Job may take before they are deleted by force: a node may be dead."""
GRACE_LIMIT = 7 * 86400
"""Seconds of grace beyond which nobody means what the manifest says."""

_EPOCH = datetime.fromtimestamp(0, UTC)


class RunSight:
    """A run's record and what belongs to it, as the watches saw it last. By uid: another record of the same name is another run."""

    def __init__(self, record: Record) -> None:
        self.record: Record = record
        self.is_gone = False
        """The record has left the watch, deleted or released."""
        self.is_leaving = False
        """We are releasing it just now: the watch may tell so before the call is answered."""
        self.owned: dict[str, ConfigMap] = {}
        """The further parts and pages of the record, by name."""
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
        """Whether a Job of it was made."""
        return bool(self.jobs or self.missing or self.vanished) or any(result.job for result in self.results().values())

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

    def see_record(self, record: Record) -> None:
        self.record = record
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

    def see_event(self, event: Event) -> list[str]:
        """Says the uids of those that are kept no more."""
        about = self.events[event.involved_object.uid]
        about.pop(event.metadata.name, None)
        about[event.metadata.name] = event
        self._where[event.metadata.uid] = (event.involved_object.uid, event.metadata.name)
        old = [about.pop(name).metadata.uid for name in list(about)[:-EVENTS_LIMIT]]
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
            gone = [uid, *(event.metadata.uid for event in self.events.pop(uid, {}).values())]
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
            found = records.stored(record, self.owned) if isinstance(record, ConfigMap) else home.stored(record)
            self._stored = found if found is not None and found.workflow.steps else None
        return self._stored

    @property
    def workflow(self) -> Workflow | None:
        found = self.stored()
        return found.workflow if found else None

    def results(self) -> Mapping[Slot, StepResult]:
        """What is recorded of the run's steps: what was carried over, what its record says, and its pages. Each is read once a version."""
        stored = self.stored()
        found = {(each.role, each.step): each.result for each in stored.carried} if stored else {}
        record = self.record
        if isinstance(record, Job):
            return self._released_result(record) if self.released else found
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
        uid = job.metadata.uid
        if self.workflow is None:
            return None
        if uid not in self._attempts:
            self._attempts[uid] = self._read_attempt(job)
        return self._attempts[uid]

    def _read_attempt(self, job: Job) -> Attempt | None:
        labels, annotations = job.metadata.labels, job.metadata.annotations
        step, number = annotations.get(names.STEP, ""), whole(labels.get(names.ATTEMPT, ""), 10**6)
        try:
            role = Role.STEP if job.metadata.uid == self.uid else Role(labels.get(names.ROLE, ""))
        except ValueError:
            return None
        if number is None or not self._is_attempt(job, role, step, number):
            return None
        pods = self.pods.get(job.metadata.uid, {})
        result = read(job)
        if result.reason == Reason.WAITING_FOR_POD and any(pod.status.phase in ("Running", "Succeeded", "Failed") for pod in pods.values()):
            result = replace(result, state=State.RUNNING, reason="")  # the pod says so before its Job does
        stopping = annotations.get(names.STOP, "")
        if stopping and not result.state.is_end:
            result = replace(result, state=State.RUNNING, reason=stopping)  # on its way out: its pods get their time
        facts = result.facts() | {"job": job.metadata.name, "attempt": number}
        facts["outputs"] = outputs(list(pods.values())) if result.state is State.SUCCEEDED else None
        return Attempt(
            role=role,
            step=step,
            created=job.metadata.creation_timestamp or _EPOCH,
            stopping=stopping,
            resumed=bool(stopping) and job.spec.suspend is not True and read(job).finished is None,
            stop_deadline=_stop_deadline(job),
            deleting=job.metadata.deletion_timestamp is not None,
            **facts,
        )

    def _is_attempt(self, job: Job, role: Role, step: str, number: int) -> bool:
        """Whether a Job of this name is one that the run would have made itself: people copy Jobs, labels and owner included."""
        workflow = self.workflow
        if workflow is None or not owned_by(job, self.uid) or number < 1:
            return False
        known = workflow.by_name.get(step)
        template = (known.job if role is Role.STEP else known.revert) if known else None
        if template is None:
            return False
        if job.metadata.uid == self.uid:
            return True
        return job.metadata.name == job_name(workflow, self.id, role, step, number)

    # --- what is shown ---

    def show(self, namespace: str, decision: Decision, unreachable: str = "") -> RunView:
        """The run as it stands, each step explained."""
        run = self.run(namespace)
        return RunView(
            id=run.id,
            name=run.name,
            workflow=run.workflow,
            namespace=namespace,
            trigger=run.trigger,
            state=decision.state,
            reason=decision.reason,
            started=run.created,
            finished=decision.finished,
            steps=tuple(self._explain(step) for step in decision.steps),
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
        diagnosis = diagnose(job, pods, about)
        return replace(view, diagnosis=diagnosis) if diagnosis else view


def job_name(workflow: Workflow, run: str, role: Role, step: str, attempt: int) -> str:
    """The name of an attempt's Job: the manifest's own where the workflow keeps names, else from the key."""
    known = workflow.by_name[step]
    template = known.job if role is Role.STEP else known.revert
    own = (template.manifest.get("metadata") or {}).get("name") if template and workflow.keeps_names else None
    return str(own) if own else names.job_name(run, role, step, attempt)


def _stop_deadline(job: Job) -> datetime | None:
    """When the pods of a Job that is being stopped must be gone: their grace period and a minute after."""
    asked = moment(job.metadata.annotations.get(names.STOPPED_AT))
    if asked is None:
        return None
    grace = job.spec.template.spec.termination_grace_period_seconds
    return asked + timedelta(seconds=30 if grace is None else max(0, min(grace, GRACE_LIMIT))) + STOP_MARGIN
