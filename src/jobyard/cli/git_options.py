"""Options that the commands about repositories share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import rich_click as click

from jobyard.service.options import IDENTITY, GitOptions, ServeOptions

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
