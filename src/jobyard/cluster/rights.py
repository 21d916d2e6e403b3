"""The rights that Jobyard needs, and no others: a namespaced Role. `jobyard manifests --rbac` prints it.

A test runs the command line's own tests under exactly this Role, and another takes each verb away in turn and sees that something fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobyard.model.objects import Manifest


@dataclass(frozen=True, kw_only=True)
class Right:
    """What may be done with a resource, and what for."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str


RIGHTS = (
    Right(
        group="batch",
        resource="jobs",
        verbs=("create", "get", "list", "watch", "patch", "delete"),
        why="start steps, see what becomes of them, stop them, hand back their TTL, clean up",
    ),
    Right(
        group="",
        resource="configmaps",
        verbs=("create", "get", "list", "watch", "patch", "delete"),
        why="the runs' records, limits; and retention",
    ),
    Right(
        group="",
        resource="pods",
        verbs=("list", "watch", "delete"),
        why="why a step does not run or failed, its outputs; the end of what a cancel could not end",
    ),
    Right(group="", resource="secrets", verbs=("create", "get", "delete"), why="the Secrets that a repository commits beside its Jobs"),
    Right(group="", resource="pods/log", verbs=("get",), why="the last lines of what failed, and `jobyard logs`"),
    Right(group="coordination.k8s.io", resource="leases", verbs=("create", "get", "patch"), why="who of several leads"),
    Right(group="", resource="events", verbs=("list", "watch"), why="what Kubernetes says nowhere else: no node fits, quota, volumes"),
)


def rbac(namespace: str, name: str = "jobyard", rights: tuple[Right, ...] = RIGHTS) -> list[Manifest]:
    """A service account, its Role and the binding of the two."""
    metadata = {"name": name, "namespace": namespace}
    rules = [{"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)} for right in rights]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    ]
