"""A kind of broken Job, and short ways to write one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.manifests import job

Tree = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Broken:
    """What is put into the cluster, and what `why` must say of it."""

    name: str
    manifest: Tree
    reason: str
    """In JSON and in tables."""
    says: str
    """Stands in the sentence; `{registry}` is the address of a registry that has no images to give."""
    remedy: str
    """Stands in what to do; '' where the sentence itself says it, or there is nothing to do."""
    beside: tuple[Tree, ...] = ()
    """Objects that are there before it."""
    area: str = ""
    """In which namespace: '' for one without rules, else one of AREAS."""
    everywhere: bool = False
    """The local cluster shows it too."""
    deleted: bool = False
    """It is deleted at once; a finalizer keeps it."""


def broken(
    name: str,
    reason: str,
    says: str,
    remedy: str,
    script: str = "true",
    *,
    pod: Tree | None = None,
    spec: Tree | None = None,
    container: Tree | None = None,
    metadata: Tree | None = None,
    **more: Any,
) -> Broken:
    """A Job of one shell script, and what is wrong with it."""
    manifest = job(name, script, pod=pod, container=container, **(spec or {}))
    manifest["metadata"] |= metadata or {}
    manifest["spec"] = {key: value for key, value in manifest["spec"].items() if value is not None}
    return Broken(name=name, manifest=manifest, reason=reason, says=says, remedy=remedy, **more)


def image(name: str, reason: str, says: str, remedy: str, image: str, **more: Any) -> Broken:
    return broken(name, reason, says, remedy, container={"image": image, **more.pop("container", {})}, **more)


def program(name: str, reason: str, says: str, remedy: str, *command: str, container: Tree | None = None, **more: Any) -> Broken:
    return broken(name, reason, says, remedy, container={"command": list(command), **(container or {})}, **more)


def volume(
    name: str, reason: str, says: str, remedy: str, *, mount: Tree | None = None, container: Tree | None = None, source: Tree, **more: Any
) -> Broken:
    mounts = [{"name": "v", "mountPath": "/v", **(mount or {})}]
    pod = {"volumes": [{"name": "v", **source}]}
    return broken(name, reason, says, remedy, pod=pod, container={"volumeMounts": mounts, **(container or {})}, **more)


def env(name: str, reason: str, says: str, remedy: str, source: Tree, **more: Any) -> Broken:
    return broken(name, reason, says, remedy, container={"env": [{"name": "A", "valueFrom": source}]}, **more)


def asks(name: str, reason: str, says: str, remedy: str, **resources: str) -> Broken:
    """`__` stands for `/`, `_` for `-` or, before `com`, for `.`."""
    amounts = {key.replace("_com__", ".com/").replace("_", "-"): value for key, value in resources.items()}
    return broken(name, reason, says, remedy, container={"resources": {"requests": amounts, "limits": amounts}})


def init(name: str, *command: str, **more: Any) -> Tree:
    """An init container."""
    return {"name": name, "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": list(command), **more}


def config_map(name: str, **data: str) -> Tree:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def claim(name: str, **metadata: Any) -> Tree:
    """A claim that nothing will ever serve."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, **metadata}, "spec": spec}
