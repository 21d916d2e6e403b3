"""A real Prometheus, and its promtool: Debian's, in a folder of our own. Nothing is installed, and nobody has to be root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes import build
from tests.ports import free_port

BOUND = 60.0


def programs() -> Path:
    """The folder of `prometheus` and `promtool`; fetched once. Raises RuntimeError where Debian's packages can't be had."""
    found = shutil.which("promtool")
    if found and shutil.which("prometheus"):
        return Path(found).parent
    folder = build.cache() / "prometheus"
    if not (folder / "usr/bin/promtool").exists():
        _fetch(folder)
    return folder / "usr/bin"


def _fetch(folder: Path) -> None:
    build.cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build.cache(), prefix="fetch-") as scratch:
        said = ""
        for update in (False, True):
            if update and os.geteuid() == 0:
                subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True)
            done = subprocess.run(["apt-get", "download", "prometheus"], cwd=scratch, check=False, capture_output=True, text=True)
            said = done.stderr
            packages = list(Path(scratch).glob("*.deb"))
            if packages:
                whole = Path(scratch) / "whole"
                subprocess.run(["dpkg-deb", "-x", packages[0], whole], check=True)
                if not folder.exists():  # another may have been faster
                    whole.rename(folder)
                return
        raise RuntimeError(f"promtool is missing: apt-get install prometheus ({said.strip()})")


def check(exposition: bytes) -> str:
    """What `promtool check metrics` says of an answer of /metrics; '' when it finds nothing."""
    done = subprocess.run([programs() / "promtool", "check", "metrics"], input=exposition, capture_output=True, check=False, timeout=BOUND)
    return (done.stdout + done.stderr).decode()


class Prometheus:
    """One that scrapes a port."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self._port = port
        self._process = process

    def ask(self, path: str, **params: str) -> Any:
        """The data of an answer of its API; None while it does not answer."""
        assert self._process.poll() is None, "it ended"
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(params)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.loads(answer.read())["data"]
        except OSError:
            return None

    def until(self, query: str) -> list[dict[str, Any]]:
        """What a query finds, as soon as it finds something: nothing tells of a scrape but its figures."""
        end = time.monotonic() + BOUND
        while time.monotonic() < end:
            found = self.ask("query", query=query)
            if found is not None and found["result"]:
                result: list[dict[str, Any]] = found["result"]
                return result
            time.sleep(0.1)
        raise AssertionError(f"{query} finds nothing: {self.ask('targets')}")


@contextmanager
def scraping(port: int, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a port of this machine each second, as long as the context lasts."""
    own = free_port()
    config = {"scrape_configs": [{"job_name": "jobyard", "scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    words = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    process = subprocess.Popen([programs() / "prometheus", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Prometheus(own, process)
    finally:
        process.terminate()
        process.wait()
