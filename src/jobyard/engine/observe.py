"""What the watches have seen, by run; and from it, what a decision may depend on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from jobyard.engine import record as records
from jobyard.engine.decision import Attempt, Decision, Observed, Refusal, Slot
from jobyard.engine.limits import LIMITS
from jobyard.model import names
from jobyard.model.diagnosis import diagnose
from jobyard.model.job import Ending, outputs, read
from jobyard.model.objects import ConfigMap, Event, Job, Pod
from jobyard.model.run import Reason, Role, RunView, State, StepResult, StepView
from jobyard.model.workflow import Workflow

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"

GONE_KEPT = 10_000
"""How many objects that are gone are remembered: an answer to a call of ours may tell of one after the watch has told its end."""

EVENTS_KEPT = 10
"""How many warnings about one object are kept, the newest."""

ASKED_KEPT = 500
"""How many workflows are kept as values, those read last."""

STOP_MARGIN = timedelta(minutes=1)
"""How long after their grace period the pods of a stopped Job may take before they are deleted by force: a node may be dead."""

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Sight:
    """The namespace as the watches saw it last: records, Jobs, pods and events that concern our runs."""

    def __init__(self) -> None:
        self.records: dict[str, ConfigMap] = {}
        self.owned: defaultdict[str, dict[str, ConfigMap]] = defaultdict(dict)
        """The further parts and pages of records, by run and name."""
        self.limits: ConfigMap | None = None
        self.places: dict[str, ConfigMap] = {}
        """Who holds places in limits, by the name of the ConfigMap that says so."""
        self.jobs: defaultdict[str, dict[str, Job]] = defaultdict(dict)
        self.pods: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        """By the uid of their Job: its name may have been another's before."""
        self.events: defaultdict[str, dict[str, Event]] = defaultdict(dict)
        """By the uid of what they are about."""
        self._gone: dict[str, None] = {}
        self._asked: dict[str, records.Asked] = {}
        self._results: dict[str, tuple[str, Mapping[Slot, StepResult]]] = {}
        self._job_of_pod: dict[str, str] = {}
        self._run_of_job: dict[str, str] = {}
        self._vanished: defaultdict[str, dict[Slot, int]] = defaultdict(dict)
        self._attempts: dict[str, Attempt] = {}

    def see(self, seen: ConfigMap | Job | Pod | Event) -> str:
        """Takes in an object as it now is; says which run it belongs to ('' for none).

        News come from the watch and from the answers to our own calls, in any order: what is older than what is known, or known to be
        gone, is not taken in.
        """
        if seen.metadata.uid in self._gone or self._is_stale(seen):
            return ""
        match seen:
            case ConfigMap():
                return self._see_config_map(seen)
            case Job():
                run = seen.metadata.labels.get(names.RUN, "")
                self.jobs[run][seen.metadata.name] = seen
                self._attempts.pop(seen.metadata.name, None)
                self._run_of_job[seen.metadata.name] = run
                return run
            case Pod():
                job = seen.metadata.labels.get(JOB_NAME_LABEL, "")
                self.pods[seen.metadata.labels.get(JOB_UID_LABEL, "")][seen.metadata.name] = seen
                self._attempts.pop(job, None)
                self._job_of_pod[seen.metadata.name] = job
                return seen.metadata.labels.get(names.RUN, "")
            case Event():
                about = self.events[seen.involved_object.uid]
                about[seen.metadata.name] = seen
                while len(about) > EVENTS_KEPT:
                    del about[next(iter(about))]
                return self._run_of(seen.involved_object.name)

    def forget(self, gone: ConfigMap | Job | Pod | Event) -> str:
        """Takes note that an object is gone; says which run it belonged to.

        A pod that had ended is remembered: its Job may still have to be explained, and its output read.
        """
        name = gone.metadata.name
        self._gone[gone.metadata.uid] = None
        while len(self._gone) > GONE_KEPT:
            del self._gone[next(iter(self._gone))]
        match gone:
            case ConfigMap():
                if name == LIMITS:
                    self.limits = None
                self.places.pop(name, None)
                self.records.pop(name, None)
                self._results.pop(name, None)
                run = gone.metadata.labels.get(names.RUN, "")
                self.owned[run].pop(name, None)
                if run == name:
                    self._forget_run(run)
                return run
            case Job():
                run = gone.metadata.labels.get(names.RUN, "")
                self._run_of_job.pop(name, None)
                if not read(gone).state.is_end and (attempt := self._attempt(gone)):
                    self._vanished[run][attempt.role, attempt.step] = attempt.number
                self.jobs[run].pop(name, None)
                self._attempts.pop(name, None)
                for pod in self.pods.pop(gone.metadata.uid, {}).values():
                    self._job_of_pod.pop(pod.metadata.name, None)
                    self.events.pop(pod.metadata.uid, None)
                self.events.pop(gone.metadata.uid, None)
                return run
            case Pod():
                if gone.status.phase not in ("Succeeded", "Failed"):
                    self.pods[gone.metadata.labels.get(JOB_UID_LABEL, "")].pop(name, None)
                    self._attempts.pop(gone.metadata.labels.get(JOB_NAME_LABEL, ""), None)
                return gone.metadata.labels.get(names.RUN, "")
            case Event():
                about = self.events.get(gone.involved_object.uid, {})
                about.pop(name, None)
                if not about:
                    self.events.pop(gone.involved_object.uid, None)
                return ""

    def _forget_run(self, run: str) -> None:
        """The run's record is gone, and with it go its Jobs: nothing of it is worth remembering once they are."""
        self.owned.pop(run, None)
        self._vanished.pop(run, None)

    def _see_config_map(self, seen: ConfigMap) -> str:
        name = seen.metadata.name
        if name == LIMITS:
            self.limits = seen
            return ""
        match seen.metadata.labels.get(names.ROLE):
            case "run":
                self.records[name] = seen
                return name
            case "limit":
                self.places[name] = seen
            case "part" | "page":
                run = seen.metadata.labels.get(names.RUN, "")
                self.owned[run][name] = seen
                return run
        return ""

    def _is_stale(self, seen: ConfigMap | Job | Pod | Event) -> bool:
        known: ConfigMap | Job | None = None
        if isinstance(seen, ConfigMap):
            name, run = seen.metadata.name, seen.metadata.labels.get(names.RUN, "")
            known = self.records.get(name) or self.places.get(name) or self.owned.get(run, {}).get(name)
        elif isinstance(seen, Job):
            known = self.jobs[seen.metadata.labels.get(names.RUN, "")].get(seen.metadata.name)
        if known is None or known.metadata.uid != seen.metadata.uid:
            return False
        old, new = known.metadata.resource_version, seen.metadata.resource_version
        return old.isdigit() and new.isdigit() and int(new) < int(old)

    def _run_of(self, name: str) -> str:
        """The run of a Job or pod by its name: events carry no labels of ours."""
        return self._run_of_job.get(self._job_of_pod.get(name, name), "")

    def unexplained(self, run: str) -> list[Job]:
        """The run's Jobs that have ended though no pod of theirs was seen to: one stream may run ahead of the other."""
        late = []
        for job in self.jobs[run].values():
            attempt = self._attempt(job)  # worked out once for all that was seen: this is asked at every look
            if attempt is None or not attempt.state.is_end or attempt.stopping:
                continue
            if not (job.status.succeeded or job.status.failed):
                continue
            if not any(pod.status.phase in ("Succeeded", "Failed") for pod in self.pods[job.metadata.uid].values()):
                late.append(job)
        return late

    def workflow(self, run: str) -> Workflow | None:
        """The run's workflow; None when its record, or a part of it, is not there."""
        asked = self.asked(run)
        return asked.workflow if asked else None

    def asked(self, run: str) -> records.Asked | None:
        """What the run was asked to do. It never changes, and is long: it is read once, and the last few are kept."""
        record = self.records.get(run)
        if record is None:
            return None
        known = self._asked.pop(record.metadata.uid, None) or records.asked(record, self.owned.get(run))
        if known is not None:
            self._asked[record.metadata.uid] = known
            while len(self._asked) > ASKED_KEPT:
                del self._asked[next(iter(self._asked))]
        return known

    def results(self, run: str) -> Mapping[Slot, StepResult]:
        """What is recorded of the run's steps: what was carried over, what its record says, and its pages. Each is read once a version."""
        asked = self.asked(run)
        found = asked.results() if asked else {}
        record = self.records.get(run)
        pages = [each for each in self.owned.get(run, {}).values() if each.metadata.labels.get(names.ROLE) == "page"]
        for each in ([record] if record else []) + pages:
            name, version = each.metadata.name, each.metadata.resource_version
            known = self._results.get(name)
            if known is None or known[0] != version:
                known = self._results[name] = (version, records.results(each))
            found.update(known[1])
        return found

    def observe(self, run: str, refusals: Mapping[tuple[Role, str, int], Refusal], unexplained: Collection[str] = ()) -> Observed | None:
        """What a decision about this run may depend on; None when its record is gone.

        `unexplained`: Jobs that have ended and whose pods are still to be seen. They count as running: one stream may run ahead of the other.
        """
        record = self.records.get(run)
        if record is None:
            return None
        end = records.end(record)
        attempts: defaultdict[Slot, list[Attempt]] = defaultdict(list)
        for job in self.jobs[run].values():
            attempt = self._attempt(job)
            if attempt and attempt.job in unexplained:
                attempt = replace(attempt, state=State.RUNNING, reason="", message="", finished=None)
            if attempt:
                attempts[attempt.role, attempt.step].append(attempt)
        return Observed(
            created=record.metadata.creation_timestamp or _EPOCH,
            state=end.state if end else State.PENDING,
            reason=end.reason if end else "",
            finished=end.finished if end else None,
            cancelled=names.CANCEL in record.metadata.annotations,
            held=names.HELD in record.metadata.annotations,
            recorded=self.results(run),
            vanished=self._vanished.get(run, {}),
            attempts={slot: tuple(sorted(each, key=lambda attempt: attempt.number)) for slot, each in attempts.items()},
            refusals=refusals,
        )

    def _attempt(self, job: Job) -> Attempt | None:
        """What the Job tells, with its pods; worked out once for all that was seen of them."""
        name = job.metadata.name
        known = self._attempts.get(name)
        if known:
            return known
        pods = self.pods.get(job.metadata.uid, {})
        started = any(pod.status.phase in ("Running", "Succeeded", "Failed") for pod in pods.values())
        labels, annotations = job.metadata.labels, job.metadata.annotations
        try:
            role, number = Role(labels[names.ROLE]), int(labels[names.ATTEMPT])
            step = annotations[names.STEP]
        except (KeyError, ValueError):
            return None  # labelled by hand: not one of ours
        ending = read(job)
        if started and ending.reason == Reason.WAITING_FOR_POD:
            ending = Ending(state=State.RUNNING)  # the pod says so before its Job does
        found = outputs(list(pods.values())) if ending.state is State.SUCCEEDED else None
        attempt = Attempt(
            role=role,
            step=step,
            number=number,
            job=name,
            state=ending.state,
            reason=ending.reason,
            message=ending.message,
            created=job.metadata.creation_timestamp or _EPOCH,
            started=job.status.start_time,
            finished=ending.finished,
            stopping=names.STOP in annotations,
            stop_deadline=_stop_deadline(job),
            deleting=job.metadata.deletion_timestamp is not None,
            outputs=found,
        )
        self._attempts[name] = attempt
        return attempt

    def explain(self, run: str, view: StepView) -> StepView:
        """The step with its diagnosis, where there is something to explain."""
        if view.state in (State.SUCCEEDED, State.SKIPPED) or not view.job:
            return view
        job = self.jobs[run].get(view.job)
        if job is None:
            return view
        pods = list(self.pods.get(job.metadata.uid, {}).values())
        about: list[Event] = [*self.events.get(job.metadata.uid, {}).values()]
        for pod in pods:
            about += self.events.get(pod.metadata.uid, {}).values()
        diagnosis = diagnose(job, pods, about)
        return replace(view, diagnosis=diagnosis) if diagnosis else view


def _stop_deadline(job: Job) -> datetime | None:
    """When the pods of a Job that is being stopped must be gone: their grace period and a minute after."""
    try:
        asked = datetime.fromisoformat(job.metadata.annotations[names.STOPPED_AT])
    except (KeyError, ValueError):
        return None
    if asked.tzinfo is None:
        return None
    grace = job.spec.template.spec.termination_grace_period_seconds
    return asked + timedelta(seconds=30 if grace is None else grace) + STOP_MARGIN


def show(
    sight: Sight, run: str, workflow: Workflow, namespace: str, decision: Decision, created: datetime, unreachable: str = ""
) -> RunView:
    """A run as it stands, each step explained."""
    record, asked = sight.records.get(run), sight.asked(run)
    return RunView(
        id=run,
        workflow=workflow.name,
        namespace=namespace,
        trigger=record.metadata.labels.get(names.TRIGGER, "") if record else "",
        state=decision.state,
        reason=decision.reason,
        started=created,
        finished=decision.finished,
        steps=tuple(sight.explain(run, step) for step in decision.steps),
        origin=asked.origin if asked else {},
        unreachable=unreachable,
    )
