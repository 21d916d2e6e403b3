"""What a node needs of whatever runs its containers: processes of this machine, podman or docker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from jobyard.local.logs import LogFile

Tree = dict[str, Any]

Name = Literal["process", "podman", "docker"]
NAMES: tuple[Name, ...] = ("process", "podman", "docker")


class CannotRun(Exception):
    """Why a container has to wait, in the kubelet's words. It is tried again after a while, or when something it refers to changes."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StartError(Exception):
    """A container that could not be started, in the container runtime's words: its end, with code 128."""


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """One run of one container, everything that it refers to looked up."""

    id: str
    """Of its own for every run of every container of every pod; letters, digits and dashes."""
    container: Tree
    """As it stands in the pod."""
    pod_security: Tree
    hostname: str
    command: list[str]
    args: list[str]
    env: Mapping[str, str]
    work: Path
    """A folder that it may use as it likes."""
    termination: tuple[str, Path]
    """Where it writes its last message, and the file that is."""
    mounts: list[tuple[Path, str, bool]]
    """Source, target, read-only; a mount within another comes after it."""


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a container ended. The code of one that a signal ended is 128 plus the signal."""

    code: int
    reason: str = ""
    """Where the runtime knows more than the code says: OOMKilled."""


class Running(Protocol):
    """A container that was started."""

    async def signal(self, number: int) -> None:
        """Sends its first process a signal; SIGKILL ends all of it. One that has ended is left alone."""
        ...

    async def wait(self) -> Exit:
        """Waits for its end. To be awaited once. What it left on this machine, apart from its log, is gone afterwards."""
        ...


class Runtime(Protocol):
    """Runs containers."""

    @property
    def name(self) -> Name: ...

    @property
    def version(self) -> str: ...

    def environment(self, container: Tree) -> Mapping[str, str]:
        """The variables that a container has without asking for them."""
        ...

    async def prepare(self, container: Tree) -> None:
        """Makes sure that the container can run here: its image is there, its volumes can be mounted. Raises CannotRun."""
        ...

    async def start(self, spec: ContainerSpec, log: LogFile) -> Running:
        """Starts a container whose output goes to `log`. Raises StartError, CannotRun."""
        ...
