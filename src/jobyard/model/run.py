"""RunRequest, Run, Outcome; State and Reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jobyard.model import names

if TYPE_CHECKING:
    from jobyard.model.back_off import Tries
    from jobyard.model.cause import Diagnosis
    from jobyard.model.objects import Manifest
    from jobyard.model.workflow import Workflow


class State(StrEnum):
    """Where a run or a step stands. The last five are ends; an end never changes.

    A crash of ours moves nothing: state is read from the cluster, so a restarted process sees what the dead one would have seen.
    """

    PENDING = "pending"
    """In: the run's record exists, or the step waits (for a step, a limit, a back-off, a pod). Out: a pod runs, or an end."""
    RUNNING = "running"
    """In: a pod of the Job runs or has succeeded. Out: Kubernetes says Complete or Failed, somebody stops it, the Job vanishes; or a pod
    failed, none runs, and Kubernetes will make another (PENDING, RetryBackOff)."""
    SUCCEEDED = "succeeded"
    """In: the condition Complete is True (a run: every step that had to run succeeded)."""
    FAILED = "failed"
    """In: the condition Failed is True, ours or its own deadline passed, or the cluster refused the Job for good; retries are used up."""
    CANCELLED = "cancelled"
    """In: somebody asked to, and the Job was stopped or never made."""
    LOST = "lost"
    """In: the Job that we know was made is gone, and nobody saw it end."""
    SKIPPED = "skipped"
    """Steps only. In: its `when` did not come true, or the run ended before its turn."""

    @property
    def is_end(self) -> bool:
        return self not in (State.PENDING, State.RUNNING)


class Reason(StrEnum):
    """Why, in one stable word. Kubernetes' own reasons (`BackoffLimitExceeded`, `ImagePullBackOff`) stand beside these as they are."""

    WAITING_FOR_STEP = "WaitingForStep"
    WAITING_FOR_LIMIT = "WaitingForLimit"
    WAITING_FOR_POD = "WaitingForPod"
    RETRY_BACK_OFF = "RetryBackOff"
    QUOTA_EXCEEDED = "QuotaExceeded"
    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"
    TIMEOUT = "Timeout"
    START_TIMEOUT = "StartTimeout"
    STEP_FAILED = "StepFailed"
    NEEDS_FAILED = "NeedsFailed"
    NOT_NEEDED = "NotNeeded"
    RUN_FAILED = "RunFailed"
    NAME_TAKEN = "NameTaken"
    REFUSED = "Refused"
    OUTPUT_MISSING = "OutputMissing"
    JOB_VANISHED = "JobVanished"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    NO_RIGHT = "NoRight"
    """The cluster does not let us, by our rights or our credentials. That passes by itself: a token is renewed, a RoleBinding replaced."""
    INCOMPLETE = "Incomplete"
    """Who submitted it died before all was there that its Jobs need; the same request again completes it."""
    ENGINE_FAILED = "EngineFailed"
    WAITING_FOR_NAME = "WaitingForName"
    HELD = "Held"
    REUSED = "Reused"


class Role(StrEnum):
    """What a Job is for."""

    STEP = "step"
    REVERT = "revert"


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """How a step (or its revert Job) stands: what a Job tells, what the run's record keeps, and what is shown are this, and more."""

    state: State
    reason: str = ""
    message: str = ""
    attempt: int = 0
    job: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    outputs: Mapping[str, Any] | None = None

    def facts(self) -> dict[str, Any]:
        """These fields alone, also of a value that has more: to make another value of the same result."""
        return {each: getattr(self, each) for each in _RESULT}


_RESULT = tuple(each.name for each in fields(StepResult))


@dataclass(frozen=True, kw_only=True)
class StepView(StepResult):
    """A step as it stands: what is shown, written as JSON, and asked for by `why`."""

    name: str
    role: Role = Role.STEP
    needs: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = None
    tries: Tries | None = None
    """Between two tries: how often it failed, and when it is tried again."""
    last_lines: tuple[str, ...] = ()
    """The end of its log, where somebody fetched it: of what failed, and of what is between two tries."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a trigger asks for. The same trigger and key mean the same run, whatever else is asked."""

    trigger: str
    key: str
    workflow: Workflow
    namespace: str = ""
    """Where it runs; '' for the engine's own."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    carried: Mapping[tuple[Role, str], StepResult] = field(default_factory=dict)
    """Results of an earlier run that this one goes on from: those steps do not run again."""
    waits: bool = True
    """While a limit or a quota has no room, or a Job is refused: submit waits, or raises, and the source keeps what it has. Without, the run
    is there in any case, and can be seen to wait or to have failed."""
    service: str = ""
    """The service that asks; put in by its engine."""
    held: bool = False
    """Nothing of the run starts until `begin`: for a source that must let go first, and may fail to."""
    accepted: bool = False
    """Submit returns only when the cluster has accepted the Jobs that start first; raises Rejected when it refuses one."""
    key_names_workflow: bool = False
    """The key stands for this very workflow (a commit's file, a key drawn just now): it never comes with another."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Where it comes from, in the source's own words (a commit, a file); kept with the run. Never a secret."""
    objects: tuple[Manifest, ...] = ()
    """Objects that its Jobs use (ConfigMaps, Secrets), to be there before them and to go with the run. Kept nowhere else. One that says
    `generateName` (with the run's id in it) has its name drawn when the record is made, wherever the Jobs mention it too."""
    literals: tuple[tuple[str | int, ...], ...] = ()
    """Paths in the manifest of a run's only Job whose values the trigger put in and nobody else may be told (a payload, a password)."""

    @cached_property
    def run_id(self) -> str:
        """Before it is known whether another request has the same: `engine.record` has the rule for that."""
        return names.run_id(self.trigger, self.key)

    @property
    def prefix(self) -> str:
        return names.prefix(self.workflow.name)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of a workflow: what its record says without its workflow being read. As it stood when it was asked for."""

    id: str
    """From trigger and key alone."""
    name: str
    """Of its record, the id with something readable before it: what people know it by."""
    uid: str
    """Of its record: another record of the same name is another run."""
    namespace: str
    trigger: str
    key: str
    workflow: str
    """Its name."""
    created: datetime
    state: State = State.PENDING
    reason: str = ""
    finished: datetime | None = None
    held: bool = False
    released: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)
    existed: bool = False
    """The key was known before this submit."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as it stands."""

    id: str
    name: str
    workflow: str
    namespace: str
    trigger: str
    state: State
    reason: str = ""
    started: datetime
    finished: datetime | None = None
    steps: tuple[StepView, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict)
    unreachable: str = ""
    """Why the cluster can't be asked just now; empty while it can."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended, with a diagnosis for each step that did not succeed."""

    state: State
    reason: str
    view: RunView
