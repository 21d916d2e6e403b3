"""podman and docker for tests: installed where we may, with storage of their own, and busybox in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from tests.kubernetes.images import write_images
from tests.kubernetes.prepare import install

Name = Literal["podman", "docker"]

# Where podman may not raise its limits, or there is no systemd, it needs to be told so: containers in a container.
_CAREFUL = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def missing(name: Name) -> str:
    """An empty string when `name` is installed, or could be just now; else the line that would mend it."""
    programs = {"podman": ("podman", "runc"), "docker": ("docker", "dockerd")}[name]
    packages = {"podman": ["podman", "runc"], "docker": ["docker.io"]}[name]
    busybox = Path("/bin/busybox").exists()
    if not busybox or not all(map(_find, programs)):
        install([*packages, "busybox-static"])
    if os.geteuid() != 0:
        return "their storage of their own needs root: sudo scripts/test"
    return "" if all(map(_find, programs)) else f"not installed: apt-get install {' '.join(packages)}"


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextmanager
def environment(name: Name) -> Iterator[None]:
    """Variables by which this process and its children use a podman or docker of the tests' own, as long as the context lasts."""
    own = _podman if name == "podman" else _docker
    with (
        tempfile.TemporaryDirectory(prefix=f"jobyard-{name}-", ignore_cleanup_errors=True) as folder,
        own(Path(folder)) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        for key, value in variables.items():
            patch.setenv(key, value)
        images = Path(folder) / "images.tar"
        write_images(images)
        subprocess.run([name, "load", "--input", str(images)], check=True, capture_output=True)
        yield


@contextmanager
def _podman(folder: Path) -> Iterator[dict[str, str]]:
    storage = folder / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n')
    conf = folder / "containers.conf"
    conf.write_text(_CAREFUL)
    yield {"CONTAINERS_CONF": str(conf), "CONTAINERS_STORAGE_CONF": str(storage)}


@contextmanager
def _docker(folder: Path) -> Iterator[dict[str, str]]:
    dockerd = _find("dockerd")
    assert dockerd is not None
    socket = folder / "socket"
    words = [f"--data-root={folder}/root", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid", f"--host=unix://{socket}"]
    words += ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs", "--default-ulimit=nofile=1024:1024"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [dockerd, *words], stdout=log, stderr=log, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        )
    variables = {"DOCKER_HOST": f"unix://{socket}"}
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(["docker", "info"], check=False, capture_output=True, env={**os.environ, **variables}).returncode:
            if time.monotonic() > deadline or daemon.poll() is not None:
                raise AssertionError((folder / "log").read_text()[-2000:])
        yield variables
    finally:
        daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(30)
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
        for left in (folder / "exec/netns").glob("*"):  # docker keeps the network namespace of the host mounted there
            subprocess.run(["umount", left], check=False, capture_output=True)
