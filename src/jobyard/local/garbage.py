"""Owner references: what an owner leaves behind goes with it; and namespaces, whose content goes before they do."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from jobyard.local.objects import FOREGROUND, ORPHAN, Objects, resource_of
from jobyard.local.queue import WorkQueue
from jobyard.local.resources import NAMESPACES, PODS
from jobyard.local.store import Change

Tree = dict[str, Any]
Ref = tuple[str, str, str]
"""Resource, namespace, name."""


class GarbageCollector:
    """Deletes what has only dead owners, and carries out foreground and orphan deletions."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._dependents: defaultdict[str, set[Ref]] = defaultdict(set)
        self._alive: set[str] = set()
        self._queue: WorkQueue[Ref] = WorkQueue()

    async def run(self) -> None:
        changes = self._objects.store.subscribe()
        existing = list(self._objects.store.everything())
        for resource, tree in existing:
            self._note(Change(0, "ADDED", resource, tree, None))
        for resource, tree in existing:
            self._queue.add(_ref(resource, tree))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            while True:
                for change in await changes.wait():
                    self._note(change)

    def _note(self, change: Change) -> None:
        tree, ref = change.object, _ref(change.resource, change.object)
        metadata = tree["metadata"]
        owners = metadata.get("ownerReferences") or []
        if change.type == "DELETED":
            self._alive.discard(metadata["uid"])
            for owner in owners:
                self._dependents[owner["uid"]].discard(ref)
                self._ask_about_owner(owner, ref)
            for dependent in self._dependents.pop(metadata["uid"], ()):
                self._queue.add(dependent)
            if change.resource != NAMESPACES.full_name and metadata.get("namespace"):
                self._queue.add((NAMESPACES.full_name, "", metadata["namespace"]))
            return
        self._alive.add(metadata["uid"])
        before = (change.before or {}).get("metadata", {}).get("ownerReferences") or []
        for owner in before:
            self._dependents[owner["uid"]].discard(ref)
        for owner in owners:
            self._dependents[owner["uid"]].add(ref)
        if owners or metadata.get("deletionTimestamp"):
            self._queue.add(ref)

    def _ask_about_owner(self, owner: Tree, dependent: Ref) -> None:
        for resource in self._objects.store.list_resources():
            found = self._objects.store.get(resource, dependent[1], owner["name"])
            if found is not None and found["metadata"]["uid"] == owner["uid"]:
                self._queue.add(_ref(resource, found))

    async def _work(self) -> None:
        while True:
            name, namespace, object_name = await self._queue.take()
            tree = self._objects.store.get(name, namespace, object_name)
            if tree is not None:
                self._look(name, tree)
            await asyncio.sleep(0)

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
        owners = metadata.get("ownerReferences") or []
        if owners and not any(owner["uid"] in self._alive for owner in owners):
            self._objects.delete(resource, tree, policy="Background")

    def _orphan(self, uid: str) -> None:
        for name, namespace, object_name in list(self._dependents[uid]):
            tree = self._objects.store.get(name, namespace, object_name)
            if tree is not None:
                kept = [owner for owner in tree["metadata"].get("ownerReferences") or [] if owner["uid"] != uid]
                self._objects.set_metadata(resource_of(name), tree, ownerReferences=kept)

    def _delete_dependents(self, uid: str) -> bool:
        """Deletes what an object owns; says whether any of it that blocks the owner is still there."""
        blocked = False
        for name, namespace, object_name in list(self._dependents[uid]):
            tree = self._objects.store.get(name, namespace, object_name)
            if tree is None:
                continue
            owner: Tree = next((each for each in tree["metadata"].get("ownerReferences") or [] if each["uid"] == uid), {})
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

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def run(self) -> None:
        changes = self._objects.store.subscribe(NAMESPACES.full_name, "serviceaccounts", "configmaps")
        for space in self._objects.list(NAMESPACES):
            self._objects.furnish(space["metadata"]["name"])
        while True:
            for change in await changes.wait():
                metadata = change.object["metadata"]
                added = change.type == "ADDED" and change.resource == NAMESPACES.full_name
                if added or (change.type == "DELETED" and change.resource != NAMESPACES.full_name):
                    self._furnish(metadata["name"] if added else metadata["namespace"])

    def _furnish(self, namespace: str) -> None:
        space = self._objects.find(NAMESPACES, "", namespace)
        if space is not None and not space["metadata"].get("deletionTimestamp"):
            self._objects.furnish(namespace)


def _ref(resource: str, tree: Tree) -> Ref:
    return resource, tree["metadata"].get("namespace", ""), tree["metadata"]["name"]
