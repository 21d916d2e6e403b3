"""Every error of ours: one root, classes by what happens next. A class's docstring is its message; its facts are attributes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from jobyard.model.finding import Finding


class JobyardError(Exception):
    """Something went wrong: {detail}"""

    exit_code: ClassVar[int] = 1

    def __init__(self, **facts: object) -> None:
        for name, value in facts.items():
            setattr(self, name, value)
        super().__init__((inspect.getdoc(type(self)) or "").format(**facts))


def innermost(error: BaseException) -> BaseException:
    """The first error of a group of groups: what a person wants to read."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def number(count: int, noun: str) -> str:
    """`1 mistake`, `2 mistakes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# --- wrong input: nothing was done; the user mends it and tries again ---


class WrongInput(JobyardError):
    """{detail}"""

    exit_code = 2


class InvalidFiles(WrongInput):
    """{count} in {files}; nothing was created."""

    findings: Sequence[Finding]

    def __init__(self, findings: Sequence[Finding]) -> None:
        errors = [finding for finding in findings if finding.is_error]
        files = list(dict.fromkeys(finding.position.file for finding in errors))
        super().__init__(
            count=number(len(errors), "mistake"), files=files[0] if len(files) == 1 else f"{len(files)} files", findings=findings
        )


class InvalidParameter(WrongInput):
    """parameter {name}: {found}; expected {expected}. {remedy}"""


class PlaceholderUnknown(WrongInput):
    """{{{{ {placeholder} }}}} has no value: {why}"""


class NoSuchRun(WrongInput):
    """no run {run} in namespace {namespace}; `jobyard runs` lists those there are{hint}"""


class NotEnded(WrongInput):
    """run {run} has not ended ({state}): wait for it (`jobyard run --resume {run}`) or cancel it (`jobyard cancel {run}`)"""


class NothingFailed(WrongInput):
    """every step of run {run} succeeded: leave --failed out to run all of them again"""


class NoSuchStep(WrongInput):
    """run {run} has no step {step}; {hint}"""


# --- the cluster can't be reached, or won't ---


class NoCluster(JobyardError):
    """no cluster: {why}. Name one by a kubeconfig (--kubeconfig FILE, KUBECONFIG or ~/.kube/config, with --context NAME), or add --local to run on this machine"""

    exit_code = 3


class NoLocalCluster(NoCluster):
    """no local cluster: {why}"""


class InvalidKubeconfig(JobyardError):
    """kubeconfig {file}: {what}; expected {expected}. {remedy}"""

    exit_code = 3


class Unavailable(JobyardError):
    """the cluster at {server} {what}; {remedy}"""

    exit_code = 3
    retry_after: float | None
    server: str
    what: str

    def __init__(self, *, server: str, what: str, remedy: str = "tried again by itself", retry_after: float | None = None) -> None:
        super().__init__(server=server, what=what, remedy=remedy, retry_after=retry_after)


class Rejected(JobyardError):
    """the cluster refused to {action}: {message}"""

    exit_code = 3
    status: int
    reason: str
    message: str

    def __init__(self, *, action: str, status: int, reason: str, message: str) -> None:
        super().__init__(action=action, status=status, reason=reason, message=message)


class Unauthorized(Rejected):
    """the cluster does not accept the credentials it was given ({action}): {message}. Log in again, or name another context"""


class NotFound(Rejected):
    """not found: {message}"""


class Conflict(Rejected):
    """the object changed meanwhile or exists already: {message}"""


class WatchExpired(Rejected):
    """the watch is too old to go on ({message}); a fresh list follows"""


class NamespaceTerminating(Rejected):
    """the namespace is being deleted: {message}"""


class NoRoom(Rejected):
    """the namespace's quota has no room: {message}"""


# --- Git ---


class NoRepository(WrongInput):
    """no repository of jobs in {path}: {why}. Name one with --repository URL, or make one with `jobyard git init`"""


class GitFailed(JobyardError):
    """git {action} failed: {message}{remedy}"""

    exit_code = 3


class Overtaken(GitFailed):
    """the branch moved on while we worked ({message})"""
