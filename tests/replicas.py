"""Processes of `jobyard serve`, as an operator has them: the settings file, the port, the log."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.git.remotes import NO_CONFIG
from tests.ports import free_port
from tests.said import BOUND, Said

SECRET = "s3cret-of-the-hook"
COMMAND = [sys.executable, "-m", "jobyard"]
SOURCE = str(Path(__file__).parents[1] / "src")


def settings(*triggers: Mapping[str, Any], port: int, **spec: Any) -> str:
    """A settings file."""
    log = {"level": "info", "format": "json"}
    tree = {"listen": f"127.0.0.1:{port}", "triggers": list(triggers), "log": log, **spec}
    return yaml.safe_dump({"apiVersion": "jobyard.dev/v1", "kind": "Service", "spec": tree}, sort_keys=False)


def git_trigger(name: str, remote: Path | str, poll: str = "1s", **more: Any) -> dict[str, Any]:
    """A trigger of a repository's main branch."""
    return {"name": name, "git": {"repository": str(remote), "branch": "main", "poll": poll, **more}}


class Replica:
    """One process."""

    def __init__(
        self, folder: Path, words: list[str], triggers: list[dict[str, Any]], env: Mapping[str, str], port: int = 0, **spec: Any
    ) -> None:
        """`folder`: where its settings and its clones lie; `words`: which cluster; `triggers`, `spec`: its settings, unless the file is there."""
        self.port = port or free_port()
        self.file = folder / "jobyard.yaml"
        self._spec = spec
        if not self.file.exists():
            self.write(*triggers)
        outer = {
            **env,
            **NO_CONFIG,
            "XDG_CACHE_HOME": str(folder / "cache"),
            "HOOK": SECRET,
            "PYTHONPATH": SOURCE,
            "KUBECONFIG": "/nonexistent",
        }
        process = subprocess.Popen(
            [*COMMAND, "serve", str(self.file), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=outer
        )
        self.said = Said(process)
        self.process = process

    def write(self, *triggers: Mapping[str, Any], **spec: Any) -> None:
        """Writes its settings file."""
        self.file.write_text(settings(*triggers, port=self.port, **{**self._spec, **spec}))

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """Status, body and headers of an answer; status 0 while nobody listens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), dict(error.headers)
        except OSError:
            return 0, "", {}

    def push(self, trigger: str, commit: str) -> tuple[int, str]:
        """Tells of a commit, as a forge does."""
        body = json.dumps({"ref": "refs/heads/main", "before": "0", "after": commit}).encode()
        proof = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        return self.ask(f"/webhooks/{trigger}/github", body, X_Hub_Signature_256=proof)[:2]

    def ready(self) -> dict[str, Any]:
        """What /readyz says; {} while nobody listens."""
        status, body, _ = self.ask("/readyz")
        told: dict[str, Any] = json.loads(body) if status in (200, 503) else {}
        return told

    def until(self, holds: Callable[[dict[str, Any]], object], bound: float = BOUND) -> dict[str, Any]:
        """What /readyz says, as soon as it is as wanted. Nothing tells of it but asking again."""
        end, told = time.monotonic() + bound, dict[str, Any]()
        while time.monotonic() < end:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.said.text}"
            told = self.ready()
            if told and holds(told):
                return told
            time.sleep(0.02)
        raise AssertionError(f"it was never so: {told}; it said: {self.said.text}")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log; fails where a line is no JSON."""
        return [json.loads(line) for line in self.said.text.splitlines()]

    def metric(self, name: str) -> float:
        """The value of a metric, by its name and labels as it is exposed; -1 where there is none."""
        for line in self.ask("/metrics")[1].splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return -1.0


def leads(told: Mapping[str, Any]) -> bool:
    return told.get("state") == "leads"


def runs(trigger: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a trigger runs here."""
    return lambda told: stage(told, trigger) == "running"


def stage(told: Mapping[str, Any], trigger: str) -> str:
    """How a trigger stands; '' while that is not told."""
    return str(told.get("triggers", {}).get(trigger, {}).get("state", ""))
