"""A pod's volumes as folders of this machine, and how bubblewrap puts them where the container looks for them."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
from pathlib import Path
from typing import Any

from jobyard.local.pod_env import Budget, ConfigError, Lookup, field, has_key, keys_of, resource, value_of
from jobyard.local.private import open_private

Tree = dict[str, Any]


class MountError(Exception):
    """Why a volume can't be set up, in the kubelet's words."""


_FILE = 4096
"""Bytes that a file takes at least."""
VOLUMES_LIMIT = 64 * 1024 * 1024
"""Bytes that the files of a pod's volumes may come to: one ConfigMap may stand in thousands of them."""


def prepare(pod: Tree, folder: Path, lookup: Lookup) -> dict[str, Path]:
    """A folder (or file) for each volume of the pod, made under `folder`. Raises MountError."""
    found: dict[str, Path] = {}
    budget = Budget(VOLUMES_LIMIT)
    for volume in pod["spec"].get("volumes") or []:
        name = volume["name"]
        target = folder / "volumes" / name
        if volume.get("hostPath"):
            target = _host_path(volume["hostPath"], name)
        elif "emptyDir" in volume:
            make_folder(target, folder, 0o777)  # whoever a container runs as may write it
        else:
            make_folder(target, folder, 0o755)
            for source in (volume.get("projected") or {}).get("sources") or [volume]:
                try:
                    _fill(pod, source, target, name, lookup, budget)
                except ConfigError as error:
                    raise MountError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from None
        found[name] = target
    return found


def make_folder(folder: Path, top: Path, mode: int) -> None:
    """Makes a folder below `top`, with those between, of this mode whatever our umask is: a container's user has to enter it."""
    for each in reversed([folder, *folder.parents]):
        if each != top and each.is_relative_to(top) and not each.is_dir():
            each.mkdir(parents=True)
            each.chmod(mode)


_CHECKS = {
    "Directory": Path.is_dir,
    "File": Path.is_file,
    "Socket": Path.is_socket,
    "CharDevice": Path.is_char_device,
    "BlockDevice": Path.is_block_device,
}


def _host_path(source: Tree, name: str) -> Path:
    path, kind = Path("/", source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate" and not path.exists():
        make_folder(path, Path("/"), 0o755)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    failed = f'MountVolume.SetUp failed for volume "{name}" : hostPath type check failed: {path}'
    if not path.exists():
        raise MountError(f"{failed} does not exist")
    if not _CHECKS.get(kind.removesuffix("OrCreate"), Path.exists)(path):
        raise MountError(f"{failed} is not a {kind.removesuffix('OrCreate').lower()}")
    return path


def _fill(pod: Tree, source: Tree, target: Path, name: str, lookup: Lookup, budget: Budget) -> None:
    for kind, key, field_name in (("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")):
        wanted = source.get(key)
        if wanted is None:
            continue
        object_name = wanted.get(field_name) or wanted.get("name")
        tree = lookup(kind, object_name)
        if tree is None:
            if wanted.get("optional"):
                return
            raise MountError(f'MountVolume.SetUp failed for volume "{name}" : {kind.lower()} "{object_name}" not found')
        _write(tree, wanted, target, name, budget)
        return
    if (downward := source.get("downwardAPI")) is not None:
        for item in downward.get("items") or []:
            mode = int(item.get("mode") or downward.get("defaultMode") or 0o644)
            _put(target, item["path"], _downward(pod, item).encode(), mode, budget)
        return
    if source.get("serviceAccountToken") is not None:
        return
    kind = next((key for key in source if key != "name"), "an unknown kind")
    raise MountError(f'MountVolume.SetUp failed for volume "{name}" : the local cluster has no volumes of kind {kind}')


def leads_outside(path: Path, folder: Path) -> bool:
    """Whether a path leads out of a folder, by `..` or by links that a container may have put there."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _downward(pod: Tree, item: Tree) -> str:
    if wanted := item.get("resourceFieldRef"):
        containers = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        return resource(next((each for each in containers if each["name"] == wanted.get("containerName")), {}), wanted)
    return field(pod, (item.get("fieldRef") or {}).get("fieldPath", "metadata.name"))


def _write(tree: Tree, wanted: Tree, target: Path, name: str, budget: Budget) -> None:
    mode = int(wanted.get("defaultMode") or 0o644)
    items = wanted.get("items")
    if not items:
        for key in keys_of(tree):
            _put(target, key, value_of(tree, key), mode, budget)
        return
    for item in items:
        if not has_key(tree, item["key"]):
            if wanted.get("optional"):
                continue
            raise MountError(f'MountVolume.SetUp failed for volume "{name}" : references non-existent key: {item["key"]}')
        _put(target, item["path"], value_of(tree, item["key"]), int(item.get("mode") or mode), budget)


def _put(target: Path, relative: str, value: bytes, mode: int, budget: Budget) -> None:
    budget.spend(max(len(value), _FILE))
    path = target / relative
    if leads_outside(path, target):
        raise MountError(f"a path that leads outside of its volume: {relative}")
    make_folder(path.parent, target, 0o755)
    path.unlink(missing_ok=True)
    with open(path, "wb", opener=open_private) as file:
        file.write(value)
    path.chmod(mode)


def bubblewrap(*, work: Path, termination: tuple[str, Path], mounts: list[tuple[Path, str, bool]], chdir: str) -> list[str]:
    """bwrap's arguments: this machine's files, a /dev of its own, and each mount (source, target, read-only) at its place.

    A mount point that is not there is made in a copy of its parent's listing in memory, so nothing is made on the machine itself.
    """
    targets = [target for _, target, _ in mounts]
    shadows = _shadows([*targets, termination[0]])
    args = ["--bind", "/", "/"] if "/" not in shadows else _shadow("/")
    for folder in sorted(shadows - {"/"}):
        args += ["--tmpfs", folder, *_shadow(folder)]
    args += ["--dev", "/dev"]
    for source, target, read_only in mounts:
        args += ["--ro-bind" if read_only else "--bind", str(source), target]
    return [*args, "--bind", str(work), str(work), "--bind", str(termination[1]), termination[0], "--chdir", chdir, "--die-with-parent"]


def _shadows(targets: list[str]) -> set[str]:
    """The folders that have to be shadowed so that every target can be made."""
    found = set()
    for target in targets:
        path = os.path.normpath(target)
        if os.path.lexists(path) or path.startswith(("/dev/", "/proc/")):
            continue
        parent = os.path.dirname(path)
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        found.add(parent)
    return found


def _shadow(folder: str) -> list[str]:
    args: list[str] = []
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if entry.is_symlink():
            args += ["--symlink", os.readlink(entry.path), entry.path]
        elif entry.path not in ("/dev",):
            args += ["--bind", entry.path, entry.path]
    return args


def remove_folder(folder: Path) -> None:
    """Takes a pod's folder away, whatever its modes are; not in our own time, for it may hold a million files."""
    asyncio.get_running_loop().run_in_executor(None, functools.partial(shutil.rmtree, folder, ignore_errors=True))
