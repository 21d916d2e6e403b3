"""Which cluster is meant: the local one, one of the user's, or the one that our pod runs in."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from jobyard.cluster.client import HttpCluster, InsecureConnection, open_cluster
from jobyard.cluster.kubeconfig import Connection, connect
from jobyard.model.errors import Forbidden, MissingRights, NoSuchRun, NotFound, RightsUnavailable, innermost
from jobyard.service.lifeline import while_it_runs
from jobyard.service.options import TargetOptions
from jobyard.service.there import require_namespace


@dataclass(frozen=True, kw_only=True)
class Target:
    """A cluster that is connected, and the namespace to work in."""

    cluster: HttpCluster
    namespace: str
    options: TargetOptions
    """What leads here again, and no more: without the namespace where it is the connection's own."""
    is_local: bool = False
    ends_with_us: bool = False
    """The cluster lives only as long as it is open."""
    runtime: str = ""
    """What runs the containers of a local cluster."""
    has_ended: Callable[[], bool] = lambda: False
    """Whether it was the local cluster, and is gone: what was being done is cancelled then."""

    def logs_command(self, name: str, step: str = "", namespace: str = "") -> str:
        """The command that prints the logs of a run, of a step of it, or of a Job; in `namespace`, where that is another."""
        return self.options.logs_command(name, step, namespace if namespace != self.namespace else None)

    async def require_namespace(self) -> None:
        """For who found nothing: a missing namespace is listed as an empty one. Raises NoSuchNamespace, HiddenNamespace, MissingRights."""
        await require_namespace(self.cluster, self.namespace)


_PERHAPS_THE_NAMESPACE = (NoSuchRun, NotFound, Forbidden, MissingRights, RightsUnavailable)
"""What is raised where a namespace is not there, or hidden, and for other causes too."""


@asynccontextmanager
async def open_target(
    options: TargetOptions, *, wanted: str | None = None, in_cluster: bool | None = None, quiet_tls: bool = False, make: bool = False
) -> AsyncIterator[Target]:
    """The cluster that the options mean. `wanted`: the namespace that a file names. `make`: start a local cluster if none runs.

    Raises NoCluster, InvalidKubeconfig, LocalClusterFailed; LocalClusterEnded as soon as the local cluster that is used has ended. And
    where what was done with it failed because there is no such namespace, none that we may see, or a right is missing: NoSuchNamespace,
    HiddenNamespace, MissingRights.
    """
    async with AsyncExitStack() as stack:
        ends, has_ended = False, Target.has_ended
        if options.local:
            connection, ends = _local(stack, options.runtime, make=make)
        else:
            connection = connect(kubeconfig=options.kubeconfig, context=options.context, in_cluster=in_cluster)
        if not ends and (pid := _local_process(connection)) is not None:
            has_ended = await stack.enter_async_context(while_it_runs(pid))
        with warnings.catch_warnings():
            if quiet_tls:
                warnings.simplefilter("ignore", InsecureConnection)
            cluster = await stack.enter_async_context(open_cluster(connection))
        namespace = options.namespace or wanted or connection.namespace
        target = Target(
            cluster=cluster,
            namespace=namespace,
            options=replace(options, namespace=None if namespace == connection.namespace else namespace),
            is_local=options.local,
            ends_with_us=ends,
            runtime=_runtime(options, ends),
            has_ended=has_ended,
        )
        try:
            yield target
        except Exception as error:
            inner = innermost(error)
            if isinstance(inner, _PERHAPS_THE_NAMESPACE):
                await target.require_namespace()
            missing = missing_rights(inner)
            if missing is not None:
                raise missing from error
            raise


def missing_rights(error: BaseException) -> MissingRights | None:
    """A refusal as it is told, whatever was being done: where it was for want of a right in a namespace."""
    if isinstance(error, Forbidden) and error.right and error.namespace:
        return MissingRights(rights=error.right, namespace=error.namespace)
    return None


def _local_process(connection: Connection) -> int | None:
    """The process of the local cluster, when it is that which is meant, by --local or by its kubeconfig."""
    if not connection.server.startswith("http://127.0.0.1:"):
        return None
    from jobyard.local import daemon

    folder = daemon.data_folder()
    return daemon.running_pid(folder) if daemon.serves(folder, connection.server) else None


def _runtime(options: TargetOptions, ends_with_us: bool) -> str:
    if not options.local:
        return ""
    from jobyard.local import daemon

    return (options.runtime or "process") if ends_with_us else daemon.runtime_of(daemon.data_folder())


def _local(stack: AsyncExitStack, runtime: str | None, *, make: bool) -> tuple[Connection, bool]:
    from jobyard.local import daemon
    from jobyard.local.runtime import NAMES, Name
    from jobyard.model.errors import NoLocalCluster

    folder = daemon.data_folder()
    if daemon.running_pid(folder) is not None:
        if runtime not in (None, other := daemon.runtime_of(folder)):
            raise NoLocalCluster(
                why=f"the local cluster that is running uses runtime {other}, not {runtime}"
                f" (`jobyard local stop`, then `jobyard local start --runtime {runtime}` changes that)"
            )
        return connect(kubeconfig=str(folder / "kubeconfig")), False
    if not make:
        raise NoLocalCluster(why="no local cluster is running; `jobyard local start` starts one")
    chosen: Name = next((name for name in NAMES if name == runtime), "process")
    return connect(kubeconfig=str(stack.enter_context(daemon.in_this_process(chosen)))), True
