"""`jobyard local`: the local cluster as a process that stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click
from click.exceptions import Exit

from jobyard.cli.hints import say
from jobyard.cli.options import containers, output_option, runtime_option
from jobyard.cli.printing import print_json

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def local() -> None:
    """A Kubernetes API on this machine that runs Jobs as processes, or as containers with podman or docker.

    `--local` uses it while it is running. Otherwise `jobyard run --local` starts one that ends with the command.
    """


@local.command()
@runtime_option
@output_option
def start(runtime: str | None, output: str) -> None:
    """Start the local cluster; it stays until `jobyard local stop`."""
    from jobyard.local import daemon
    from jobyard.local.runtime import NAMES
    from jobyard.model.errors import NoLocalCluster

    folder = daemon.data_folder()
    pid = daemon.running_pid(folder)
    if pid is not None:
        if runtime not in (None, other := daemon.runtime_of(folder)):
            raise NoLocalCluster(
                why=f"a local cluster is already running, with runtime {other}, not {runtime} (`jobyard local stop` ends it)"
            )
        said = f"The local cluster is already running (process {pid})."
    else:
        pid = daemon.start(folder, next((name for name in NAMES if name == runtime), "process"))
        said = f"The local cluster is up (process {pid}): {containers(daemon.runtime_of(folder))}."
    if output == "json":
        print_json(_state(folder, pid))
    else:
        say(said, err=False)
        click.echo(f"  jobyard run --local FILE\n  export KUBECONFIG={folder / 'kubeconfig'}")


def force_option(command: F) -> F:
    """--force."""
    return click.option("--force", is_flag=True, help="Do so even while runs go on: say which, and end them without asking.")(command)


@local.command()
@force_option
def stop(force: bool) -> None:
    """Stop the local cluster and the Jobs that run on it; its records stay. Asks first if runs are going on."""
    from jobyard.cli.local_active import may_end
    from jobyard.local import daemon

    folder = daemon.data_folder()
    if daemon.running_pid(folder) is not None:
        may_end(folder, force=force)
    say("The local cluster is stopped." if daemon.stop(folder) else "No local cluster is running.", err=False)


@local.command()
@output_option
def status(output: str) -> None:
    """Say whether the local cluster is running. Exit code 1 if it is not."""
    from jobyard.local import daemon

    folder = daemon.data_folder()
    pid = daemon.running_pid(folder)
    if output == "json":
        print_json(_state(folder, pid))
    elif pid is None:
        say(f"No local cluster is running. Its state would be in {folder}.", err=False)
    else:
        say(f"The local cluster is running (process {pid}): {containers(daemon.runtime_of(folder))}.", err=False)
        click.echo(f"  state       {folder}\n  kubeconfig  {folder / 'kubeconfig'}\n  log         {folder / 'log'}")
    if pid is None:
        raise Exit(1)


def _state(folder: Path, pid: int | None) -> dict[str, Any]:
    from jobyard.local import daemon

    return {
        "running": pid is not None,
        "process": pid,
        "runtime": None if pid is None else daemon.runtime_of(folder),
        "state": str(folder),
        "kubeconfig": None if pid is None else str(folder / "kubeconfig"),
        "log": str(folder / "log"),
    }


@local.command()
def kubeconfig() -> None:
    """Print the path of the local cluster's kubeconfig, for `export KUBECONFIG=$(jobyard local kubeconfig)`."""
    from jobyard.local import daemon
    from jobyard.model.errors import NoLocalCluster

    folder = daemon.data_folder()
    if daemon.running_pid(folder) is None:
        raise NoLocalCluster(why="no local cluster is running; `jobyard local start` starts one")
    click.echo(str(folder / "kubeconfig"))


@local.command()
@force_option
def reset(force: bool) -> None:
    """Stop the local cluster and delete all it knows: Jobs, logs, records. Asks first if runs are going on."""
    from jobyard.cli.local_active import may_end
    from jobyard.local import daemon

    folder = daemon.data_folder()
    if daemon.running_pid(folder) is not None:
        may_end(folder, force=force)
    daemon.reset(folder)
    say("The local cluster is stopped, and all it knew is deleted.", err=False)
