"""What the watches have seen, by run; and from it, what a decision may depend on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from jobyard.engine import record as records
from jobyard.engine.decision import Attempt, Decision, Observed, Refusal, Slot
from jobyard.engine.limits import LIMITS
from jobyard.model import names
from jobyard.model.diagnosis import diagnose
from jobyard.model.job import Ending, outputs, read
from jobyard.model.objects import ConfigMap, Event, Job, Pod
from jobyard.model.run import Reason, Role, RunView, State, StepView
from jobyard.model.workflow import Workflow

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"

STOP_MARGIN = timedelta(minutes=1)
"""How long after their grace period the pods of a stopped Job may take before they are deleted by force: a node may be dead."""

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Sight:
    """The namespace as the watches saw it last: records, Jobs, pods and events that concern our runs."""

    def __init__(self) -> None:
        self.records: dict[str, ConfigMap] = {}
        self.limits: ConfigMap | None = None
        self.places: dict[str, ConfigMap] = {}
        """Who holds places in limits, by the name of the ConfigMap that says so."""
        self.jobs: defaultdict[str, dict[str, Job]] = defaultdict(dict)
        self.pods: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        self.events: defaultdict[str, dict[str, Event]] = defaultdict(dict)
        self._gone: set[str] = set()
        self._vanished: defaultdict[str, dict[Slot, int]] = defaultdict(dict)
        self._attempts: dict[str, tuple[tuple[str, int, bool], Attempt]] = {}

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
                return run
            case Pod():
                self.pods[seen.metadata.labels.get(JOB_NAME_LABEL, "")][seen.metadata.name] = seen
                return seen.metadata.labels.get(names.RUN, "")
            case Event():
                self.events[seen.involved_object.name][f"{seen.type}/{seen.reason}"] = seen
                return self._run_of(seen.involved_object.name)

    def forget(self, gone: ConfigMap | Job | Pod | Event) -> str:
        """Takes note that an object is gone; says which run it belonged to.

        A pod that had ended is remembered: its Job may still have to be explained, and its output read.
        """
        name = gone.metadata.name
        match gone:
            case ConfigMap():
                if name == LIMITS:
                    self.limits = None
                self.places.pop(name, None)
                self.records.pop(name, None)
                return name
            case Job():
                run = gone.metadata.labels.get(names.RUN, "")
                self._gone.add(gone.metadata.uid)
                if not read(gone).state.is_end and (attempt := self._attempt(gone)):
                    self._vanished[run][attempt.role, attempt.step] = attempt.number
                self.jobs[run].pop(name, None)
                self._attempts.pop(name, None)
                self.pods.pop(name, None)
                return run
            case Pod():
                if gone.status.phase not in ("Succeeded", "Failed"):
                    self.pods[gone.metadata.labels.get(JOB_NAME_LABEL, "")].pop(name, None)
                return gone.metadata.labels.get(names.RUN, "")
            case Event():
                return ""

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
        return ""

    def _is_stale(self, seen: ConfigMap | Job | Pod | Event) -> bool:
        known: ConfigMap | Job | None = None
        if isinstance(seen, ConfigMap):
            known = self.records.get(seen.metadata.name) or self.places.get(seen.metadata.name)
        elif isinstance(seen, Job):
            known = self.jobs[seen.metadata.labels.get(names.RUN, "")].get(seen.metadata.name)
        if known is None or known.metadata.uid != seen.metadata.uid:
            return False
        old, new = known.metadata.resource_version, seen.metadata.resource_version
        return old.isdigit() and new.isdigit() and int(new) < int(old)

    def _run_of(self, name: str) -> str:
        """The run of a Job or pod by its name: events carry no labels of ours."""
        for run, jobs in self.jobs.items():
            if name in jobs or any(name in self.pods[job] for job in jobs if job in self.pods and name.startswith(job)):
                return run
        return ""

    def unexplained(self, run: str) -> list[Job]:
        """The run's Jobs that have ended though no pod of theirs was seen to: one stream may run ahead of the other."""
        late = []
        for name, job in self.jobs[run].items():
            if not read(job).state.is_end or job.metadata.annotations.get(names.STOP):
                continue
            if not (job.status.succeeded or job.status.failed):
                continue
            if not any(pod.status.phase in ("Succeeded", "Failed") for pod in self.pods[name].values()):
                late.append(job)
        return late

    def observe(self, run: str, refusals: Mapping[tuple[Role, str, int], Refusal]) -> Observed | None:
        """What a decision about this run may depend on; None when its record is gone."""
        record = self.records.get(run)
        if record is None:
            return None
        end = records.end(record)
        attempts: defaultdict[Slot, list[Attempt]] = defaultdict(list)
        for job in self.jobs[run].values():
            attempt = self._attempt(job)
            if attempt:
                attempts[attempt.role, attempt.step].append(attempt)
        return Observed(
            created=record.metadata.creation_timestamp or _EPOCH,
            state=end.state if end else State.PENDING,
            reason=end.reason if end else "",
            finished=end.finished if end else None,
            cancelled=names.CANCEL in record.metadata.annotations,
            recorded=records.results(record),
            vanished=self._vanished.get(run, {}),
            attempts={slot: tuple(sorted(each, key=lambda attempt: attempt.number)) for slot, each in attempts.items()},
            refusals=refusals,
        )

    def _attempt(self, job: Job) -> Attempt | None:
        name = job.metadata.name
        pods = self.pods.get(name, {})
        started = any(pod.status.phase in ("Running", "Succeeded", "Failed") for pod in pods.values())
        stamp = (job.metadata.resource_version, len(pods), started)
        known = self._attempts.get(name)
        if known and known[0] == stamp:
            return known[1]
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
        if not (ending.state is State.SUCCEEDED and found is None):
            self._attempts[name] = (stamp, attempt)
        return attempt

    def explain(self, run: str, view: StepView) -> StepView:
        """The step with its diagnosis, where there is something to explain."""
        if view.state in (State.SUCCEEDED, State.SKIPPED) or not view.job:
            return view
        job = self.jobs[run].get(view.job)
        pods = list(self.pods.get(view.job, {}).values())
        about: list[Event] = [*self.events.get(view.job, {}).values()]
        for pod in pods:
            about += self.events.get(pod.metadata.name, {}).values()
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
    record = sight.records.get(run)
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
        unreachable=unreachable,
    )
