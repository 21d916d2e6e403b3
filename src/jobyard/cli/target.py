"""Which cluster a command means: the local one, one of the user's, or the one that its pod runs in."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from jobyard.cli.target_options import TargetOptions
from jobyard.cluster.client import HttpCluster, InsecureConnection, open_cluster
from jobyard.cluster.kubeconfig import Connection, connect


@dataclass(frozen=True, kw_only=True)
class Target:
    """A cluster that is connected, and the namespace to work in."""

    cluster: HttpCluster
    namespace: str
    is_local: bool = False
    ends_with_us: bool = False
    """The cluster lives only as long as this command."""


@asynccontextmanager
async def open_target(
    options: TargetOptions, *, wanted: str | None = None, in_cluster: bool | None = None, quiet_tls: bool = False, make: bool = False
) -> AsyncIterator[Target]:
    """The cluster that the options mean. `wanted`: the namespace that a file names. `make`: start a local cluster if none runs.

    Raises NoCluster, InvalidKubeconfig, LocalClusterFailed.
    """
    async with AsyncExitStack() as stack:
        ends = False
        if options.local:
            connection, ends = _local(stack, make=make)
        else:
            connection = connect(kubeconfig=options.kubeconfig, context=options.context, in_cluster=in_cluster)
        with warnings.catch_warnings():
            if quiet_tls:
                warnings.simplefilter("ignore", InsecureConnection)
            cluster = await stack.enter_async_context(open_cluster(connection))
        namespace = options.namespace or wanted or connection.namespace
        yield Target(cluster=cluster, namespace=namespace, is_local=options.local, ends_with_us=ends)


def _local(stack: AsyncExitStack, *, make: bool) -> tuple[Connection, bool]:
    from jobyard.local import daemon
    from jobyard.model.errors import NoCluster

    folder = daemon.data_folder()
    if daemon.running_pid(folder) is not None:
        return connect(kubeconfig=str(folder / "kubeconfig")), False
    if not make:
        raise NoCluster(why="no local cluster runs (`jobyard local start` starts one)")
    return connect(kubeconfig=str(stack.enter_context(daemon.in_this_process()))), True
