"""The node: gives each pod a place, and a worker that runs its containers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from jobyard.local import discovery, times, volumes
from jobyard.local.objects import Objects
from jobyard.local.pod_worker import PodWorker
from jobyard.local.resources import PODS
from jobyard.local.runtime import Runtime

Tree = dict[str, Any]

NODE = "local"
SOURCE = "kubelet"


def node(runtime: Runtime) -> Tree:
    """The node, made up: what `kubectl get nodes` and the downward API may want of one."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    capacity = {"cpu": str(os.cpu_count() or 1), "memory": f"{pages // 1024}Ki", "pods": str(room())}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "the local cluster runs",
        "lastTransitionTime": times.stamp(),
    }
    info = {
        "kubeletVersion": discovery.version()["gitVersion"],
        "operatingSystem": "linux",
        "architecture": "amd64",
        "containerRuntimeVersion": f"{runtime.name}://{runtime.version}",
    }
    info |= dict.fromkeys(("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "kubeProxyVersion"), "")
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE}]
    status = {
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [{**ready, "lastHeartbeatTime": times.stamp()}],
        "addresses": addresses,
        "nodeInfo": info,
    }
    return {
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}},
        "spec": {},
        "status": status,
    }


def room() -> int:
    """How many pods run at once: eight for each core, for pods mostly wait. More stay Pending, as on any full node."""
    return 8 * (os.cpu_count() or 1)


class Kubelet:
    """Starts a worker for every pod, and says of those that there is no room for why they wait."""

    def __init__(self, objects: Objects, runtime: Runtime, folder: Path) -> None:
        self._objects = objects
        self._runtime = runtime
        self._folder = folder
        self._workers: dict[str, PodWorker] = {}
        self._waiting: dict[str, Tree] = {}
        self.starting = asyncio.Semaphore(os.cpu_count() or 1)

    async def run(self) -> None:
        changes = self._objects.store.subscribe(PODS.full_name, "secrets", "configmaps")
        async with asyncio.TaskGroup() as group:
            for pod in self._objects.list(PODS):
                self._see(pod, group)
            while True:
                for change in await changes.wait():
                    if change.resource != PODS.full_name:
                        for worker in self._workers.values():
                            worker.config_changed.set()
                    elif change.type == "DELETED":
                        self._forget(change.object)
                    else:
                        self._see(change.object, group)

    def log(self, pod: Tree, container: str, previous: bool) -> Path:
        """Where a container's log is; `previous`: that of the run before."""
        statuses = [*(pod["status"].get("initContainerStatuses") or []), *(pod["status"].get("containerStatuses") or [])]
        restarts = next((each["restartCount"] for each in statuses if each["name"] == container), 0)
        return self._pod_folder(pod) / "logs" / f"{container}-{restarts - 1 if previous else restarts}.log"

    def worker(self, pod: Tree) -> PodWorker | None:
        return self._workers.get(pod["metadata"]["uid"])

    def _pod_folder(self, pod: Tree) -> Path:
        return self._folder / str(pod["metadata"]["uid"])

    def _see(self, pod: Tree, group: asyncio.TaskGroup) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is not None:
            worker.see(pod)
            return
        phase = pod["status"].get("phase")
        if phase in ("Succeeded", "Failed"):
            return
        if pod["metadata"].get("deletionTimestamp"):
            self._waiting.pop(uid, None)
            if not pod["spec"].get("nodeName"):
                return
        elif not pod["spec"].get("nodeName") and len(self._workers) >= room():
            self._no_room(pod)
            return
        self._waiting.pop(uid, None)
        bound = pod if pod["spec"].get("nodeName") else self._bind(pod)
        worker = PodWorker(self._objects, self._runtime, bound, self._pod_folder(pod), self.starting)
        self._workers[uid] = worker
        group.create_task(self._work(worker, uid, group), name=f"pod {pod['metadata']['name']}")

    async def _work(self, worker: PodWorker, uid: str, group: asyncio.TaskGroup) -> None:
        try:
            await worker.run()
        finally:
            self._workers.pop(uid, None)
        while self._waiting and len(self._workers) < room():
            pod = self._waiting.pop(next(iter(self._waiting)))
            current = self._objects.find(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
            if current and current["metadata"]["uid"] == pod["metadata"]["uid"]:
                self._see(current, group)

    def _bind(self, pod: Tree) -> Tree:
        stamp = times.stamp()
        kept = [each for each in pod["status"].get("conditions") or [] if each["type"] != "PodScheduled"]
        scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": stamp}
        status = {**pod["status"], "conditions": [*kept, scheduled], "hostIP": "127.0.0.1", "startTime": stamp}
        return self._objects.store.put(PODS.full_name, {**pod, "spec": {**pod["spec"], "nodeName": NODE}, "status": status})

    def _no_room(self, pod: Tree) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self._waiting:
            self._waiting[uid] = pod
            return
        self._waiting[uid] = pod
        message = "0/1 nodes are available: 1 Too many pods. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": times.stamp(),
            "reason": "Unschedulable",
            "message": message,
        }
        self._objects.set_status(PODS, pod, {**pod["status"], "conditions": [condition]})

    def _forget(self, pod: Tree) -> None:
        uid = pod["metadata"]["uid"]
        self._waiting.pop(uid, None)
        worker = self._workers.get(uid)
        if worker is not None:
            worker.gone()
        else:
            volumes.remove(self._pod_folder(pod))
