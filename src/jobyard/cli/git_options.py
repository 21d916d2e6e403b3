"""Options that the commands about repositories share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import rich_click as click

from jobyard.model.pod_level import PodLevel
from jobyard.service.options import IDENTITY, GitOptions, ServeOptions

LARGEST = 25
"""MiB: GitHub sends no more."""
F = TypeVar("F", bound=Callable[..., Any])


def git_options(command: F) -> F:
    """--repository, --branch, --folder and --author, handed over as one GitOptions."""

    @click.option(
        "--repository",
        metavar="URL",
        envvar="JOBYARD_GIT_REPOSITORY",
        show_envvar=True,
        help="The repository; else the clone in this folder, or in ./jobs.",
    )
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
    """What files may ask for (--allow-namespace, --pods and their like) and how transitions are committed, handed over as one ServeOptions."""

    @click.option(
        "--allow-namespace", "namespaces", multiple=True, metavar="NAME", help="Files may name this namespace too; * for any. Repeatable."
    )
    @click.option(
        "--allow-kind", "kinds", multiple=True, metavar="KIND", help="Files may hold this kind beside Job, ConfigMap and Secret; * for any."
    )
    @click.option(
        "--pods",
        type=click.Choice([level.value for level in PodLevel]),
        default=PodLevel.BASELINE.value,
        envvar="JOBYARD_GIT_PODS",
        show_default=True,
        help="The level of the Pod Security Standards that pods of files keep to.",
    )
    @click.option(
        "--allow-service-account",
        "service_accounts",
        multiple=True,
        metavar="NAME",
        envvar="JOBYARD_GIT_SERVICE_ACCOUNTS",
        help="Pods of files may have this service account beside `default`; * for any. Repeatable.",
    )
    @click.option("--allow-finalizers", "finalizers", is_flag=True, envvar="JOBYARD_GIT_FINALIZERS", help="Files may bring finalizers.")
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
        raise click.BadParameter("expected NAME <MAIL>, for instance 'Goji Bot <goji-bot@goji>'")
    return value


def _duration(context: click.Context, parameter: click.Parameter, value: str) -> timedelta:
    from jobyard.model.duration import parse

    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
