"""Makes ready what a node needs on this machine: Debian's packages where we may install them, and the built programs."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from jobyard.local.process_runtime import find_bubblewrap
from tests.kubernetes import build


@contextmanager
def alone(at: str) -> Iterator[None]:
    """One process at a time does this; the others then find it done."""
    build.cache().mkdir(parents=True, exist_ok=True)
    with (build.cache() / f"{at}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(packages: list[str]) -> None:
    """Installs Debian's packages where we may, and says so; elsewhere does nothing."""
    if not packages or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    build.say(f"installing {' '.join(packages)} (apt-get, once) ...")
    quiet = {"check": False, "stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    with alone("install"):
        subprocess.run(["apt-get", "update", "-qq"], **quiet)  # type: ignore[call-overload]
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], **quiet)  # type: ignore[call-overload]


def bubblewrap() -> str:
    """An empty string when the local cluster can mount volumes here; else why not."""
    with alone("prepare"):
        if shutil.which("bwrap") is None:
            install(["bubblewrap"])
    return "" if find_bubblewrap() else "bubblewrap is missing or may not be used here: apt-get install bubblewrap"


def kubectl() -> str | None:
    """A kubectl: the system's, else the one built for the node, if it is there already."""
    built = sorted(build.cache().glob(f"{build.VERSION}-*/kubectl"))
    return shutil.which("kubectl") or (str(built[0]) if built else None)


def node() -> str:
    """An empty string when a node can be started; else why not, with the line that would mend it."""
    with alone("prepare"):
        missing = build.missing_packages()
        if missing:
            install(missing)
            _stop_what_debian_started()
        if why := build.why_not():
            return why
        try:
            build.node_programs()
        except (OSError, subprocess.CalledProcessError) as error:
            return f"its programs could not be built ({error})"
    return ""


def cases() -> str:
    """An empty string when Kubernetes' own cases can be run on the local cluster; else why not."""
    with alone("prepare"):
        if shutil.which("busybox") is None:
            install(["busybox-static"])
        if shutil.which("busybox") is None:
            return "their scripts are written for busybox' shell: apt-get install busybox-static"
        try:
            build.e2e_binary()
        except (OSError, subprocess.CalledProcessError) as error:
            return f"they could not be built ({error})"
    return ""


def _stop_what_debian_started() -> None:
    """Debian starts containerd as a service where there is systemd; ours is its own."""
    if shutil.which("systemctl"):
        subprocess.run(["systemctl", "disable", "--now", "containerd"], check=False, capture_output=True)
