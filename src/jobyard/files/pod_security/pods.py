"""Where pods stand in Kubernetes' objects, and how rules look at one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobyard.files.borders import Budget
from jobyard.files.document import Document
from jobyard.files.inspection import Inspection
from jobyard.files.rules.part import Part
from jobyard.model.template import Path as TreePath
from jobyard.schema import shapes
from jobyard.schema.shapes import Shape

_PLACES: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("batch", "Job"): ("spec", "template"),
}
"""By group and kind, where what a pod is made of stands: the kinds that Kubernetes' own admission of pods knows."""

_WITHOUT = {
    "": {
        "ConfigMap",
        "Endpoints",
        "Event",
        "LimitRange",
        "PersistentVolumeClaim",
        "ResourceQuota",
        "Secret",
        "Service",
        "ServiceAccount",
    },
    "autoscaling": {"HorizontalPodAutoscaler"},
    "coordination.k8s.io": {"Lease"},
    "discovery.k8s.io": {"EndpointSlice"},
    "events.k8s.io": {"Event"},
    "networking.k8s.io": {"Ingress", "NetworkPolicy"},
    "policy": {"PodDisruptionBudget"},
    "resource.k8s.io": {"ResourceClaim", "ResourceClaimTemplate"},
    "storage.k8s.io": {"CSIStorageCapacity"},
}
"""Kubernetes' own kinds of which no pod is made. Left out on purpose: ControllerRevision, which holds patches of pod templates."""

_OF_PODS = {"metadata", "annotations", "spec", "containers", "initContainers", "ephemeralContainers", "volumes", "os", "securityContext"}
_OF_CONTEXTS = {"windowsOptions", "seLinuxOptions", "seccompProfile", "appArmorProfile", "sysctls", "capabilities", "add", "drop"}
_OF_CONTAINERS = {"ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "postStart", "preStop", "httpGet", "tcpSocket"}
_LOOKED_INTO = _OF_PODS | _OF_CONTEXTS | _OF_CONTAINERS
"""The mappings and lists of a pod that rules look into."""


@dataclass(frozen=True, kw_only=True)
class Breach:
    """Something in a pod that a rule does not allow, at `key` of `part`. `missing`: what is expected there is not there."""

    part: Part
    key: TreePath
    expected: str
    missing: bool = False


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod, or what one is made of, as its author wrote it."""

    metadata: Part | None
    spec: Part
    containers: tuple[Part, ...]
    """Of every sort: ephemeral and init containers, too."""

    @property
    def contexts(self) -> list[Part]:
        """The security contexts: the pod's, and those of its containers."""
        return [context for each in (self.spec, *self.containers) if (context := each.part("securityContext"))]

    @property
    def has_own_users(self) -> bool:
        """Whether it has a user namespace: root in it is nobody on the node."""
        return self.spec.value.get("hostUsers") is False

    @property
    def is_for_windows(self) -> bool:
        system = self.spec.part("os")
        return system is not None and system.value.get("name") == "windows"


def knows(api_version: str, kind: str) -> bool:
    """Whether this is a kind of which we know where its pods stand, or that it has none."""
    group = _group(api_version)
    return (group, kind) in _PLACES or kind in _WITHOUT.get(group, ())


def pod_of(document: Document) -> Pod | None:
    """The pod that an object is or makes; None when it has none that can be read."""
    part: Part | None = _root(document)
    place = _place(document)
    for key in place or ():
        part = part.part(key) if part else None
    spec = part.part("spec") if part and place is not None else None
    if part is None or spec is None:
        return None
    containers = [each for key in ("initContainers", "containers", "ephemeralContainers") for each in spec.parts(key)]
    return Pod(metadata=part.part("metadata"), spec=spec, containers=tuple(containers))


def unreadable(document: Document) -> Iterator[Breach]:
    """The places in an object that makes pods, on the way to its pod and in it, where a mapping or a list is wanted and something else
    stands: a placeholder, say, which is filled when nobody judges any more."""
    part, place = _root(document), _place(document)
    if place is None:
        return
    if part.has("metadata") and part.part("metadata") is None:
        yield Breach(part=part, key=("metadata",), expected="a mapping")
    for key in place:
        below = part.part(key)
        if below is None:
            if part.has(key):
                yield Breach(part=part, key=(key,), expected="a mapping")
            return
        part = below
    yield from _unreadable(part, shapes.of("v1/Pod"), part.value, ())


def _unreadable(root: Part, shape: Shape, value: Any, path: TreePath) -> Iterator[Breach]:
    if value is None or shape.kind not in ("object", "map", "list"):
        return
    fits = isinstance(value, list if shape.kind == "list" else dict)
    if not fits:
        yield Breach(part=root, key=path, expected="a list" if shape.kind == "list" else "a mapping")
    elif shape.kind == "list" and shape.item:
        for index, each in enumerate(value):
            yield from _unreadable(root, shape.item, each, (*path, index))
    elif shape.kind == "object":
        for name, field in shape.fields.items():
            if name in _LOOKED_INTO:
                yield from _unreadable(root, field, value.get(name), (*path, name))


def _root(document: Document) -> Part:
    tree = document.tree if isinstance(document.tree, dict) else {}
    return Part(tree, (), Inspection(document, Budget()), literal=True)


def _place(document: Document) -> tuple[str, ...] | None:
    tree = document.tree if isinstance(document.tree, dict) else {}
    return _PLACES.get((_group(str(tree.get("apiVersion"))), str(tree.get("kind"))))


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]
