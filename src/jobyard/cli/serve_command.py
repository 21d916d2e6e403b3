"""`jobyard serve`: one process for every trigger, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from jobyard.cli.options import ask_cluster_named, cluster_options, output_option
from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.service.target import Target

DEFAULT_FILE = "jobyard.yaml"


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path), envvar="JOBYARD_CONFIG")
@cluster_options
def serve(file: Path | None, target: TargetOptions) -> None:
    """Serve every trigger that FILE names, until told to stop.

    FILE is ./jobyard.yaml, or what JOBYARD_CONFIG names. When it changes, or on SIGHUP, it is read again.
    On SIGTERM or Ctrl-C nothing new is taken; the runs go on in the cluster.

    Begin with a file such as this one; `jobyard schema service` prints all that it may say, `jobyard check FILE` finds its mistakes.

    \b
    apiVersion: jobyard.dev/v1
    kind: Service
    spec:
      triggers:
        - {name: ops, git: {repository: git@example.org:ops/jobs.git}}
    """
    import asyncio

    from jobyard.cli.serving import serve_until_told

    asyncio.run(serve_until_told(file or Path(DEFAULT_FILE), target))


@click.group()
def triggers() -> None:
    """Show the triggers of a service, pause them and resume them."""


def complete_trigger(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completes the name of a trigger."""

    async def ask(target: Target) -> list[str]:
        from jobyard.service.board import find_board

        _, notes = await find_board(target.cluster, target.namespace, context.params.get("service"))
        return [name for name in notes.triggers if name.startswith(incomplete)]

    return ask_cluster_named(context, ask)


def service_option(command: Any) -> Any:
    """--service NAME."""
    return click.option("--service", metavar="NAME", help="The service; left out, the only one in the namespace.")(command)


@triggers.command(name="list")
@service_option
@cluster_options
@output_option
def list_(service: str | None, target: TargetOptions, output: str) -> None:
    """List a service's triggers and how each stands."""
    import asyncio

    from jobyard.cli.triggers import print_triggers

    asyncio.run(print_triggers(service, target, output))


@triggers.command()
@click.argument("name", shell_complete=complete_trigger)
@service_option
@cluster_options
def pause(name: str, service: str | None, target: TargetOptions) -> None:
    """Have the trigger NAME take nothing new. What runs goes on, and what comes stays in its source."""
    import asyncio

    from jobyard.cli.triggers import pause_trigger

    asyncio.run(pause_trigger(name, service, target))


@triggers.command()
@click.argument("name", shell_complete=complete_trigger)
@service_option
@cluster_options
def resume(name: str, service: str | None, target: TargetOptions) -> None:
    """Let the trigger NAME go on."""
    import asyncio

    from jobyard.cli.triggers import resume_trigger

    asyncio.run(resume_trigger(name, service, target))
