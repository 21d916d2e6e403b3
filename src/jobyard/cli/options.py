"""Options that many commands share."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from jobyard.cli.hints import as_given, note
from jobyard.cli.logging import log_to_stderr
from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.service.target import Target

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(command: F) -> F:
    """--local, --context, --kubeconfig and -n, handed over as one TargetOptions; and -v."""

    @click.option("--local", is_flag=True, help="Use the local cluster of this machine.")
    @click.option("--context", metavar="NAME", help="Use this context of the kubeconfig.", shell_complete=_contexts)
    @click.option("--kubeconfig", metavar="FILE", type=click.Path(), help="Use this kubeconfig instead of KUBECONFIG or ~/.kube/config.")
    @click.option("-n", "--namespace", metavar="NAME", help="Work in this namespace.")
    @verbose_option
    @functools.wraps(command)
    def wrapped(local: bool, context: str | None, kubeconfig: str | None, namespace: str | None, **rest: Any) -> Any:
        if local and (context or kubeconfig):
            raise click.UsageError("--local names a cluster, and so does --context or --kubeconfig: give one of them")
        target = TargetOptions(local=local, context=context, kubeconfig=kubeconfig, namespace=namespace)
        note(as_given(target))
        return command(target=target, **rest)

    return wrapped  # type: ignore[return-value]


def verbose_option(command: F) -> F:
    """-v, for whatever asks a cluster or git."""
    return click.option(
        "-v",
        "--verbose",
        count=True,
        metavar="",
        expose_value=False,
        callback=_verbose,
        help="Log each call to the cluster and to git; -vv also logs what was asked, and the traceback behind a warning.",
    )(command)


def runtime_option(command: F) -> F:
    """--runtime process|podman|docker."""
    return click.option(
        "--runtime",
        type=click.Choice(["process", "podman", "docker"]),
        help="What runs the local cluster's containers: processes of this machine, without images (the default), podman or docker.",
    )(command)


def containers(runtime: str) -> str:
    """In words, what a local cluster's containers are, and what it has not of a real one (docs/local-cluster.md)."""
    if runtime == "process":
        return "containers are processes of this machine, without images, isolation or limits; Services are only kept, and there is no RBAC"
    return f"{runtime} runs the containers; Services are only kept, and there are no quotas and no RBAC"


def output_option(command: F) -> F:
    """--output text|json."""
    return output_as("text", "json")(command)


def output_as(*forms: str) -> Callable[[F], F]:
    """--output, of which the first form is the default."""
    return click.option("-o", "--output", type=click.Choice(forms), default=forms[0], show_default=True, help="How to print the answer.")


def _verbose(context: click.Context, parameter: click.Parameter, times: int) -> None:
    if times:
        log_to_stderr(times)


def _contexts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    import os
    from pathlib import Path

    import yaml

    path = context.params.get("kubeconfig") or os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)[0]
    try:
        tree = yaml.safe_load(Path(path).expanduser().read_text())
        return [each["name"] for each in tree["contexts"] if each["name"].startswith(incomplete)]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []


def ask_cluster_named(context: click.Context, ask: Callable[[Target], Awaitable[list[str]]]) -> list[str]:
    """What the cluster that the line so far names answers, for completion; nothing when it can't be asked."""
    import asyncio

    from jobyard.model.errors import JobyardError
    from jobyard.service.target import open_target

    options = TargetOptions(
        local=bool(context.params.get("local")),
        context=context.params.get("context"),
        kubeconfig=context.params.get("kubeconfig"),
        namespace=context.params.get("namespace"),
    )

    async def answer() -> list[str]:
        async with asyncio.timeout(3), open_target(options) as target:
            return await ask(target)

    try:
        return asyncio.run(answer())
    except (JobyardError, TimeoutError, OSError):
        return []


def named(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The callback of what names something: '' names nothing, and is what is left of a variable that nobody set."""
    if value is not None and not value.strip():
        raise click.UsageError(f"{parameter.metavar or (parameter.name or '').upper()} is empty", context)
    return value


def complete_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completes the name of a run."""

    async def ask(target: Target) -> list[str]:
        from jobyard.engine.face import all_names

        return await all_names(target.cluster, target.namespace, incomplete)

    return ask_cluster_named(context, ask)
