"""Owner references: what an owner leaves behind goes with it; and namespaces, whose content goes before they do."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

from jobyard.local import times
from jobyard.local.jobs import owners
from jobyard.local.objects import FOREGROUND, ORPHAN, Objects, resource_of
from jobyard.local.queue import Key, WorkQueue
from jobyard.local.resources import CONFIG_MAPS, EVENTS, NAMESPACES, PODS, SERVICE_ACCOUNTS, Resource
from jobyard.local.store import Change

Tree = dict[str, Any]
Ref = tuple[str, str, str]
"""Resource, namespace, name."""

EVENTS_STAY = 3600
"""Seconds that an event is kept."""
ENDED_PODS = 12_500
"""How many pods that have ended are kept: as many as Kubernetes keeps."""


class GarbageCollector:
    """Deletes what has only dead owners, and carries out foreground and orphan deletions."""

    watches: tuple[Resource, ...] = ()

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._dependents: dict[str, set[Ref]] = {}
        """By the uid of their owner."""
        self._alive: set[str] = set()
        self.queue: WorkQueue = WorkQueue()

    def note(self, change: Change) -> None:
        tree, ref = change.object, _ref(change.resource, change.object)
        metadata = tree["metadata"]
        before = owners(change.before) if change.before else []
        now = owners(tree) if change.type != "DELETED" else []
        for owner in before:
            self._forget(owner["uid"], ref)
        for owner in now:
            self._dependents.setdefault(owner["uid"], set()).add(ref)
        if change.type == "DELETED":
            self._alive.discard(metadata["uid"])
            for owner in owners(tree):
                self._ask_about_owner(owner, ref)
            for dependent in self._dependents.get(metadata["uid"], ()):
                self.queue.add(dependent)
            if change.resource != NAMESPACES.full_name and metadata.get("namespace"):
                self.queue.add((NAMESPACES.full_name, "", metadata["namespace"]))
            return
        self._alive.add(metadata["uid"])
        if now or metadata.get("deletionTimestamp"):
            self.queue.add(ref)

    def _forget(self, owner: str, dependent: Ref) -> None:
        known = self._dependents.get(owner, set())
        known.discard(dependent)
        if not known:
            self._dependents.pop(owner, None)

    def _ask_about_owner(self, owner: Tree, dependent: Ref) -> None:
        for resource in self._objects.store.list_resources():
            found = self._objects.store.get(resource, dependent[1], owner["name"])
            if found is not None and found["metadata"]["uid"] == owner["uid"]:
                self.queue.add(_ref(resource, found))

    def look(self, key: Key) -> None:
        tree = self._objects.store.get(key[0], key[1], key[2])
        if tree is not None:
            self._look(key[0], tree)

    def _look(self, name: str, tree: Tree) -> None:
        resource, metadata = resource_of(name), tree["metadata"]
        finalizers = metadata.get("finalizers") or []
        if metadata.get("deletionTimestamp"):
            if ORPHAN in finalizers:
                self._orphan(metadata["uid"])
                self._objects.set_metadata(resource, tree, finalizers=[each for each in finalizers if each != ORPHAN])
            elif FOREGROUND in finalizers:
                if not self._delete_dependents(metadata["uid"]):
                    self._objects.set_metadata(resource, tree, finalizers=[each for each in finalizers if each != FOREGROUND])
            elif resource is NAMESPACES:
                self._empty(tree)
            return
        owned_by = owners(tree)
        if owned_by and not any(owner["uid"] in self._alive for owner in owned_by):
            self._objects.delete(resource, tree, policy="Background")

    def _orphan(self, uid: str) -> None:
        for name, namespace, object_name in list(self._dependents.get(uid, ())):
            tree = self._objects.store.get(name, namespace, object_name)
            if tree is not None:
                kept = [owner for owner in owners(tree) if owner["uid"] != uid]
                self._objects.set_metadata(resource_of(name), tree, ownerReferences=kept)

    def _delete_dependents(self, uid: str) -> bool:
        """Deletes what an object owns; says whether any of it that blocks the owner is still there."""
        blocked = False
        for name, namespace, object_name in list(self._dependents.get(uid, ())):
            tree = self._objects.store.get(name, namespace, object_name)
            if tree is None:
                continue
            owner: Tree = next((each for each in owners(tree) if each["uid"] == uid), {})
            if not tree["metadata"].get("deletionTimestamp"):
                self._objects.delete(
                    resource_of(name),
                    tree,
                    policy="Foreground" if owner.get("blockOwnerDeletion") and name != PODS.full_name else "Background",
                )
            if owner.get("blockOwnerDeletion") and self._objects.store.get(name, namespace, object_name) is not None:
                blocked = True
        return blocked

    def _empty(self, space: Tree) -> None:
        """Deletes all that a namespace holds, then lets go of the namespace."""
        name = space["metadata"]["name"]
        left = 0
        for resource, tree in list(self._objects.store.everything()):
            if tree["metadata"].get("namespace") != name:
                continue
            if not tree["metadata"].get("deletionTimestamp"):
                self._objects.delete(resource_of(resource), tree, policy="Background")
            left += self._objects.store.get(resource, name, tree["metadata"]["name"]) is not None
        if not left:
            self._objects.store.remove(NAMESPACES.full_name, "", name)
        else:
            status = {**(space.get("status") or {}), "phase": "Terminating"}
            if space.get("status") != status:
                self._objects.set_status(NAMESPACES, space, status)


class Furnisher:
    """Gives every namespace what it has by right: a default service account, and the cluster's CA."""

    watches: tuple[Resource, ...] = (NAMESPACES, SERVICE_ACCOUNTS, CONFIG_MAPS)

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.queue: WorkQueue = WorkQueue()

    def note(self, change: Change) -> None:
        metadata = change.object["metadata"]
        if change.resource == NAMESPACES.full_name:
            if change.type == "ADDED":
                self.queue.add((metadata["name"],))
        elif change.type == "DELETED":
            self.queue.add((metadata["namespace"],))

    def look(self, key: Key) -> None:
        space = self._objects.find(NAMESPACES, "", key[0])
        if space is not None and not space["metadata"].get("deletionTimestamp"):
            self._objects.furnish(key[0])


