"""The level `restricted` of the Pod Security Standards: what it asks for beyond `baseline`."""

from __future__ import annotations

from collections.abc import Iterator

from jobyard.files.pod_security.baseline import PROFILES, Rule, masked_proc, only, only_capabilities
from jobyard.files.pod_security.pods import Breach, Pod
from jobyard.files.rules.checks import either
from jobyard.files.rules.part import Part

_VOLUMES = ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret")
_CAPABILITIES = ("NET_BIND_SERVICE",)


def volumes(pod: Pod) -> Iterator[Breach]:
    """A volume that names no kind is an emptyDir."""
    for volume in pod.spec.parts("volumes"):
        for key, value in volume.value.items():
            if key not in ("name", *_VOLUMES) and value is not None:
                yield Breach(part=volume, key=(key,), expected=f"one of {', '.join(_VOLUMES)}")


def privilege_escalation(pod: Pod) -> Iterator[Breach]:
    if not pod.is_for_windows:
        for container in pod.containers:
            yield from _must(container, ("securityContext", "allowPrivilegeEscalation"), (False,), "false")


def dropped_capabilities(pod: Pod) -> Iterator[Breach]:
    if pod.is_for_windows:
        return
    yield from only_capabilities(pod, _CAPABILITIES)
    for container in pod.containers:
        context = container.part("securityContext")
        own = context.part("capabilities") if context else None
        if own is None or "ALL" not in own.list("drop"):
            is_missing = own is None or not own.has("drop")
            yield Breach(part=container, key=("securityContext", "capabilities", "drop"), expected='["ALL"]', missing=is_missing)


def non_root(pod: Pod) -> Iterator[Breach]:
    """Said of the pod or of each container. A pod with a user namespace may have its root. Since 1.35."""
    if not pod.has_own_users:
        yield from _of_pod_or_containers(pod, ("runAsNonRoot",), (True,), "true")


def root_by_number(pod: Pod) -> Iterator[Breach]:
    for context in () if pod.has_own_users else pod.contexts:
        user = context.value.get("runAsUser")
        if user is not None and (not isinstance(user, int) or user == 0):
            yield Breach(part=context, key=("runAsUser",), expected="the number of a user, other than 0")


def some_seccomp(pod: Pod) -> Iterator[Breach]:
    if not pod.is_for_windows:
        yield from _of_pod_or_containers(pod, ("seccompProfile", "type"), PROFILES, either(PROFILES))


def _of_pod_or_containers(pod: Pod, path: tuple[str, ...], allowed: tuple[object, ...], expected: str) -> Iterator[Breach]:
    """What stands in a security context must be allowed; and where the pod's has nothing, each container's must have it."""
    for context in pod.contexts:
        if context.has(path[0]):
            yield from _must(context, path, allowed, expected)
    whole = pod.spec.part("securityContext")
    for container in () if whole and whole.has(path[0]) else pod.containers:
        own = container.part("securityContext")
        if own is None or not own.has(path[0]):
            yield Breach(part=container, key=("securityContext", *path), expected=expected, missing=True)


def _must(part: Part, path: tuple[str, ...], allowed: tuple[object, ...], expected: str) -> Iterator[Breach]:
    """A breach where what stands at `path` is not allowed, or is not there."""
    below: Part | None = part
    for key in path[:-1]:
        below = below.part(key) if below else None
    if below is not None:
        yield from only(below, path[-1], allowed, expected)
    else:
        yield Breach(part=part, key=path, expected=expected, missing=True)


RULES: tuple[Rule, ...] = (volumes, privilege_escalation, dropped_capabilities, non_root, root_by_number, some_seccomp, masked_proc)
