"""What the API server does with an object, apart from HTTP: create, update, delete, with all the rules of identity and versions."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import msgspec

from jobyard.local import apply, times
from jobyard.local.defaults import fill
from jobyard.local.resources import BY_NAME, CONFIG_MAPS, CRON_JOBS, EVENTS, JOBS, NAMESPACES, NODE, NODES, PODS, SERVICE_ACCOUNTS, Resource
from jobyard.local.status import ApiError, already_exists, conflict, forbidden, invalid, not_found
from jobyard.local.store import Store
from jobyard.local.validation import check, check_status, check_update

Tree = dict[str, Any]

KEPT_NAMESPACES = ("default", "kube-system")
"""Those that every cluster has. Nor does its only node go."""
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_OWN_METADATA = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "namespace", "name")
"""What an update can't change."""


_SIZE_LIMIT = 3 * 512 * 1024
"""Bytes of an object: what etcd keeps."""
_MESSAGE_LIMIT, _EVENT_NAME = 1024, 230
"""Characters of an event's message, and of the name of what it is about in its own."""


def _bound(tree: Tree) -> None:
    """Raises ApiError (413) for an object that is too large: patches could make it grow for ever."""
    if len(msgspec.json.encode(tree)) > _SIZE_LIMIT:
        raise ApiError(413, f"etcdserver: request is too large: limit is {_SIZE_LIMIT}")


