"""The two images that a node needs, made of Debian's busybox: `busybox`, and the `pause` that holds a pod's sandbox."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

LINKS = ("sh", "sleep", "echo", "cat", "true", "false", "env", "date", "seq", "test", "touch", "kill", "ls", "id", "head", "tail", "wc", "expr", "printf", "mkdir", "rm", "hostname", "grep", "sed", "stat", "setsid", "od", "dd", "tr")  # fmt: skip
NAMES = {
    "busybox": ["docker.io/library/busybox:latest", "docker.io/library/busybox:1.36", "registry.k8s.io/e2e-test-images/busybox:1.37.0-1"],
    "pause": ["docker.io/library/pause:latest", "registry.k8s.io/pause:3.10.1", "registry.k8s.io/pause:3.10.2"],
}
PAUSE = 'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'
"""A bare sleep would ignore SIGTERM as a container's first process, and cost 30 s for each pod that is deleted."""


def write_images(target: Path) -> None:
    """An archive that `ctr images import` takes."""
    layer = _layer()
    digest = hashlib.sha256(layer).hexdigest()
    entries: list[dict[str, Any]] = []
    with tarfile.open(target, "w") as archive:
        _add(archive, f"{digest}.tar", layer)
        for name, command in (("busybox", ["sh"]), ("pause", ["sh", "-c", PAUSE])):
            config = {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": command},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            }
            body = json.dumps(config).encode()
            path = f"{hashlib.sha256(body).hexdigest()}.json"
            _add(archive, path, body)
            entries.append({"Config": path, "RepoTags": NAMES[name], "Layers": [f"{digest}.tar"]})
        _add(archive, "manifest.json", json.dumps(entries).encode())


def _layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder in ("bin", "tmp", "etc", "dev", "proc", "sys"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            layer.addfile(entry)
        _add(layer, "bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
        _add(layer, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
        for name in LINKS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(link)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, body: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(body), mode
    archive.addfile(entry, io.BytesIO(body))
