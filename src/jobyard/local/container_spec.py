"""What a container is to be started with: its spec, and all that this refers to."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from jobyard.local import pod_env
from jobyard.local.runtime import CannotRun, ContainerSpec, Tree
from jobyard.local.volumes import leads_outside, make_folder

MESSAGE_LIMIT = 4096
_TAIL = 256 * 1024
"""Bytes of a log in which its last lines are looked for."""


def container_spec(
    pod: Tree, container: Tree, restarts: int, folder: Path, volumes: Mapping[str, Path], lookup: pod_env.Lookup, base: Mapping[str, str]
) -> ContainerSpec:
    """The spec of one run of a container, its files made under the pod's `folder`. Raises CannotRun."""
    name = container["name"]
    hostname = str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")
    message_path = _absolute(container.get("terminationMessagePath") or "/dev/termination-log")
    try:
        env = {**base, "HOSTNAME": hostname, **pod_env.environment(pod, container, lookup)}
        mounts = _mounts(pod, container, volumes, env)
    except pod_env.ConfigError as error:
        raise CannotRun("CreateContainerConfigError", str(error)) from None
    work = folder / "work" / name
    work.mkdir(parents=True, exist_ok=True)
    messages = folder / "messages"
    messages.mkdir(exist_ok=True)
    message = messages / f"{name}-{restarts}"
    message.write_bytes(b"")
    return ContainerSpec(
        id=f"{pod['metadata']['uid']}-{name}-{restarts}",
        container=container,
        pod_security=pod["spec"].get("securityContext") or {},
        hostname=hostname,
        command=pod_env.expanded(container.get("command"), env),
        args=pod_env.expanded(container.get("args"), env),
        env=env,
        work=work,
        termination=(message_path, message),
        mounts=mounts,
    )


def last_words(spec: ContainerSpec, log: Path, code: int) -> str:
    """The container's termination message: what it wrote there, else, where its policy says so, the end of its log."""
    text = read_within(spec.termination[1], MESSAGE_LIMIT)
    if not text and code and spec.container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        whole = read_within(log, _TAIL, from_end=True)
        lines = whole.removesuffix(b"\n").split(b"\n")[-80:] if whole else []
        text = b"".join(line.split(b" ", 2)[-1] + b"\n" for line in lines)[-2048:]
    return text.decode(errors="replace")


def read_within(path: Path, size: int, *, from_end: bool = False) -> bytes:
    """The first bytes of a file, or the last; nothing of what is none. A container may have put anything there: a link, a pipe, a file
    without an end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return b""
        file.seek(max(found.st_size - size, 0) if from_end else 0)
        return file.read(size)


def _absolute(path: str) -> str:
    """A path of the container from its root: what is relative is meant so."""
    return os.path.normpath(f"/{path}").replace("//", "/")


def _mounts(pod: Tree, container: Tree, volumes: Mapping[str, Path], env: Mapping[str, str]) -> list[tuple[Path, str, bool]]:
    mounts = []
    kinds = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
    for mount in container.get("volumeMounts") or []:
        source = volumes[mount["name"]]
        inside = mount.get("subPath") or pod_env.expand(mount.get("subPathExpr") or "", env)
        if inside:
            part = source / inside
            if leads_outside(part, source):
                raise pod_env.ConfigError(f"subPath {inside} leads outside of its volume")
            if not part.exists():
                make_folder(part, source, 0o777)
            source = part
        volume = kinds[mount["name"]]
        read_only = bool(mount.get("readOnly")) or any(kind in volume for kind in ("secret", "configMap", "downwardAPI", "projected"))
        mounts.append((source, _absolute(mount["mountPath"]), read_only))
    return sorted(mounts, key=lambda each: each[1])