class Objects:
    """The registry: every change of the cluster's state goes through here."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, resource: Resource, namespace: str, name: str) -> Tree:
        tree = self.store.get(resource.full_name, namespace, name)
        if tree is None:
            raise not_found(resource, name)
        return tree

    def find(self, resource: Resource, namespace: str, name: str) -> Tree | None:
        return self.store.get(resource.full_name, namespace, name)

    def list(self, resource: Resource, namespace: str = "") -> list[Tree]:
        return self.store.list(resource.full_name, namespace)

    # --- create ---

    def create(self, resource: Resource, namespace: str, tree: Tree, *, dry_run: bool = False) -> Tree:
        """Creates an object. Raises ApiError (403, 404, 409, 422)."""
        metadata = dict(tree.get("metadata") or {})
        if resource.namespaced:
            named = metadata.get("namespace") or namespace
            if named != namespace:
                raise ApiError(
                    400, f"the namespace of the provided object does not match the namespace sent on the request ({named} != {namespace})"
                )
            metadata["namespace"] = namespace
        elif metadata.pop("namespace", None):
            raise ApiError(400, "namespace may not be set on a cluster-scoped object")
        if not metadata.get("name"):
            if not metadata.get("generateName"):
                problem = "name or generateName is required"
                raise ApiError(422, f'{resource.kind} "" is invalid: metadata.name: Required value: {problem}')
            metadata["name"] = self._generate(resource, namespace, str(metadata["generateName"]))
        name = str(metadata["name"])
        self._admit(resource, namespace, name, tree)
        if metadata.get("resourceVersion"):
            raise ApiError(400, "resourceVersion should not be set on objects to be created")
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(key, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": times.stamp()}
        metadata |= {"managedFields": apply.owners_of(metadata)} if metadata.get("managedFields") else {}
        if resource in (JOBS, PODS, CRON_JOBS):
            metadata["generation"] = 1
        whole: Tree = {**tree, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
        if resource in (JOBS, PODS, CRON_JOBS):
            whole["status"] = {"phase": "Pending", "qosClass": "BestEffort"} if resource is PODS else {}
        whole = fill(resource, whole)
        if problems := check(resource, whole):
            raise invalid(resource, name, problems)
        if self.find(resource, namespace if resource.namespaced else "", name) is not None:
            raise already_exists(resource, name)
        _bound(whole)
        return whole if dry_run else self.store.put(resource.full_name, whole)

    def _generate(self, resource: Resource, namespace: str, prefix: str) -> str:
        for _ in range(8):
            name = prefix[:58] + "".join(secrets.choice(_SUFFIX) for _ in range(5))
            if self.find(resource, namespace, name) is None:
                return name
        raise already_exists(resource, prefix)

    def _admit(self, resource: Resource, namespace: str, name: str, tree: Tree) -> None:
        if resource.namespaced:
            space = self.find(NAMESPACES, "", namespace)
            if space is None:
                raise not_found(NAMESPACES, namespace)
            if space["metadata"].get("deletionTimestamp"):
                why = f"unable to create new content in namespace {namespace} because it is being terminated"
                cause = {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {namespace} is being terminated",
                    "field": "metadata.namespace",
                }
                raise forbidden(resource, name, why, cause)
        if resource is PODS:
            account = (tree.get("spec") or {}).get("serviceAccountName") or "default"
            if self.find(SERVICE_ACCOUNTS, namespace, account) is None:
                why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
                raise forbidden(resource, name, why)

    # --- change ---

    def update(self, resource: Resource, old: Tree, new: Tree, *, subresource: str = "", dry_run: bool = False) -> Tree:
        """Replaces `old` by `new`. With a resourceVersion in `new`, only if it is still current. Raises ApiError (400, 409, 422)."""
        name, given = old["metadata"]["name"], dict(new.get("metadata") or {})
        if given.get("name", name) != name:
            raise ApiError(400, f"the name of the object ({given.get('name')}) does not match the name on the URL ({name})")
        if given.get("uid") and given["uid"] != old["metadata"]["uid"]:
            raise conflict(
                resource, name, f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {old['metadata']['uid']}"
            )
        version = given.get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise conflict(resource, name)
        kept = {key: old["metadata"][key] for key in _OWN_METADATA if key in old["metadata"]}
        metadata = {**{key: value for key, value in given.items() if key not in _OWN_METADATA}, **kept}
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        if (owners := apply.owners_of(given, old["metadata"])) or "managedFields" in metadata:
            metadata["managedFields"] = owners
        if subresource == "status":
            own = {key: given[key] for key in ("labels", "annotations") if key in given}
            whole = {**old, "status": new.get("status") or {}, "metadata": {**old["metadata"], **own}}
            if problems := check_status(resource, old, whole):
                raise invalid(resource, name, problems)
        else:
            whole = {**new, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
            if resource in (JOBS, PODS, NAMESPACES, CRON_JOBS) and subresource != "finalize":
                whole["status"] = old.get("status") or {}
            whole = fill(resource, whole)
            if problems := check_update(resource, old, whole):
                raise invalid(resource, name, problems)
            if resource in (JOBS, CRON_JOBS) and whole["spec"] != old["spec"]:
                whole["metadata"] = {**whole["metadata"], "generation": old["metadata"].get("generation", 1) + 1}
        _bound(whole)
        if dry_run or whole == old:
            return whole
        return self._write(resource, whole)

    def _write(self, resource: Resource, tree: Tree) -> Tree:
        """Writes an object; one that is to be deleted, and that nobody holds any more, goes."""
        metadata = tree["metadata"]
        gone = metadata.get("deletionTimestamp") and not metadata.get("finalizers") and not self._lingers(resource, tree)
        written = self.store.put(resource.full_name, tree)
        if gone:
            return self.store.remove(resource.full_name, metadata.get("namespace", ""), metadata["name"]) or written
        return written

    def _lingers(self, resource: Resource, tree: Tree) -> bool:
        if resource is PODS:
            return bool(tree["metadata"].get("deletionGracePeriodSeconds"))
        return resource is NAMESPACES and bool((tree.get("spec") or {}).get("finalizers"))

    def set_status(self, resource: Resource, tree: Tree, status: Tree) -> Tree:
        """Writes the status of an object as it is now; returns `tree` when it is gone or has it already."""
        metadata = tree["metadata"]
        current = self.find(resource, metadata.get("namespace", ""), metadata["name"])
        if current is None or current["metadata"]["uid"] != metadata["uid"] or current.get("status") == status:
            return current or tree
        return self._write(resource, {**current, "status": status})

    def set_metadata(self, resource: Resource, tree: Tree, **changes: Any) -> Tree | None:
        """Writes fields of an object's metadata as they now shall be (None: away)."""
        metadata = tree["metadata"]
        current = self.find(resource, metadata.get("namespace", ""), metadata["name"])
        if current is None or current["metadata"]["uid"] != metadata["uid"]:
            return None
        merged = {key: value for key, value in {**current["metadata"], **changes}.items() if value is not None and value != []}
        return self._write(resource, {**current, "metadata": merged})

    # --- delete ---

    def delete(
        self, resource: Resource, tree: Tree, *, policy: str | None = None, grace: int | None = None, dry_run: bool = False
    ) -> Tree | None:
        """Deletes an object by a propagation policy; returns what is left of it (finalizers, a grace period), or None when it is gone."""
        metadata = tree["metadata"]
        if (resource is NAMESPACES and metadata["name"] in KEPT_NAMESPACES) or resource is NODES:
            raise forbidden(resource, metadata["name"], f"this {resource.kind.lower()} may not be deleted")
        policy = policy or ("Orphan" if resource is JOBS else "Background")
        finalizers = [each for each in metadata.get("finalizers") or [] if each not in (FOREGROUND, ORPHAN)]
        if policy in ("Foreground", "Orphan"):
            finalizers.append(FOREGROUND if policy == "Foreground" else ORPHAN)
        if dry_run:
            return tree
        seconds = self._grace(tree, grace) if resource is PODS else 0
        changes: Tree = {"finalizers": finalizers, "deletionGracePeriodSeconds": seconds}
        since = metadata.get("deletionTimestamp")
        if since is None or seconds < metadata.get("deletionGracePeriodSeconds", 0):
            changes["deletionTimestamp"] = times.stamp(times.after(times.now(), seconds))
        elif resource is PODS:
            changes["deletionGracePeriodSeconds"] = metadata.get("deletionGracePeriodSeconds", 0)
        if since is None and "generation" in metadata:
            changes["generation"] = metadata["generation"] + 1
        holds = (
            finalizers or changes["deletionGracePeriodSeconds"] or (resource is NAMESPACES and (tree.get("spec") or {}).get("finalizers"))
        )
        if not holds:
            self.store.remove(resource.full_name, metadata.get("namespace", ""), metadata["name"])
            return None
        left = {key: value for key, value in {**metadata, **changes}.items() if value != []}
        whole = {**tree, "metadata": left}
        if resource is NAMESPACES:
            whole["status"] = {**(tree.get("status") or {}), "phase": "Terminating"}
        return whole if whole == tree else self.store.put(resource.full_name, whole)

    def _grace(self, pod: Tree, asked: int | None) -> int:
        """How long a pod may take to end: not at all when nothing of it runs, on no node or on one that there is not."""
        if pod["spec"].get("nodeName") != NODE or (pod.get("status") or {}).get("phase") in (
            "Succeeded",
            "Failed",
        ):
            return 0
        return int(pod["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else max(asked, 0))

    # --- events ---

    def event(self, about: Tree, kind: str, reason: str, message: str, source: str, field: str = "") -> None:
        """Tells people what happened, once: a repetition is counted."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        now = times.stamp()
        message = message[:_MESSAGE_LIMIT]
        name = (
            f"{metadata['name'][:_EVENT_NAME].rstrip('.-')}.{uuid.uuid5(uuid.NAMESPACE_OID, metadata['uid'] + reason + message).hex[:16]}"
        )
        known = self.find(EVENTS, namespace, name)
        if known is not None:
            self.store.put(EVENTS.full_name, {**known, "count": known.get("count", 1) + 1, "lastTimestamp": now})
            return
        involved = {
            "kind": about["kind"],
            "namespace": namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
            "apiVersion": about["apiVersion"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
        tree = {
            "involvedObject": {**involved, **({"fieldPath": field} if field else {})},
            "reason": reason,
            "message": message,
            "source": {"component": source},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": kind,
            "eventTime": None,
            "reportingComponent": source,
            "reportingInstance": "",
            "metadata": {"name": name},
        }
        try:
            self.create(EVENTS, namespace, tree)
        except ApiError:
            return  # the namespace is going: nobody will read it

    def ensure(self, resource: Resource, namespace: str, tree: Tree) -> None:
        """Makes sure that an object of this name is there."""
        if self.find(resource, namespace, tree["metadata"]["name"]) is None:
            self.create(resource, namespace, tree)

    def furnish(self, namespace: str) -> None:
        """What every namespace has: its default service account and the cluster's CA."""
        self.ensure(SERVICE_ACCOUNTS, namespace, {"metadata": {"name": "default"}})
        self.ensure(CONFIG_MAPS, namespace, {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}})


def resource_of(name: str) -> Resource:
    """The resource of a store's name."""
    return BY_NAME[name]
