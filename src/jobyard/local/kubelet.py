"""The node: gives each pod a place, and a worker that runs its containers."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

from jobyard.local import discovery, mishap, times
from jobyard.local.controller import drive
from jobyard.local.jobs import controller_of
from jobyard.local.objects import Objects
from jobyard.local.pod_worker import PodWorker
from jobyard.local.queue import FIRST_BACK_OFF, LONGEST_BACK_OFF, Key, WorkQueue
from jobyard.local.resources import CONFIG_MAPS, NODE, PODS, SECRETS, Resource
from jobyard.local.runtime import Runtime
from jobyard.local.store import Change
from jobyard.local.volumes import remove_folder

Tree = dict[str, Any]

SOURCE = "kubelet"
_NO_ROOM = "0/1 nodes are available: 1 Too many pods. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."


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


def _owner(pod: Tree) -> str:
    """The uid of what a pod belongs to: its Job, or itself."""
    return str((controller_of(pod, "Job") or pod["metadata"])["uid"])


class Kubelet:
    """Starts a worker for every pod, and says of those that there is no room for why they wait. Its keys: namespace, name, uid."""

    watches: tuple[Resource, ...] = (PODS, SECRETS, CONFIG_MAPS)

    def __init__(self, objects: Objects, runtime: Runtime, folder: Path) -> None:
        self._objects = objects
        self._runtime = runtime
        self._folder = folder
        self._workers: dict[str, PodWorker] = {}
        self._waiting: dict[str, Tree] = {}
        self._group = asyncio.TaskGroup()
        self.queue: WorkQueue = WorkQueue()
        self.starting = asyncio.Semaphore(os.cpu_count() or 1)

    async def run(self) -> None:
        async with self._group:
            await drive(self._objects, self)

    def note(self, change: Change) -> None:
        if change.resource == PODS.full_name:
            metadata = change.object["metadata"]
            self.queue.add((metadata["namespace"], metadata["name"], metadata["uid"]))
            return
        for worker in self._workers.values():
            worker.hear(change.object)

    def look(self, key: Key) -> None:
        pod = self._current(key[0], key[1], key[2])
        if pod is None:
            self._forget(key[2])
        else:
            self._see(pod)

    def _current(self, namespace: str, name: str, uid: str) -> Tree | None:
        pod = self._objects.find(PODS, namespace, name)
        return pod if pod is not None and pod["metadata"]["uid"] == uid else None

    def log(self, pod: Tree, container: str, previous: bool) -> Path:
        """Where a container's log is; `previous`: that of the run before."""
        statuses = [*(pod["status"].get("initContainerStatuses") or []), *(pod["status"].get("containerStatuses") or [])]
        restarts = next((each["restartCount"] for each in statuses if each["name"] == container), 0)
        return self._pod_folder(pod["metadata"]["uid"]) / "logs" / f"{container}-{restarts - 1 if previous else restarts}.log"

    def worker(self, pod: Tree) -> PodWorker | None:
        return self._workers.get(pod["metadata"]["uid"])

    def _pod_folder(self, uid: str) -> Path:
        return self._folder / uid

    def _see(self, pod: Tree) -> None:
        uid, spec = pod["metadata"]["uid"], pod["spec"]
        worker = self._workers.get(uid)
        if worker is not None:
            worker.see(pod)
            return
        if pod["status"].get("phase") in ("Succeeded", "Failed") or spec.get("nodeName", NODE) != NODE:
            return
        is_full = len(self._workers) >= room()
        if spec.get("nodeName"):
            if is_full and not pod["status"].get("containerStatuses") and not pod["metadata"].get("deletionTimestamp"):
                self._turn_away(pod)
                return
        elif pod["metadata"].get("deletionTimestamp"):
            self._waiting.pop(uid, None)
            return
        elif spec.get("schedulingGates"):
            self._not_scheduled(pod, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")
            return
        elif is_full:
            if uid not in self._waiting:
                self._not_scheduled(pod, "Unschedulable", _NO_ROOM)
            self._waiting[uid] = pod
            return
        self._waiting.pop(uid, None)
        bound = pod if spec.get("nodeName") else self._bind(pod)
        self._workers[uid] = self._worker(bound)
        self._group.create_task(self._work(bound), name=f"pod {pod['metadata']['name']}")

    def _worker(self, pod: Tree) -> PodWorker:
        return PodWorker(self._objects, self._runtime, pod, self._pod_folder(pod["metadata"]["uid"]), self.starting)

    async def _work(self, pod: Tree) -> None:
        """Runs a pod to its end. One pod is one try block: what its worker raises is told, and another one goes on after a back-off."""
        metadata = pod["metadata"]
        key = (metadata["namespace"], metadata["name"], metadata["uid"])
        try:
            for failures in count():
                worker = self._workers[metadata["uid"]]
                try:
                    await worker.run()
                    break
                except Exception as error:  # noqa: BLE001 - the same as in every controller
                    words = mishap.tell(f"pod {metadata['namespace']}/{metadata['name']} is tried again", error)
                    self._objects.event(pod, "Warning", "FailedSync", f"Error syncing pod: {words}", SOURCE)
                await worker.until_stopped(min(FIRST_BACK_OFF * 2 ** min(failures, 10), LONGEST_BACK_OFF))
                current = self._current(*key)
                if current is None:
                    remove_folder(self._pod_folder(metadata["uid"]))
                    break
                self._workers[metadata["uid"]] = self._worker(current)
        finally:
            self._workers.pop(metadata["uid"], None)
            self._fill_up()

    def _fill_up(self) -> None:
        """Has pods that wait looked at: there is room. Whose owner has fewest pods goes first, or a Job of many would keep all others waiting."""
        busy = Counter(_owner(worker.pod) for worker in self._workers.values())
        for _ in range(max(room() - len(self._workers), 0)):
            if not self._waiting:
                return
            first = next((uid for uid, pod in self._waiting.items() if not busy[_owner(pod)]), None)
            pod = self._waiting.pop(first or min(self._waiting, key=lambda uid: busy[_owner(self._waiting[uid])]))
            busy[_owner(pod)] += 1
            metadata = pod["metadata"]
            self.queue.add((metadata["namespace"], metadata["name"], metadata["uid"]))

    def _bind(self, pod: Tree) -> Tree:
        stamp = times.stamp()
        kept = [each for each in pod["status"].get("conditions") or [] if each["type"] != "PodScheduled"]
        scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": stamp}
        status = {**pod["status"], "conditions": [*kept, scheduled], "hostIP": "127.0.0.1", "startTime": stamp}
        return self._objects.store.put(PODS.full_name, {**pod, "spec": {**pod["spec"], "nodeName": NODE}, "status": status})

    def _not_scheduled(self, pod: Tree, reason: str, message: str) -> None:
        stamp = times.stamp()
        condition = {"type": "PodScheduled", "status": "False", "lastProbeTime": None, "lastTransitionTime": stamp, "reason": reason}
        known = pod["status"].get("conditions") or []
        if not any(each["type"] == "PodScheduled" and each.get("reason") == reason for each in known):
            others = [each for each in known if each["type"] != "PodScheduled"]
            self._objects.set_status(PODS, pod, {**pod["status"], "conditions": [*others, {**condition, "message": message}]})

    def _turn_away(self, pod: Tree) -> None:
        """A pod that somebody else bound to the node, which is full: it fails, as by a kubelet."""
        message = f"Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: {room()}, capacity: {room()}"
        self._objects.set_status(PODS, pod, {**pod["status"], "phase": "Failed", "reason": "OutOfpods", "message": message})

    def _forget(self, uid: str) -> None:
        self._waiting.pop(uid, None)
        worker = self._workers.get(uid)
        if worker is not None:
            worker.gone()
        else:
            remove_folder(self._pod_folder(uid))
