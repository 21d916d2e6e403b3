"""Options that the commands about repositories share."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import rich_click as click

from jobyard.cli.hints import Given, note
from jobyard.model.pod_level import PodLevel
from jobyard.service.options import IDENTITY, GitOptions, ServeOptions

LARGEST = 25
"""MiB: GitHub sends no more."""
F = TypeVar("F", bound=Callable[..., Any])


def repository_options(command: F) -> F:
    """--repository, --branch and --folder, handed over as one GitOptions: for commands that only read."""

    @click.option(
        "--repository",
        metavar="URL",
        envvar="JOBYARD_GIT_REPOSITORY",
        show_envvar=True,
        help="The repository. By default, the clone in this folder or in ./jobs.",
    )
    @click.option("--branch", metavar="NAME", help="The branch. By default, the clone's own, or the repository's default.")
    @click.option(
        "--folder", metavar="PATH", help="The folder that holds queued/ and the others. By default, found at the top or under jobs/."
    )
    @functools.wraps(command)
    def wrapped(repository: str | None, branch: str | None, folder: str | None, author: str = IDENTITY, **rest: Any) -> Any:
        options = GitOptions(repository=repository, branch=branch, folder=folder, author=author)
        note(_as_given(options))
        return command(git=options, **rest)

    return wrapped  # type: ignore[return-value]


def author_option(command: F) -> F:
    """--author, for commands that commit."""
    return click.option(
        "--author",
        metavar="'NAME <MAIL>'",
        default=IDENTITY,
        envvar="JOBYARD_GIT_AUTHOR",
        show_default=True,
        callback=_author,
        help="Who commits. GIT_AUTHOR_NAME and the like take precedence.",
    )(command)


def git_options(command: F) -> F:
    """The options of a repository and --author, as one GitOptions."""
    return author_option(repository_options(command))


def _as_given(options: GitOptions) -> Given:
    from jobyard.triggers.git.credentials import read_address

    given, repository = Given(), read_address(options.repository or "").shown  # without a password
    for name, value in (("repository", repository), ("branch", options.branch), ("folder", options.folder)):
        if value:
            given[name] = f"--{name} {shlex.quote(value)}"
    return given


def serve_options(command: F) -> F:
    """What files may ask for (--allow-namespace, --pods and their like) and how transitions are committed, handed over as one ServeOptions."""

    @click.option(
        "--allow-namespace",
        "namespaces",
        multiple=True,
        metavar="NAME",
        help="Let files name this namespace too; * for any. May be repeated.",
    )
    @click.option(
        "--allow-kind",
        "kinds",
        multiple=True,
        metavar="KIND",
        help="Let files hold this kind, beside Job, ConfigMap and Secret; * for any. May be repeated.",
    )
    @click.option(
        "--pods",
        type=click.Choice([level.value for level in PodLevel]),
        default=PodLevel.BASELINE.value,
        envvar="JOBYARD_GIT_PODS",
        show_default=True,
        help="The level of the Pod Security Standards that pods of files must meet.",
    )
    @click.option(
        "--allow-service-account",
        "service_accounts",
        multiple=True,
        metavar="NAME",
        envvar="JOBYARD_GIT_SERVICE_ACCOUNTS",
        help="Let pods of files have this service account, beside `default`; * for any. May be repeated.",
    )
    @click.option("--allow-finalizers", "finalizers", is_flag=True, envvar="JOBYARD_GIT_FINALIZERS", help="Let files bring finalizers.")
    @click.option(
        "--start-timeout",
        metavar="DURATION",
        default="1h",
        show_default=True,
        callback=_duration,
        help="How long a Job of a plain manifest may wait for a pod to run; 0s for no limit.",
    )
    @click.option("--commit-each", is_flag=True, help="Make one commit per transition, instead of one for all that happened at once.")
    @functools.wraps(command)
    def wrapped(
        namespaces: tuple[str, ...],
        kinds: tuple[str, ...],
        pods: str,
        service_accounts: tuple[str, ...],
        finalizers: bool,
        commit_each: bool,
        start_timeout: timedelta,
        **rest: Any,
    ) -> Any:
        options = ServeOptions(
            namespaces=namespaces,
            kinds=kinds,
            pods=PodLevel(pods),
            service_accounts=service_accounts,
            finalizers=finalizers,
            commit_each=commit_each,
            start_timeout=start_timeout or None,
        )
        return command(serve=options, **rest)

    return wrapped  # type: ignore[return-value]


def largest_option(command: F) -> F:
    """--largest-webhook."""
    return click.option(
        "--largest-webhook",
        "largest",
        metavar="MIB",
        type=click.IntRange(1, LARGEST),
        default=1,
        show_default=True,
        envvar="JOBYARD_LARGEST_WEBHOOK",
        show_envvar=True,
        help=f"How much a webhook's delivery may hold; forges send at most {LARGEST}.",
    )(command)


def _author(context: click.Context, parameter: click.Parameter, value: str) -> str:
    name, _, email = value.partition("<")
    if not name.strip() or not email.strip("> ") or not value.rstrip().endswith(">"):
        raise click.BadParameter("expected NAME <MAIL>, for example 'Goji Bot <goji-bot@goji>'")
    return value


def _duration(context: click.Context, parameter: click.Parameter, value: str) -> timedelta:
    from jobyard.model.duration import parse

    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
