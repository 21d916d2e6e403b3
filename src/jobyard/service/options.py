"""Which cluster, which repository, and how it is to be served: values. Apart from what is built from them, so that `--help` need load neither a client nor Git."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import timedelta

from jobyard.model.pod_level import PodLevel

IDENTITY = "Jobyard <jobyard@localhost>"


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Which cluster is meant, and which namespace of it."""

    local: bool = False
    context: str | None = None
    kubeconfig: str | None = None
    namespace: str | None = None
    runtime: str | None = None
    """What is to run the containers of a local cluster that is made for the command."""

    def words(self, namespace: str | None = None) -> str:
        """These options as one would type them again, a space before each; in this namespace, where one is named."""
        found = " --local" if self.local else ""
        for name, value in (("--context", self.context), ("--kubeconfig", self.kubeconfig), ("-n", namespace or self.namespace)):
            found += f" {name} {shlex.quote(value)}" if value else ""
        return found

    def logs_command(self, name: str, step: str = "", namespace: str | None = None) -> str:
        """The command that prints the logs of a run, of a step of it, or of a Job."""
        step = f" {shlex.quote(step)}" if step else ""
        return f"jobyard logs {name}{step}{self.words(namespace)}"


@dataclass(frozen=True, kw_only=True)
class GitOptions:
    """Which repository, which branch, which folders, and who commits."""

    repository: str | None = None
    branch: str | None = None
    folder: str | None = None
    author: str = IDENTITY

    @property
    def base(self) -> str | None:
        """The folder of the five folders, as paths in the repository begin with it."""
        if self.folder is None:
            return None
        inner = self.folder.strip("/")
        return f"{inner}/" if inner not in ("", ".") else ""

    @property
    def identity(self) -> tuple[str, str]:
        name, _, email = self.author.partition("<")
        return name.strip(), email.strip("> ")


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What the repository's files may ask for, and how its transitions are committed."""

    namespaces: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    pods: PodLevel = PodLevel.BASELINE
    service_accounts: tuple[str, ...] = ()
    finalizers: bool = False
    commit_each: bool = False
    start_timeout: timedelta | None = timedelta(hours=1)
