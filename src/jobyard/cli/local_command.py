"""`jobyard local`: the local cluster as a process that stays."""

from __future__ import annotations

import rich_click as click
from click.exceptions import Exit


@click.group()
def local() -> None:
    """A Kubernetes API on this machine that runs Jobs as processes.

    `--local` uses it when it runs; otherwise each command that needs a cluster brings its own, which ends with it.
    """


@local.command()
def start() -> None:
    """Start the local cluster; it stays until `jobyard local stop`."""
    from jobyard.local import daemon

    folder = daemon.data_folder()
    pid = daemon.running_pid(folder)
    if pid is not None:
        click.echo(f"The local cluster runs already (process {pid}).")
    else:
        pid = daemon.start(folder)
        click.echo(f"The local cluster is up (process {pid}). Containers run as processes of this machine; images are not used.")
    click.echo(f"  jobyard run --local FILE\n  export KUBECONFIG={folder / 'kubeconfig'}")


@local.command()
def stop() -> None:
    """Stop the local cluster, and the Jobs that run on it; what it knows stays."""
    from jobyard.local import daemon

    click.echo("The local cluster is stopped." if daemon.stop(daemon.data_folder()) else "No local cluster runs.")


@local.command()
def status() -> None:
    """Say whether the local cluster runs. Exit code 1 when it does not."""
    from jobyard.local import daemon

    folder = daemon.data_folder()
    pid = daemon.running_pid(folder)
    if pid is None:
        click.echo(f"No local cluster runs. Its state would be in {folder}")
        raise Exit(1)
    click.echo(
        f"The local cluster runs (process {pid}).\n  state       {folder}\n  kubeconfig  {folder / 'kubeconfig'}\n  log         {folder / 'log'}"
    )


@local.command()
def kubeconfig() -> None:
    """Print the path of the local cluster's kubeconfig: export KUBECONFIG=$(jobyard local kubeconfig)"""
    from jobyard.local import daemon
    from jobyard.model.errors import NoCluster

    folder = daemon.data_folder()
    if daemon.running_pid(folder) is None:
        raise NoCluster(why="no local cluster runs (`jobyard local start` starts one)")
    click.echo(str(folder / "kubeconfig"))


@local.command()
def reset() -> None:
    """Stop the local cluster and forget all it knew: Jobs, logs, records."""
    from jobyard.local import daemon

    daemon.reset(daemon.data_folder())
    click.echo("The local cluster is stopped and knows nothing any more.")
