"""The Job controller and the TTL controller: they look, ask `job_sync` what to do, and do it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jobyard.local import selectors, times
from jobyard.local.indexes import INDEX
from jobyard.local.job_rules import TRACKED, BackOff, is_tracked, phase
from jobyard.local.job_sync import NewPod, condition, is_finished, sync
from jobyard.local.objects import Objects
from jobyard.local.queue import Key, WorkQueue
from jobyard.local.resources import JOBS, PODS, Resource
from jobyard.local.status import ApiError
from jobyard.local.store import Change

Tree = dict[str, Any]

SOURCE = "job-controller"
_EVENT_LIMIT = 500


class JobController:
    """Makes each Job's pods, counts them, and says when it has ended. Its keys: the store's name of Jobs or pods, namespace, name."""

    watches: tuple[Resource, ...] = (JOBS, PODS)

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.queue: WorkQueue = WorkQueue()
        self._pods: dict[str, dict[str, Tree]] = {}
        """By the uid of their Job: those that it still has to count, and those that go on."""
        self._back_offs: dict[str, BackOff] = {}

    def note(self, change: Change) -> None:
        tree, gone = change.object, change.type == "DELETED"
        if change.resource == JOBS.full_name:
            if gone:
                self._back_offs.pop(tree["metadata"]["uid"], None)
            self.queue.add(_key(JOBS, tree))
            return
        if not gone:
            self.queue.add(_key(PODS, tree))
        owner = controller_of(tree, "Job")
        before = controller_of(change.before, "Job") if change.before else None
        for each in (owner, before):
            if each is not None:
                self._keep(tree, each["uid"], kept=not gone and each is owner)
                self.queue.add((JOBS.full_name, tree["metadata"]["namespace"], each["name"]))

    def _keep(self, pod: Tree, job: str, *, kept: bool) -> None:
        """Keeps a pod among its Job's, or no more: a finished pod that was counted says nothing new."""
        pods = self._pods.setdefault(job, {})
        if kept and (is_tracked(pod) or phase(pod) not in ("Succeeded", "Failed")):
            pods[pod["metadata"]["name"]] = pod
        else:
            pods.pop(pod["metadata"]["name"], None)
        if not pods:
            del self._pods[job]

    def look(self, key: Key) -> None:
        kind, namespace, name = key
        if kind == PODS.full_name:
            pod = self._objects.find(PODS, namespace, name)
            if pod is not None:
                self._look_at_pod(pod)
            return
        job = self._objects.find(JOBS, namespace, name)
        if job is not None:
            self._look(job)

    def _look_at_pod(self, pod: Tree) -> None:
        """A pod without a controller, whose labels a Job selects, becomes that Job's; one whose labels its Job no longer selects is nobody's."""
        owner = controller_of(pod, "Job")
        if owner is None:
            if not pod["metadata"].get("deletionTimestamp") and not any(each.get("controller") for each in owners(pod)):
                self._adopt(pod)
            return
        job = self._objects.find(JOBS, pod["metadata"]["namespace"], owner["name"])
        if job is None:
            self._release(pod)
        elif job["metadata"]["uid"] == owner["uid"] and not selectors.of_spec(job["spec"].get("selector"))(pod):
            kept = [each for each in owners(pod) if each["uid"] != owner["uid"]]
            finalizers = [each for each in pod["metadata"].get("finalizers") or [] if each != TRACKED]
            self._objects.set_metadata(PODS, pod, ownerReferences=kept, finalizers=finalizers)

    def _adopt(self, pod: Tree) -> None:
        for job in self._objects.list(JOBS, pod["metadata"]["namespace"]):
            mine = not job["metadata"].get("deletionTimestamp") and not is_finished(job)
            if mine and selectors.of_spec(job["spec"].get("selector"))(pod):
                finalizers = [each for each in pod["metadata"].get("finalizers") or [] if each != TRACKED] + [TRACKED]
                self._objects.set_metadata(PODS, pod, ownerReferences=[*owners(pod), _owner(job)], finalizers=finalizers)
                return

    def _look(self, job: Tree) -> None:
        uid = job["metadata"]["uid"]
        pods = [current for pod in list(self._pods.get(uid, {}).values()) if (current := self._current(pod)) is not None]
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
            self.queue.add_at(_key(JOBS, job), times.after(now, 1))
        # The count first, then the finalizers: whoever dies in between counts nobody twice, since both are one step of one process.
        self._objects.set_status(JOBS, job, done.status)
        for pod in done.release:
            self._release(pod)
        for kind, reason, message in done.events:
            self._objects.event(job, kind, reason, message, SOURCE)
        if done.again:
            self.queue.add_at(_key(JOBS, job), times.after(done.again, 0.005))

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
        self._keep(made, job["metadata"]["uid"], kept=True)
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
        due = times.after(_ended(job), ttl)
        if due <= times.now():
            self._objects.delete(JOBS, job, policy="Foreground")
        else:
            self.queue.add_at(_key(JOBS, job), due)


def _key(resource: Resource, tree: Tree) -> Key:
    return resource.full_name, tree["metadata"]["namespace"], tree["metadata"]["name"]


def _ended(job: Tree) -> datetime:
    for kind in ("Complete", "Failed"):
        found = condition(job["status"], kind)
        if found and found["status"] == "True" and found.get("lastTransitionTime"):
            return times.parse(found["lastTransitionTime"])
    return times.parse(job["metadata"]["creationTimestamp"])


def controller_of(tree: Tree, kind: str) -> Tree | None:
    """The owner reference that controls an object, if it is of this kind."""
    found: Tree | None = next((owner for owner in owners(tree) if owner.get("controller") and owner["kind"] == kind), None)
    return found


def owners(tree: Tree) -> list[Tree]:
    """The owner references of an object."""
    found: list[Tree] = tree["metadata"].get("ownerReferences") or []
    return found


def _owner(job: Tree) -> Tree:
    metadata = job["metadata"]
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    return {**reference, "controller": True, "blockOwnerDeletion": True}


def _with_index(container: Tree) -> Tree:
    env = container.get("env") or []
    if any(entry["name"] == "JOB_COMPLETION_INDEX" for entry in env):
        return container
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*env, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]}


def pod_of(job: Tree, new: NewPod) -> Tree:
    """The pod that a Job's template stands for."""
    template = job["spec"]["template"]
    metadata, spec = dict(template.get("metadata") or {}), dict(template["spec"])  # not deeper: what they hold may be large, and is shared
    name = job["metadata"]["name"]
    prefix = name
    if new.index is not None:
        prefix = f"{name[:57]}-{new.index}"
        metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX: str(new.index), **new.annotations}
        metadata["labels"] = {**(metadata.get("labels") or {}), INDEX: str(new.index)}
        spec["hostname"] = f"{name}-{new.index}"
        for kind in ("initContainers", "containers"):
            if kind in spec:
                spec[kind] = [_with_index(container) for container in spec[kind]]
    kept = {key: metadata[key] for key in ("labels", "annotations") if key in metadata}
    finalizers = [*(metadata.get("finalizers") or []), TRACKED]
    return {"metadata": {**kept, "generateName": f"{prefix}-", "finalizers": finalizers, "ownerReferences": [_owner(job)]}, "spec": spec}
