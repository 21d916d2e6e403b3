"""The local cluster put together: the store, its controllers, the node, and the API on a loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from jobyard.local.api import Api
from jobyard.local.controller import drive
from jobyard.local.cron import CronController
from jobyard.local.garbage import EventCollector, Furnisher, GarbageCollector, PodCollector
from jobyard.local.jobs import JobController
from jobyard.local.kubelet import Kubelet, node
from jobyard.local.objects import KEPT_NAMESPACES, Objects
from jobyard.local.private import make_private, write_private
from jobyard.local.processes import Warden, open_warden
from jobyard.local.resources import NAMESPACES, NODES
from jobyard.local.runtime import Name, Runtime
from jobyard.local.store import Store


@dataclass(frozen=True, kw_only=True)
class LocalCluster:
    """A local cluster that runs."""

    server: str
    token: str
    kubeconfig: Path
    objects: Objects


@asynccontextmanager
async def open_local_cluster(
    folder: Path, *, keep: bool, runtime: Name = "process", umask: int | None = None
) -> AsyncIterator[LocalCluster]:
    """A local cluster for as long as the context lasts; its containers end with it.

    `folder` holds the pods' files, the kubeconfig and, with `keep`, the objects: the next start goes on with them; it is made our own.
    `runtime`: what runs containers. `umask`: what they have, when not this process's own. Raises RuntimeMissing, FolderNotPrivate.
    """
    make_private(folder)
    store = Store(folder / "cluster.sqlite" if keep else None)
    objects = Objects(store)
    for name in KEPT_NAMESPACES:
        objects.ensure(NAMESPACES, "", {"metadata": {"name": name}})
        objects.furnish(name)
    token = _token(folder)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio would not set TCP_NODELAY
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", _last_port(folder) if keep else 0))
    port = listener.getsockname()[1]
    async with AsyncExitStack() as stack:
        runs = await _runtime(runtime, await stack.enter_async_context(open_warden(umask)), folder)
        _register(objects, runs)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        kubelet = Kubelet(objects, runs, folder / "pods")
        api = Api(objects, kubelet, token)
        config = uvicorn.Config(
            api, lifespan="off", log_config=None, access_log=False, ws="none", http="httptools", timeout_graceful_shutdown=1
        )
        server = _Server(config)
        controllers = [group.create_task(kubelet.run())]
        for part in (JobController, CronController, GarbageCollector, Furnisher, PodCollector, EventCollector):
            controllers.append(group.create_task(drive(objects, part(objects))))
        serving = group.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)
        cluster = LocalCluster(
            server=f"http://127.0.0.1:{port}",
            token=token,
            kubeconfig=_write_kubeconfig(folder, port, token),
            objects=objects,
        )
        try:
            yield cluster
        finally:
            cluster.kubeconfig.unlink(missing_ok=True)
            api.closing.set()
            server.should_exit = True
            for task in controllers:
                task.cancel()
            await serving
    store.close()


async def _runtime(name: Name, warden: Warden, folder: Path) -> Runtime:
    if name == "process":
        from jobyard.local.process_runtime import ProcessRuntime

        return ProcessRuntime(warden, folder)
    from jobyard.local.container_runtime import open_runtime

    return await open_runtime(name, warden, folder)


def _register(objects: Objects, runtime: Runtime) -> None:
    """The node as it now is: a cluster may come back with another runtime."""
    made = node(runtime)
    objects.ensure(NODES, "", made)
    known = objects.find(NODES, "", made["metadata"]["name"])
    if known is not None and known.get("status") != made["status"]:
        objects.set_status(NODES, known, made["status"])


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _token(folder: Path) -> str:
    """The token of the last start, else a new one: clients go on where they were when a cluster comes back."""
    path = folder / "token"
    with contextlib.suppress(OSError):
        if known := path.read_text().strip():
            return known
    token = secrets.token_urlsafe(24)
    _write_secret(path, token)
    return token


def _write_secret(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, from its first byte on; there is never half of it."""
    temporary = path.with_suffix(".new")
    write_private(temporary, text)
    temporary.replace(path)


def _last_port(folder: Path) -> int:
    """The port of the last start, if it is free: a kubeconfig that somebody copied goes on working."""
    try:
        port = int((folder / "port").read_text())
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, ValueError):
        return 0
    return port


def _write_kubeconfig(folder: Path, port: int, token: str) -> Path:
    """The kubeconfig, and the port for the next start."""
    (folder / "port").write_text(str(port))
    path = folder / "kubeconfig"
    name = "jobyard-local"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{port}/{token}"}}],
        "users": [{"name": name, "user": {"token": token}}],
    }
    _write_secret(path, json.dumps(config, indent=2) + "\n")
    return path
