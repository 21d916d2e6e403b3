"""What a container is to be started with: its spec, and all that this refers to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jobyard.local import pod_env
from jobyard.local.runtime import CannotRun, ContainerSpec, Tree

MESSAGE_LIMIT = 4096


def container_spec(
    pod: Tree, container: Tree, restarts: int, folder: Path, volumes: Mapping[str, Path], lookup: pod_env.Lookup, base: Mapping[str, str]
) -> ContainerSpec:
    """The spec of one run of a container, its files made under the pod's `folder`. Raises CannotRun."""
    name = container["name"]
    hostname = str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")
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
        termination=(container.get("terminationMessagePath") or "/dev/termination-log", message),
        mounts=mounts,
    )


def last_words(spec: ContainerSpec, log: Path, code: int) -> str:
    """The container's termination message: what it wrote there, else, where its policy says so, the end of its log."""
    try:
        text = spec.termination[1].read_bytes()[:MESSAGE_LIMIT]
    except OSError:
        text = b""
    if not text and code and spec.container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        lines = log.read_bytes().splitlines(keepends=True)[-80:]
        text = b"".join(line.split(b" ", 2)[-1] for line in lines)[-2048:]
    return text.decode(errors="replace")


def _mounts(pod: Tree, container: Tree, volumes: Mapping[str, Path], env: Mapping[str, str]) -> list[tuple[Path, str, bool]]:
    mounts = []
    for mount in container.get("volumeMounts") or []:
        source = volumes[mount["name"]]
        inside = mount.get("subPath") or pod_env.expand(mount.get("subPathExpr") or "", env)
        if inside:
            part = source / inside
            if not part.resolve().is_relative_to(source.resolve()):
                raise pod_env.ConfigError(f"subPath {inside} leads outside of its volume")
            if not part.exists():
                part.mkdir(parents=True)
            source = part
        volume = next(each for each in pod["spec"]["volumes"] if each["name"] == mount["name"])
        read_only = bool(mount.get("readOnly")) or any(kind in volume for kind in ("secret", "configMap", "downwardAPI", "projected"))
        mounts.append((source, mount["mountPath"], read_only))
    return sorted(mounts, key=lambda each: each[1])
