"""Options that the commands about repositories share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

if TYPE_CHECKING:
    from jobyard.triggers.git.clone import Found
    from jobyard.triggers.git.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
IDENTITY = "Jobyard <jobyard@localhost>"


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
    commit_each: bool = False
    start_timeout: timedelta | None = timedelta(hours=1)


def git_options(command: F) -> F:
    """--repository, --branch, --folder and --author, handed over as one GitOptions."""

    @click.option("--repository", metavar="URL", help="The repository; else the clone in this folder, or in ./jobs.")
    @click.option("--branch", metavar="NAME", help="The branch; else the clone's own, or the repository's default.")
    @click.option("--folder", metavar="PATH", help="The folder that holds queued/ and the others; else found at the top or under jobs/.")
    @click.option(
        "--author",
        metavar="'NAME <MAIL>'",
        default=IDENTITY,
        envvar="JOBYARD_GIT_AUTHOR",
        show_default=True,
        callback=_author,
        help="Who commits; GIT_AUTHOR_NAME and its like win.",
    )
    @functools.wraps(command)
    def wrapped(repository: str | None, branch: str | None, folder: str | None, author: str, **rest: Any) -> Any:
        return command(git=GitOptions(repository=repository, branch=branch, folder=folder, author=author), **rest)

    return wrapped  # type: ignore[return-value]


def serve_options(command: F) -> F:
    """--allow-namespace, --allow-kind and --commit-each, handed over as one ServeOptions."""

    @click.option(
        "--allow-namespace", "namespaces", multiple=True, metavar="NAME", help="Files may name this namespace too; * for any. Repeatable."
    )
    @click.option(
        "--allow-kind", "kinds", multiple=True, metavar="KIND", help="Files may hold this kind beside Job, ConfigMap and Secret; * for any."
    )
    @click.option(
        "--start-timeout",
        metavar="DURATION",
        default="1h",
        show_default=True,
        callback=_duration,
        help="How long a Job of a plain manifest may wait until a pod of it runs; 0s for ever.",
    )
    @click.option("--commit-each", is_flag=True, help="One commit a transition, instead of one for all that happened at once.")
    @functools.wraps(command)
    def wrapped(namespaces: tuple[str, ...], kinds: tuple[str, ...], commit_each: bool, start_timeout: timedelta, **rest: Any) -> Any:
        options = ServeOptions(namespaces=namespaces, kinds=kinds, commit_each=commit_each, start_timeout=start_timeout or None)
        return command(serve=options, **rest)

    return wrapped  # type: ignore[return-value]


def _author(context: click.Context, parameter: click.Parameter, value: str) -> str:
    name, _, email = value.partition("<")
    if not name.strip() or not email.strip("> ") or not value.rstrip().endswith(">"):
        raise click.BadParameter("expected NAME <MAIL>, for instance 'Goji Bot <goji-bot@goji>'")
    return value


def _duration(context: click.Context, parameter: click.Parameter, value: str) -> timedelta:
    from jobyard.model.duration import parse

    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


async def open_repository(options: GitOptions) -> Found:
    """The repository that the options mean. Raises NoRepository, GitFailed."""
    from pathlib import Path

    from jobyard.triggers.git.clone import open_here, open_url

    if options.repository:
        return await open_url(options.repository, options.branch, options.identity)
    return await open_here(Path.cwd(), options.branch, options.identity)


def settings(options: GitOptions, serve: ServeOptions, namespace: str, **more: Any) -> Settings:
    """How the repository is to be served."""
    from jobyard.triggers.git.manifests import KINDS, Policy
    from jobyard.triggers.git.settings import Settings

    policy = Policy(
        default_namespace=namespace,
        namespaces=None if "*" in serve.namespaces else frozenset(serve.namespaces),
        kinds=None if "*" in serve.kinds else KINDS | frozenset(serve.kinds),
    )
    return Settings(policy=policy, base=options.base, commit_each=serve.commit_each, start_timeout=serve.start_timeout, **more)
