"""Every error of ours: one root, classes by what happens next. A class has one sentence, with its facts as fields of it.

A docstring tells developers when an error is raised; what users read is the sentence, which `python -OO` leaves alone.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

if TYPE_CHECKING:
    from jobyard.model.finding import Finding


@dataclass_transform(kw_only_default=True, eq_default=False)
class JobyardError(Exception):
    """The root. A subclass is a dataclass by itself: its annotated names are the facts that it is raised with, by keyword."""

    sentence: ClassVar[str] = "something went wrong"
    """What users read: what was found, what was expected, what to do. `{fact}` stands for a fact."""
    exit_code: ClassVar[int] = 1

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        dataclass(kw_only=True, eq=False)(cls)

    def __str__(self) -> str:
        return self.sentence.format_map(vars(self))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[type[JobyardError]], dict[str, Any]]:
        return copyreg.__newobj__, (type(self),), vars(self)  # type: ignore[attr-defined]


def innermost(error: BaseException) -> BaseException:
    """The first error of a group of groups: what a person wants to read."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def place_of(error: BaseException) -> str:
    """The type of an error that nobody foresaw, and where it was raised: what may be told of it, for its text may quote what nobody may read."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" in {PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{where}"


def number(count: int, noun: str) -> str:
    """`1 mistake`, `2 mistakes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# --- wrong input: nothing was done; the user mends it and tries again ---


class WrongInput(JobyardError):
    """What a user gave is wrong, and stays so until the user mends it."""

    sentence = "the input is wrong"
    exit_code = 2


class InvalidFiles(WrongInput):
    """Files with mistakes in them. The mistakes are the findings, each with its place."""

    sentence = "{count} in {files}; nothing was created."
    findings: Sequence[Finding]
    count: str
    files: str

    def __init__(self, findings: Sequence[Finding]) -> None:
        errors = [finding for finding in findings if finding.is_error]
        files = list(dict.fromkeys(finding.position.file for finding in errors))
        self.findings = findings
        self.count = number(len(errors), "mistake")
        self.files = files[0] if len(files) == 1 else f"{len(files)} files"


class InvalidSettings(InvalidFiles):
    """A service's settings with mistakes in them."""

    sentence = "{count} in {files}; nothing is served."

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(findings)


class InvalidParameter(WrongInput):
    """A parameter that the workflow does not declare, or a value that it does not take. `hint` follows the sentence."""

    sentence = "parameter {name}: {found}; expected {expected}{hint}"
    name: str
    found: str
    expected: str
    hint: str


class PlaceholderUnknown(WrongInput):
    """A placeholder that nothing can fill."""

    sentence = "{{{{ {placeholder} }}}} has no value: {why}"
    placeholder: str
    why: str


class NoSuchRun(WrongInput):
    """The namespace holds no record of the run. `hint` follows the sentence."""

    sentence = "no run {run} in namespace {namespace}; `jobyard runs` lists them{hint}"
    run: str
    namespace: str
    hint: str


class NoSuchRunOrJob(NoSuchRun):
    """Nor is there a Job of that name, where one would have done."""

    sentence = "no run or Job {run} in namespace {namespace}; `jobyard runs` lists the runs{hint}"


class IsJob(WrongInput):
    """A run was asked for, by the name of a Job. `hint` says what to do instead."""

    sentence = "{name} is a Job, not a run; {hint}"
    name: str
    hint: str


class NotANamespace(WrongInput):
    """Something is named as a namespace that can't be one."""

    sentence = "{namespace} is not a namespace; expected lower-case letters, digits and -, at most 63, a letter or digit first and last"
    namespace: str


class TooManyNamespaces(WrongInput):
    """One process looks after as many namespaces as it can."""

    sentence = (
        "this process already serves {count} namespaces, its maximum, so {namespace} is not served. Serve some of them by another process, "
        "or let fewer be named (--allow-namespace NAME)"
    )
    namespace: str
    count: int


class NoSuchPage(WrongInput):
    """A page of a list is asked for by something else than what a page before it said."""

    sentence = "there is no such page of the list; start the list again"


class NotEnded(WrongInput):
    """Only a run that has ended can be run again."""

    sentence = "run {run} has not ended ({state}): wait for it (`jobyard run --resume {run}`) or cancel it (`jobyard cancel {run}`)"
    run: str
    state: str


class NothingFailed(WrongInput):
    """The failed steps of a run are to be run again, and there are none."""

    sentence = "no step of run {run} failed: leave --failed out to run all of them again"
    run: str


class NoSuchStep(WrongInput):
    """The run is there, the step is not."""

    sentence = "run {run} has no step {step}; {hint}"
    run: str
    step: str
    hint: str


class NoSuchLimit(WrongInput):
    """A limit that nobody has set can't be removed."""

    sentence = "no limit {limit} is set in namespace {namespace}; {hint}"
    limit: str
    namespace: str
    hint: str


class LimitKept(WrongInput):
    """A service's settings say a limit's number, and they win: what was set by hand would be set back."""

    sentence = (
        "limit {limit} in namespace {namespace} is set by service {service}, whose settings win: change it there (`spec.limits`){hint}"
    )
    limit: str
    namespace: str
    service: str
    hint: str


# --- the cluster can't be reached, or won't ---


class NoCluster(JobyardError):
    """Nothing names a cluster to work with."""

    sentence = (
        "no cluster: {why}. Name one with a kubeconfig (--kubeconfig FILE, KUBECONFIG or ~/.kube/config, and --context NAME), "
        "or add --local to run on this machine"
    )
    exit_code = 3
    why: str


class NoLocalCluster(NoCluster):
    """The local cluster was asked for, and does not run or is another: `why` is a whole sentence."""

    sentence = "{why}"


class InvalidKubeconfig(JobyardError):
    """A kubeconfig, or what it points to, can't be used."""

    sentence = "kubeconfig {file}: {what}; expected {expected}. {remedy}"
    exit_code = 3
    file: str | PathLike[str]
    what: str
    expected: str
    remedy: str


class Unavailable(JobyardError):
    """Maybe, later: the call may or may not have been done, and may be repeated, after `retry_after` seconds where that is known."""

    sentence = "the cluster at {server} {what}; {remedy}"
    exit_code = 3
    server: str
    what: str
    remedy: str = "this is usually temporary"
    retry_after: float | None = None


class Unreachable(Unavailable):
    """Nobody listens at the address, its host is not known, or who answers there is not trusted: of an address that never worked, for good."""

    sentence = "the cluster at {server} {what}; {remedy}"
    remedy: str = "check that it is running and that the address is right"


class NoAnswer(Unavailable):
    """A call took longer than there was time for, or what was being told broke off, whoever was asked. `what` is a whole sentence."""

    sentence = "{what}; {remedy}"
    server: str = ""


class InTheWay(Unavailable):
    """Another object, or others' changes, were in the way of a call for longer than there was time for: that is no refusal."""

    sentence = "it was not possible to {action} within {seconds:.0f} s: {message}; {remedy}"
    server: str = ""
    what: str = "has something else in the way"
    action: str
    message: str
    seconds: float
    remedy: str = "perhaps the old one is still being deleted (a finalizer may keep it), or others change it all the time. Try again later"


class Unforeseen(Unavailable):
    """An answer that nothing in us foresaw, and broke over: the next may be another, so the call may be repeated."""

    sentence = "the cluster sent an answer that Jobyard can't handle ({what}); {remedy}"
    server: str = ""

    @classmethod
    def of(cls, error: Exception) -> Unforeseen:
        return cls(what=f"{type(error).__name__}: {error}")


class CredentialsUnavailable(Unavailable):
    """What gave us credentials before can't renew them now."""

    sentence = "the credentials have expired and can't be renewed: {what}; {remedy}"
    server: str = ""


class RightsUnavailable(Unavailable):
    """Rights are missing just now: they may be given again, so the call may be repeated."""

    sentence = "rights are missing in namespace {namespace}: {what}; {remedy}"
    server: str = ""
    namespace: str


class LaunchTooSlow(NoAnswer):
    """A Job could not be made in the time that a place in a limit is good for it. Whoever launches takes the place anew."""

    sentence = "run {run} could not be started within {seconds:.0f} s of taking its place in a limit; it is tried again"
    what: str = ""
    run: str
    seconds: float


class PlaceUnavailable(Unavailable):
    """The cluster refuses what says who holds a place in a limit. That is no word about the run that needs it."""

    sentence = "no place in a limit can be taken in namespace {namespace}: {what}; {remedy}"
    server: str = ""
    namespace: str


class NoSuchNamespace(JobyardError):
    """The cluster knows no namespace of that name. `hint` follows the sentence."""

    sentence = "namespace {namespace} does not exist: check the name (-n), or create it with `kubectl create namespace {namespace}`{hint}"
    exit_code = 3
    namespace: str
    hint: str


class HiddenNamespace(JobyardError):
    """Nothing may be listed in the namespace, and whether it exists may not be asked."""

    sentence = (
        "namespace {namespace} does not exist, or you may not see what is in it: check the name (-n), or ask the cluster's administrator "
        "for rights (`jobyard manifests --rbac -n {namespace}` prints them)"
    )
    exit_code = 3
    namespace: str


class MissingRights(JobyardError):
    """A review of our rights says that some are missing, before anything was begun."""

    sentence = (
        "no right to {rights} in namespace {namespace}. `jobyard manifests --rbac -n {namespace} | kubectl apply -f -` creates an "
        "account that has what it takes; or ask the cluster's administrator"
    )
    exit_code = 3
    rights: str
    namespace: str


class Rejected(JobyardError):
    """Never: the cluster understood the call and refuses it. `reason` is Kubernetes' own word, or one of ours."""

    sentence = "the cluster refused to {action}: {message}"
    exit_code = 3
    action: str
    status: int
    reason: str
    message: str


class Unauthorized(Rejected):
    """401."""

    sentence = "the cluster does not accept the credentials (to {action}): {message}. Log in again, or name another context"


class Forbidden(Rejected):
    """403, and neither a quota nor a namespace that goes: a missing right, or an admission hook. Where it is a right, who has none, which in
    words (`create jobs.batch`), and in which namespace."""

    sentence = "the cluster does not allow {who} to {action}: {message}"
    who: str = "Jobyard"
    right: str = ""
    namespace: str = ""


class NotFound(Rejected):
    """404."""

    sentence = "not found: {message}"


class NameTaken(Rejected):
    """Something that is not this run's has a name that the run wants; it was left alone, and nothing was started."""

    sentence = "{message}"
    exit_code = 2


class Conflict(Rejected):
    """409: of a create, the name is taken; of an update, somebody was faster."""

    sentence = "the object exists already or has changed in the meantime: {message}"


class WatchExpired(Rejected):
    """410."""

    sentence = "the watch is too old to go on ({message}); a fresh list follows"


class NamespaceTerminating(Rejected):
    """403, since the namespace is going."""

    sentence = "the namespace is being deleted: {message}"


class NoRoom(Rejected):
    """403, since a quota is full: room may come."""

    sentence = "the namespace's quota is full: {message}"


# --- a run that can't go on, or can't be run again ---


class RunDamaged(JobyardError):
    """A run's record does not say any more what is to be run."""

    sentence = (
        "the record of run {run} in namespace {namespace} can't be read: somebody changed it, or a part of it is missing. "
        "Delete it and run its file again"
    )
    exit_code = 3
    run: str
    namespace: str


class EngineFailed(JobyardError):
    """Something in us broke over this one run; the others go on."""

    sentence = "run {run} can't go on: {why}. This is a bug in Jobyard (-vv prints its traceback); the run's Jobs go on"
    exit_code = 3
    run: str
    why: str


class CannotRerun(WrongInput):
    """What a run was made of is not to be had any more."""

    sentence = "run {run} can't be run again: {why}. {remedy}"
    run: str
    why: str
    remedy: str


# --- Git ---


class NoRepository(WrongInput):
    """No repository, or none that holds jobs, where one was looked for."""

    sentence = "no repository of jobs in {path}: {why}. Name one with --repository URL, or make one with `jobyard git init`"
    path: str | PathLike[str]
    why: str


class GitFailed(JobyardError):
    """git did not do what it was asked. `remedy` follows the sentence."""

    sentence = "git {action} failed: {message}{remedy}"
    exit_code = 3
    action: str
    message: str
    remedy: str


class Overtaken(GitFailed):
    """A push or merge lost to another: look again, and do it anew."""

    sentence = "the branch moved on in the meantime ({message})"
