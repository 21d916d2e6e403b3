"""Makes ready what a node needs on this machine: Debian's packages where we may install them, and the built programs."""

from __future__ import annotations

import os
import shutil
import subprocess

from jobyard.local.process_runtime import find_bubblewrap
from tests.kubernetes import build


def install(packages: list[str]) -> None:
    """Installs Debian's packages where we may, and says so; elsewhere does nothing."""
    if not packages or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    build.say(f"installing {' '.join(packages)} (apt-get, once) ...")
    quiet = {"check": False, "stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "update", "-qq"], **quiet)  # type: ignore[call-overload]
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], **quiet)  # type: ignore[call-overload]


def bubblewrap() -> str:
    """An empty string when the local cluster can mount volumes here; else why not."""
    if shutil.which("bwrap") is None:
        install(["bubblewrap"])
    return "" if find_bubblewrap() else "bubblewrap is missing or may not be used here: apt-get install bubblewrap"


def kubectl() -> str | None:
    """A kubectl: the system's, else the one built for the node, if it is there already."""
    built = sorted(build.cache().glob(f"{build.VERSION}-*/kubectl"))
    return shutil.which("kubectl") or (str(built[0]) if built else None)


def node() -> str:
    """An empty string when a node can be started; else why not, with the line that would mend it."""
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


def _stop_what_debian_started() -> None:
    """Debian starts containerd as a service where there is systemd; ours is its own."""
    if shutil.which("systemctl"):
        subprocess.run(["systemctl", "disable", "--now", "containerd"], check=False, capture_output=True)