class PodCollector:
    """Deletes the pods that ended first, when there are too many that have ended: a Job may make pods for ever."""

    watches: tuple[Resource, ...] = (PODS,)

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._ended: dict[tuple[str, str], None] = {}
        """Namespace and name, in the order of their ends."""
        self.queue: WorkQueue = WorkQueue()

    def note(self, change: Change) -> None:
        metadata = change.object["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if change.type == "DELETED":
            self._ended.pop(key, None)
        elif (change.object.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            self._ended.setdefault(key)
        if len(self._ended) > ENDED_PODS:
            self.queue.add(("pods",))

    def look(self, key: Key) -> None:
        for namespace, name in list(islice(self._ended, max(len(self._ended) - ENDED_PODS, 0))):
            self._ended.pop((namespace, name))
            pod = self._objects.find(PODS, namespace, name)
            if pod is not None:
                self._objects.delete(PODS, pod)


class EventCollector:
    """Deletes events an hour after they last happened, as Kubernetes does."""

    watches: tuple[Resource, ...] = (EVENTS,)

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.queue: WorkQueue = WorkQueue()

    def note(self, change: Change) -> None:
        if change.type != "DELETED":
            metadata = change.object["metadata"]
            self.queue.add_at((metadata["namespace"], metadata["name"]), self._due(change.object))

    def look(self, key: Key) -> None:
        event = self._objects.find(EVENTS, key[0], key[1])
        if event is None:
            return
        if self._due(event) <= times.now():
            self._objects.delete(EVENTS, event)
        else:
            self.queue.add_at(key, self._due(event))

    def _due(self, event: Tree) -> datetime:
        """An hour after it last happened; after it was made, where somebody has written a time that is still to come."""
        made = times.parse(event["metadata"]["creationTimestamp"])
        last = times.parse(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])
        return times.after(last if last <= times.now() else made, EVENTS_STAY)


def _ref(resource: str, tree: Tree) -> Ref:
    return resource, tree["metadata"].get("namespace", ""), tree["metadata"]["name"]
