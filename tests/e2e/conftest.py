"""The command as a user has it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from tests.conftest import LOCAL, ClusterUnderTest
from tests.restricted import restricted_kubeconfig

SOURCE = str(Path(__file__).parents[2] / "src")
COMMAND = [sys.executable, "-m", "jobyard"]


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Jobyard = Callable[..., Answer]


def environment(**more: str) -> dict[str, str]:
    """What every command is started with: our source, no kubeconfig of the machine's."""
    return {**os.environ, "PYTHONPATH": SOURCE, "KUBECONFIG": "/nonexistent", "COLUMNS": "120", **more}


@pytest.fixture
def space(under_test: ClusterUnderTest) -> Iterator[str]:
    """A namespace of its own for a test of the command."""
    name = f"e-{uuid.uuid4().hex[:10]}"

    async def change(create: bool) -> None:
        async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as client:
            if create:
                await client.create_namespace(name)
            else:
                await client.call("DELETE", f"/api/v1/namespaces/{name}", f"delete Namespace {name}")

    asyncio.run(change(True))
    yield name
    asyncio.run(change(False))


@pytest.fixture
def credentials(under_test: ClusterUnderTest, space: str, tmp_path: Path) -> Path:
    """The kubeconfig that commands are given: on a real cluster, of an account that has exactly the Role that we print."""
    if under_test.name == LOCAL:
        return under_test.kubeconfig

    async def make() -> Path:
        async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as client:
            return await restricted_kubeconfig(client, under_test.kubeconfig, space, tmp_path / "kubeconfig")

    return asyncio.run(make())


@pytest.fixture
def jobyard(credentials: Path, space: str) -> Jobyard:
    """Runs the command against the cluster under test, in a namespace of its own. `cluster=False` leaves both out."""

    def call(*args: str | Path, cluster: bool = True, cwd: Path | None = None, **env: str) -> Answer:
        words = [*COMMAND, *map(str, args)]
        if cluster:
            words += ["--kubeconfig", str(credentials), "-n", space]
        done = subprocess.run(words, capture_output=True, text=True, timeout=110, env=environment(**env), cwd=cwd, check=False)
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def begin(credentials: Path, space: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command and goes on; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str | Path, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        words = [*COMMAND, *map(str, args), "--kubeconfig", str(credentials), "-n", space]
        process = subprocess.Popen(words, stdout=stdout, stderr=subprocess.STDOUT, text=True, env=environment())
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
