"""The rights that each part of Jobyard needs, and no others: a namespaced Role. `jobyard manifests --rbac` prints it.

A test runs the command line's own tests under exactly this Role, and another takes each verb away in turn and sees that something fails.
No part may read Secrets unless that is asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from jobyard.access import Right
from jobyard.model.errors import WrongInput
from jobyard.model.objects import Manifest

VERBS = ("create", "get", "list", "watch", "patch", "delete")
"""In the order in which they are printed."""


class UnknownKind(WrongInput):
    """A kind that we have not heard of. `hint` follows it."""

    sentence = "kind {kind} is unknown or not namespaced{hint}; name a custom kind as PLURAL.GROUP, such as rayclusters.ray.io"
    kind: str
    hint: str


class KindRefused(WrongInput):
    """A kind that no run may bring with it."""

    sentence = "objects of kind {kind} beside a Job are refused: apply them first"
    kind: str


_STEPS = "start Jobs, watch them, stop them, restore their TTL, clean up"
_JOBS = Right(group="batch", resource="jobs", verbs=VERBS, why=_STEPS)
_PODS = Right(
    group="",
    resource="pods",
    verbs=("list", "watch", "delete"),
    why="why a step is not running or failed, its outputs; force-deleting what a cancel could not end",
)
_LOGS = Right(group="", resource="pods/log", verbs=("get",), why="the last lines of what failed, and `jobyard logs`")
_RECORDS = Right(
    group="",
    resource="configmaps",
    verbs=VERBS,
    why="the runs' records, limits, retention; how a service's triggers stand, and their pauses",
)
_EVENTS = Right(
    group="",
    resource="events",
    verbs=("list", "watch"),
    why="what Kubernetes says nowhere else: no node fits, quota, volumes",
    without="diagnoses say less",
)
_LEASES = Right(
    group="coordination.k8s.io",
    resource="leases",
    verbs=("create", "get", "patch"),
    why="which replica of a service leads",
    without="only with `replicas: 1`",
)
_SECRETS = Right(group="", resource="secrets", verbs=("create",), why="the Secrets that a run brings with it")
_COMMITTED = Right(
    group="", resource="secrets", verbs=("create", "get", "delete"), why="the Secrets that a repository commits beside its Jobs"
)

_QUEUE = (_JOBS, _PODS, replace(_LOGS, without="failures are reported without the last lines of their logs"))

PARTS: Mapping[str, tuple[Right, ...]] = {
    "run": (_JOBS, _RECORDS, _PODS, _LOGS, _EVENTS),
    "git": (_JOBS, _RECORDS, _PODS, _LOGS, _EVENTS, _LEASES),
    "pgboss": _QUEUE,
    "amqp": (
        *_QUEUE,
        replace(
            _RECORDS,
            without="a pause does not survive a restart, only runs of a single Job that starts at once are accepted, and limits are not enforced",
        ),
        _EVENTS,
        _LEASES,
    ),
    "page": (_JOBS, _RECORDS, _PODS, _LOGS, _EVENTS),
}
"""What each part needs, whatever it runs."""

SECRETS: Mapping[str, Right] = {"run": _SECRETS, "git": _COMMITTED, "amqp": _SECRETS}
"""What it needs beside that where its runs bring Secrets."""

_KINDS: Mapping[str, tuple[str, str]] = {
    "ConfigMap": ("", "configmaps"),
    "CronJob": ("batch", "cronjobs"),
    "DaemonSet": ("apps", "daemonsets"),
    "Deployment": ("apps", "deployments"),
    "Endpoints": ("", "endpoints"),
    "EndpointSlice": ("discovery.k8s.io", "endpointslices"),
    "HorizontalPodAutoscaler": ("autoscaling", "horizontalpodautoscalers"),
    "Ingress": ("networking.k8s.io", "ingresses"),
    "LimitRange": ("", "limitranges"),
    "NetworkPolicy": ("networking.k8s.io", "networkpolicies"),
    "PersistentVolumeClaim": ("", "persistentvolumeclaims"),
    "Pod": ("", "pods"),
    "PodDisruptionBudget": ("policy", "poddisruptionbudgets"),
    "PodTemplate": ("", "podtemplates"),
    "ReplicaSet": ("apps", "replicasets"),
    "ReplicationController": ("", "replicationcontrollers"),
    "ResourceClaim": ("resource.k8s.io", "resourceclaims"),
    "ResourceClaimTemplate": ("resource.k8s.io", "resourceclaimtemplates"),
    "ResourceQuota": ("", "resourcequotas"),
    "Secret": ("", "secrets"),
    "Service": ("", "services"),
    "ServiceAccount": ("", "serviceaccounts"),
    "StatefulSet": ("apps", "statefulsets"),
}
_REFUSED = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace")
_KEPT = ("PersistentVolumeClaim", "ServiceAccount")
"""Made if it is missing, and never deleted: it holds data or identity."""


def of_kind(name: str) -> Right:
    """What a run needs that brings objects of this kind. Raises UnknownKind, KindRefused."""
    if name in _REFUSED:
        raise KindRefused(kind=name)
    plural, dot, group = name.partition(".")
    if name not in _KINDS and not (dot and plural.islower()):
        near = difflib.get_close_matches(name, _KINDS, 1)
        raise UnknownKind(kind=name, hint=f" (did you mean {near[0]}?)" if near else "")
    group, resource = _KINDS.get(name, (group, plural))
    if name in _KEPT:
        return Right(group=group, resource=resource, verbs=("create",), why=f"each {name} that a run brings, where it is missing")
    return Right(
        group=group, resource=resource, verbs=("create", "get", "delete"), why=f"each {name} that a run brings, and deletes with itself"
    )


def needed(parts: Iterable[str] = tuple(PARTS), *, secrets: bool = False, kinds: Sequence[str] = ()) -> tuple[Right, ...]:
    """What these parts need, each resource once. `secrets`: their runs bring Secrets; `kinds`: and objects of these kinds.

    Raises UnknownKind, KindRefused.
    """
    named = list(parts)
    asked = [right for part in named for right in PARTS[part]]
    asked += [SECRETS[part] for part in named if secrets and part in SECRETS]
    asked += [of_kind(kind) for kind in kinds]
    merged: dict[tuple[str, str], Right] = {}
    for right in asked:
        key = (right.group, right.resource)
        merged[key] = _both(merged[key], right) if key in merged else right
    return tuple(merged.values())


def _both(one: Right, other: Right) -> Right:
    why = one.why if other.why in one.why else f"{one.why}; {other.why}"
    verbs = tuple(verb for verb in VERBS if verb in one.verbs or verb in other.verbs)
    return replace(one, verbs=verbs, why=why, without=one.without if other.without else "")


RIGHTS = needed(secrets=True)
"""What all parts need, Secrets included."""


def rbac(namespace: str, name: str = "jobyard", rights: Sequence[Right] = RIGHTS, account: tuple[str, str] | None = None) -> list[Manifest]:
    """A service account, its Role and the binding of the two. `account`: one that is there already, by namespace and name; then none is made."""
    metadata = {"name": name, "namespace": namespace}
    rules = [{"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)} for right in rights]
    their_namespace, theirs = account or (namespace, name)
    return [
        *([{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}] if account is None else []),
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": theirs, "namespace": their_namespace}],
        },
    ]
