"""Secrets that are planted to be looked for: whatever comes out of a program is searched for them, in each form that they may have taken.

    canaries = Canaries()
    url = f"https://me:{canaries.plant('password of an address')}@host/x.git"
    with canaries.watching(programs, temporary):
        ...                                      # the program does its work
    canaries.search("stdout", process.stdout)
    await canaries.search_namespace(cluster, namespace)
    assert canaries.found == []

A trigger's own test plants what that trigger can see, and searches everything that it writes.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import secrets
import shlex
import shutil
import stat
import subprocess
import threading
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jobyard.cluster.client import HttpCluster

_HALF = 16
EVERY = 0.02
"""Seconds between two looks at what runs, and at what lies about."""


@dataclass(frozen=True)
class Started:
    """A program that was started meanwhile: what everybody may read of it, and what only its user may."""

    words: tuple[str, ...]
    env: Mapping[str, str]


class Canaries:
    """The secrets, where they were found, and how many places were searched."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}
        """From value to where it was planted."""
        self.found: list[str] = []
        self.places = 0
        self.started: list[Started] = []

    def plant(self, where: str, extra: str = "") -> str:
        """A secret that nobody else has; `extra`: characters that it shall hold."""
        value = f"{secrets.token_hex(_HALF // 2)}{extra}{secrets.token_hex(_HALF // 2)}"
        self.planted[value] = where
        return value

    def search(self, place: str, content: bytes | str, only: Collection[str] | None = None) -> None:
        """Looks for the canaries (those planted at `only`) in what came out somewhere."""
        self.places += 1
        text = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        for value, where in dict(self.planted).items():  # planted while others are sought
            if (only is None or where in only) and any(form in text for form in _forms(value)):
                self.found.append(f"{where}: in {place}")

    # --- what runs, and what lies about ---

    @contextmanager
    def watching(self, folder: Path, programs: Sequence[str], open_to_all: Sequence[Path]) -> Iterator[dict[str, str]]:
        """Notes how each of these programs is started (each start, none is missed), looks at all that runs, and at what others may read in some
        folders. Yields the variables that whoever is watched has to have."""
        bin_, notes = folder / "bin", folder / "notes"
        for each in (bin_, notes):
            each.mkdir(parents=True)
        inner = Path(subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip())
        git_core = folder / "git-core"
        git_core.mkdir()
        for path in inner.iterdir():
            (git_core / path.name).symlink_to(path)
        for name in programs:
            _wrap(bin_ / name, shutil.which(name), notes)
            _wrap(git_core / name, str(inner / name), notes)
        ended = threading.Event()
        looking = threading.Thread(target=self._look, args=(ended, open_to_all))
        looking.start()
        try:
            yield {"PATH": f"{bin_}:{os.environ['PATH']}", "GIT_EXEC_PATH": str(git_core)}
        finally:
            ended.set()
            looking.join()
        for path in sorted(notes.glob("*.words")):
            words = tuple(path.read_bytes().decode(errors="surrogateescape").split("\0")[1:-1])
            env = dict(
                each.partition("=")[::2] for each in path.with_suffix(".env").read_bytes().decode(errors="replace").split("\0") if each
            )
            self.started.append(Started(words, env))
            self.search(f"the arguments of {Path(words[0]).name} {' '.join(words[1:3])}", "\0".join(words))
        shutil.rmtree(notes)

    def _look(self, ended: threading.Event, open_to_all: Sequence[Path]) -> None:
        while not ended.wait(EVERY):
            for path in Path("/proc").iterdir():
                if path.name.isdigit():
                    try:
                        self.search(f"the command line of process {path.name}", (path / "cmdline").read_bytes())
                    except OSError:
                        continue
            for folder in open_to_all:
                self.search_open(folder)

    def search_open(self, folder: Path) -> None:
        """Searches what others than we may read below a folder, whatever stands above it."""
        try:
            for path in folder.iterdir():
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode) and mode & 0o055:
                    self.search_open(path)
                elif stat.S_ISREG(mode) and mode & 0o044:
                    self.search(f"{path}, which others may read,", path.read_bytes())
        except FileNotFoundError:
            pass  # it went while it was looked at

    # --- what is in the cluster ---

    async def search_namespace(self, cluster: HttpCluster, namespace: str, manifest: Collection[str] = ()) -> None:
        """Searches every object of a namespace but Secrets. `manifest`: where those were planted that stand in a Job's own manifest, and so in
        Jobs, pods and the workflow that a record keeps; of these, labels, annotations, status and all else is searched."""
        for api, plural in _KINDS:
            path = f"/{api}/namespaces/{namespace}/{plural}"
            for each in json.loads(await cluster.call("GET", path, f"list {plural}"))["items"]:
                place = f"{plural} {each['metadata']['name']}"
                _forget_last_words(each)
                self.search(place, json.dumps(each), set(self.planted.values()) - set(manifest))
                for name, text in _unpacked(each).items():
                    self.search(f"{place}, unpacked {name}", text, set(self.planted.values()) - set(manifest))
                self.search(place, json.dumps({key: value for key, value in each.items() if key not in ("spec", "binaryData")}))


_KINDS = (
    ("api/v1", "configmaps"),
    ("api/v1", "pods"),
    ("api/v1", "events"),
    ("api/v1", "serviceaccounts"),
    ("apis/batch/v1", "jobs"),
    ("apis/coordination.k8s.io/v1", "leases"),
)


def _forget_last_words(tree: Mapping[str, Any]) -> None:
    """What a container itself left in its pod's status (its termination message) is where its author put it."""
    for status in (tree.get("status") or {}).get("containerStatuses") or []:
        for state in (*status.get("state", {}).values(), *status.get("lastState", {}).values()):
            state.pop("message", None)


def _unpacked(tree: Mapping[str, Any]) -> dict[str, bytes]:
    found = {}
    for name, text in (tree.get("binaryData") or {}).items():
        raw = base64.b64decode(text)
        try:
            found[name] = gzip.decompress(raw)
        except (OSError, zlib.error, EOFError):
            found[name] = raw
    return found


def _forms(value: str) -> set[bytes]:
    """A value as it is, the half of it, escaped, and in Base64 wherever it may begin there."""
    raw = value.encode()
    encoded = {base64.b64encode(raw[skip:])[: (len(raw) - skip) // 3 * 4 - 4] for skip in range(3)}
    return {raw[:_HALF], raw[-_HALF:], quote(value, safe="").encode(), json.dumps(value)[1:-1].encode(), *encoded}


def _wrap(path: Path, program: str | None, notes: Path) -> None:
    """A program that notes how it was started, and then is the other."""
    if program is None or not Path(program).exists():
        return
    note = f"{shlex.quote(str(notes))}/$$"
    path.unlink(missing_ok=True)
    path.write_text(
        f"""#!/bin/sh
umask 077
cat /proc/$$/environ > {note}.env
cat /proc/$$/cmdline > {note}.words
exec {shlex.quote(program)} "$@"
"""
    )
    path.chmod(0o755)
