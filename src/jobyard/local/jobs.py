"""The Job controller and the TTL controller: they look, ask `job_sync` what to do, and do it."""

from __future__ import annotations

import asyncio
import copy
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from jobyard.local import selectors, times
from jobyard.local.indexes import INDEX
from jobyard.local.job_rules import TRACKED, BackOff, is_tracked
from jobyard.local.job_sync import NewPod, condition, is_finished, sync
from jobyard.local.objects import Objects
from jobyard.local.queue import WorkQueue
from jobyard.local.resources import JOBS, PODS
from jobyard.local.status import ApiError

Tree = dict[str, Any]

SOURCE = "job-controller"
_EVENT_LIMIT = 500


class JobController:
    """Makes each Job's pods, counts them, and says when it has ended."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._queue: WorkQueue[tuple[str, str]] = WorkQueue()
        self._pods: defaultdict[str, dict[str, Tree]] = defaultdict(dict)
        self._back_offs: dict[str, BackOff] = {}

    async def run(self) -> None:
        changes = self._objects.store.subscribe(JOBS.full_name, PODS.full_name)
        for job in self._objects.list(JOBS):
            self._queue.add(_key(job))
        for pod in self._objects.list(PODS):
            self._note(pod, gone=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            while True:
                for change in await changes.wait():
                    if change.resource == PODS.full_name:
                        self._note(change.object, gone=change.type == "DELETED")
                    else:
                        self._queue.add(_key(change.object))

    def _note(self, pod: Tree, *, gone: bool) -> None:
        owner = controller_of(pod, "Job")
        if owner is None:
            if not gone and not pod["metadata"].get("deletionTimestamp"):
                self._adopt(pod)
            return
        if not gone and self._let_go(pod, owner):
            return
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        if gone:
            self._pods[owner["uid"]].pop(name, None)
        else:
            self._pods[owner["uid"]][name] = pod
        self._queue.add((namespace, owner["name"]))
        if gone is False and is_tracked(pod) and self._objects.find(JOBS, namespace, owner["name"]) is None:
            self._release(pod)

    def _adopt(self, pod: Tree) -> None:
        """A pod without a controller, whose labels a Job selects, becomes that Job's."""
        for job in self._objects.list(JOBS, pod["metadata"]["namespace"]):
            mine = not job["metadata"].get("deletionTimestamp") and not is_finished(job) and selectors.of_spec(job["spec"]["selector"])(pod)
            if mine:
                metadata = pod["metadata"]
                owners = [*(metadata.get("ownerReferences") or []), _owner(job)]
                finalizers = [each for each in metadata.get("finalizers") or [] if each != TRACKED] + [TRACKED]
                self._objects.set_metadata(PODS, pod, ownerReferences=owners, finalizers=finalizers)
                return

    def _let_go(self, pod: Tree, owner: Tree) -> bool:
        """A pod whose labels its Job no longer selects is nobody's."""
        job = self._objects.find(JOBS, pod["metadata"]["namespace"], owner["name"])
        if job is None or job["metadata"]["uid"] != owner["uid"] or selectors.of_spec(job["spec"]["selector"])(pod):
            return False
        kept = [each for each in pod["metadata"]["ownerReferences"] if each["uid"] != owner["uid"]]
        finalizers = [each for each in pod["metadata"].get("finalizers") or [] if each != TRACKED]
        self._pods[owner["uid"]].pop(pod["metadata"]["name"], None)
        self._objects.set_metadata(PODS, pod, ownerReferences=kept, finalizers=finalizers)
        self._queue.add((pod["metadata"]["namespace"], owner["name"]))
        return True

    async def _work(self) -> None:
        while True:
            namespace, name = await self._queue.take()
            job = self._objects.find(JOBS, namespace, name)
            if job is not None:
                self._look(job)
            await asyncio.sleep(0)  # let requests in between

    def _look(self, job: Tree) -> None:
        uid = job["metadata"]["uid"]
        pods = [current for pod in list(self._pods[uid].values()) if (current := self._current(pod)) is not None]
        if is_finished(job):
            self._back_offs.pop(uid, None)
            for pod in pods:
                if is_tracked(pod):
                    self._release(pod)
            self._expire(job)
            return
        if job["spec"].get("managedBy") not in (None, "kubernetes.io/job-controller"):
            return
        now = times.now()
        done = sync(job, pods, self._back_offs.get(uid, BackOff()), now)
        self._back_offs[uid] = done.back_off
        refused = 0
        for new in done.create:
            refused += not self._create(job, new)
        for pod in done.delete:
            self._release(pod)
            self._delete(job, pod)
        if refused:
            done.status["active"] = max(done.status.get("active", 0) - refused, 0)
            if not done.status["active"]:
                done.status.pop("active")
            self._queue.add_at(_key(job), now + timedelta(seconds=1))
        # The count first, then the finalizers: whoever dies in between counts nobody twice, since both are one step of one process.
        self._objects.set_status(JOBS, job, done.status)
        for pod in done.release:
            self._release(pod)
        for kind, reason, message in done.events:
            self._objects.event(job, kind, reason, message, SOURCE)
        if done.again:
            self._queue.add_at(_key(job), done.again + timedelta(milliseconds=5))

    def _current(self, pod: Tree) -> Tree | None:
        found = self._objects.find(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
        return found if found and found["metadata"]["uid"] == pod["metadata"]["uid"] else None

    def _release(self, pod: Tree) -> None:
        current = self._current(pod)
        if current and is_tracked(current):
            self._objects.set_metadata(PODS, current, finalizers=[each for each in current["metadata"]["finalizers"] if each != TRACKED])

    def _create(self, job: Tree, new: NewPod) -> bool:
        pod = pod_of(job, new)
        try:
            made = self._objects.create(PODS, job["metadata"]["namespace"], pod)
        except ApiError as error:
            self._objects.event(job, "Warning", "FailedCreate", f"Error creating: {error.message}", SOURCE)
            return False
        self._pods[job["metadata"]["uid"]][made["metadata"]["name"]] = made
        if len(self._pods[job["metadata"]["uid"]]) <= _EVENT_LIMIT:
            self._objects.event(job, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}", SOURCE)
        return True

    def _delete(self, job: Tree, pod: Tree) -> None:
        current = self._current(pod)
        if current is not None:
            self._objects.delete(PODS, current)
            self._objects.event(job, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}", SOURCE)

    def _expire(self, job: Tree) -> None:
        """TTL: a finished Job goes so many seconds after it ended."""
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is None or job["metadata"].get("deletionTimestamp"):
            return
        due = _ended(job) + timedelta(seconds=ttl)
        if due <= times.now():
            self._objects.delete(JOBS, job, policy="Foreground")
        else:
            self._queue.add_at(_key(job), due)


def _key(tree: Tree) -> tuple[str, str]:
    return tree["metadata"].get("namespace", ""), tree["metadata"]["name"]


def _ended(job: Tree) -> datetime:
    for kind in ("Complete", "Failed"):
        found = condition(job["status"], kind)
        if found and found["status"] == "True":
            return times.parse(found["lastTransitionTime"])
    return times.now()


def controller_of(tree: Tree, kind: str) -> Tree | None:
    """The owner reference that controls an object, if it is of this kind."""
    owners = tree["metadata"].get("ownerReferences") or []
    found: Tree | None = next((owner for owner in owners if owner.get("controller") and owner["kind"] == kind), None)
    return found


def _owner(job: Tree) -> Tree:
    metadata = job["metadata"]
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    return {**reference, "controller": True, "blockOwnerDeletion": True}


def pod_of(job: Tree, new: NewPod) -> Tree:
    """The pod that a Job's template stands for."""
    template = copy.deepcopy(job["spec"]["template"])
    metadata, spec = template.get("metadata") or {}, template["spec"]
    name = job["metadata"]["name"]
    prefix = name
    if new.index is not None:
        prefix = f"{name[:57]}-{new.index}"
        metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX: str(new.index), **new.annotations}
        metadata["labels"] = {**(metadata.get("labels") or {}), INDEX: str(new.index)}
        spec["hostname"] = f"{name}-{new.index}"
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            env = container.setdefault("env", [])
            if all(entry["name"] != "JOB_COMPLETION_INDEX" for entry in env):
                source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
                env.append({"name": "JOB_COMPLETION_INDEX", "valueFrom": source})
    kept = {key: metadata[key] for key in ("labels", "annotations") if key in metadata}
    finalizers = [*(metadata.get("finalizers") or []), TRACKED]
    return {"metadata": {**kept, "generateName": f"{prefix}-", "finalizers": finalizers, "ownerReferences": [_owner(job)]}, "spec": spec}
