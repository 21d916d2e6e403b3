"""Makes ready what a node needs on this machine: Debian's packages where we may install them, and the built programs."""

from __future__ import annotations

import os
import shutil
import subprocess

from tests.kubernetes import build


def node() -> str:
    """An empty string when a node can be started; else why not, with the line that would mend it."""
    missing = build.missing_packages()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        build.say(f"installing {' '.join(missing)} (apt-get, once) ...")
        quiet = {"check": False, "stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)  # type: ignore[call-overload]
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], **quiet)  # type: ignore[call-overload]
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
