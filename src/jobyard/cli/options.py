"""Options that many commands share."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.service.target import Target

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(command: F) -> F:
    """--local, --context, --kubeconfig and -n, handed over as one TargetOptions; and -v."""

    @click.option("--local", is_flag=True, help="Use the local cluster of this machine.")
    @click.option("--context", metavar="NAME", help="The kubeconfig's context to use.", shell_complete=_contexts)
    @click.option("--kubeconfig", metavar="FILE", type=click.Path(), help="The kubeconfig to use, instead of KUBECONFIG or ~/.kube/config.")
    @click.option("-n", "--namespace", metavar="NAME", help="The namespace to work in.")
    @click.option("-v", "--verbose", count=True, help="Say more: each call to the cluster.")
    @functools.wraps(command)
    def wrapped(local: bool, context: str | None, kubeconfig: str | None, namespace: str | None, verbose: int, **rest: Any) -> Any:
        if local and (context or kubeconfig):
            raise click.UsageError("--local names a cluster, and so does --context or --kubeconfig: use one of them")
        if verbose:
            _log_calls()
        target = TargetOptions(local=local, context=context, kubeconfig=kubeconfig, namespace=namespace)
        return command(target=target, **rest)

    return wrapped  # type: ignore[return-value]


def as_words(options: TargetOptions) -> str:
    """The cluster's options, as one would type them again."""
    return options.words()


def runtime_option(command: F) -> F:
    """--runtime process|podman|docker."""
    return click.option(
        "--runtime",
        type=click.Choice(["process", "podman", "docker"]),
        help="What runs the containers of the local cluster: processes of this machine, without images (the default), or podman or docker.",
    )(command)


def containers(runtime: str) -> str:
    """In words, what a local cluster's containers are."""
    if runtime == "process":
        return "containers run as processes of this machine, images are not used"
    return f"containers are run by {runtime}"


def output_option(command: F) -> F:
    """--output text|json."""
    return click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people, or for programs."
    )(command)


def _log_calls() -> None:
    import logging
    import sys

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("jobyard")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


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


def complete_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completes the name of a run."""

    async def ask(target: Target) -> list[str]:
        from jobyard.engine.face import all_names

        return await all_names(target.cluster, target.namespace, incomplete)

    return ask_cluster_named(context, ask)
