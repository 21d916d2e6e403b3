"""The process of `jobyard serve`, its bounds made short: its port, and settings that are about the service itself."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobyard.cli import serving
from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.limit_settings import list_limits
from jobyard.service.options import TargetOptions
from jobyard.service.service import Service
from jobyard.web import server
from jobyard.web.app import Held, ready
from jobyard.web.server import PortTaken, listening
from tests.conftest import ClusterUnderTest
from tests.git.remotes import git
from tests.ports import free_port
from tests.replicas import git_trigger, settings
from tests.toy.service import holds


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, own_configuration: None) -> None:
    monkeypatch.setattr(server, "TRY_EVERY", 0.05)
    monkeypatch.setattr(serving, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(serving, "begin_logging", lambda _level, _form: None)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """How long a port may be taken, in seconds."""
    return lambda seconds: monkeypatch.setattr(serving, "listening", functools.partial(listening, taken_for=seconds))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Where the process holds its service."""
    found = Held()
    monkeypatch.setattr(serving, "Held", lambda: found)
    return found


@pytest.fixture
def start(under_test: ClusterUnderTest, namespace: str, tmp_path: Path) -> Callable[[str], Any]:
    options = TargetOptions(kubeconfig=str(under_test.kubeconfig), namespace=namespace)

    @asynccontextmanager
    async def begin(text: str) -> AsyncIterator[asyncio.Task[None]]:
        (tmp_path / "jobyard.yaml").write_text(text)
        work = asyncio.create_task(serving.serve_until_told(tmp_path / "jobyard.yaml", options))
        try:
            yield work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    return begin


def taken() -> socket.socket:
    """A port that somebody else has."""
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen()
    return other


async def test_a_port_that_stays_taken_ends_it_and_one_that_comes_free_is_had(
    start: Callable[[str], Any], held: Held, patience: Callable[[float], None]
) -> None:
    patience(0.3)
    with taken() as other:
        async with start(settings(port=other.getsockname()[1], replicas=1)) as work:
            with pytest.raises(PortTaken) as raised:
                await work
            assert raised.value.exit_code == 2
            assert "Address already in use" in str(raised.value)
        patience(30.0)
        async with start(settings(port=other.getsockname()[1], replicas=1)):
            await asyncio.sleep(0.1)
            assert held.service is None
            other.close()
            await holds(lambda: held.service is not None)


async def test_settings_about_the_service_itself_start_it_again_and_a_port_that_is_taken_changes_nothing(
    start: Callable[[str], Any], held: Held, patience: Callable[[float], None], tmp_path: Path
) -> None:
    patience(0.3)
    file, port = tmp_path / "jobyard.yaml", free_port()
    with taken() as other:
        async with start(settings(port=port, replicas=1)):
            await holds(lambda: held.service is not None and ready(held.service)["ready"])
            first = held.service
            file.write_text(settings(port=other.getsockname()[1], replicas=1))
            await holds(lambda: held.service not in (None, first) and held.service.mistakes)
            assert "can't listen at" in ready(held.service)["settings"]
            assert held.service is not None
            assert held.service.settings.port == port
            second: Service = held.service
            file.write_text(settings(port=port, replicas=1, namespaces=["elsewhere"]))
            await holds(lambda: held.service not in (None, second) and ready(held.service)["ready"])
            assert "settings" not in ready(held.service)
            assert held.service.settings.namespaces == ("elsewhere",)
            # A namespace that nobody may see, or that is not there, keeps nobody else from being served.
            await holds(lambda: held.service is not None and held.service.leads)


async def test_the_limits_of_the_settings_are_set_and_set_again_when_they_change(
    start: Callable[[str], Any], held: Held, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    async def limit(number: int) -> None:
        async with asyncio.timeout(60):
            while ("namespace", number) not in [(name, found) for name, found, _ in await list_limits(cluster, SystemClock(), namespace)]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    port = free_port()
    async with start(settings(port=port, replicas=1, limits={"namespace": 7})):
        await limit(7)
        first = held.service
        (tmp_path / "jobyard.yaml").write_text(settings(port=port, replicas=1, limits={"namespace": 8}))
        await limit(8)
        assert held.service is first


async def test_a_stop_ends_it_wherever_it_is(
    start: Callable[[str], Any], held: Held, patience: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also while it waits for its port, and while a remote does not answer."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with taken() as other, taken() as silent:
        patience(30.0)
        async with start(settings(port=other.getsockname()[1], replicas=1)) as work:
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(work, 5)
        git(tmp_path, "init", "--quiet", "--bare", "remote.git")
        hangs = git_trigger("ops", f"git://127.0.0.1:{silent.getsockname()[1]}/jobs.git")
        async with start(settings(hangs, port=free_port(), replicas=1)) as work:
            await holds(
                lambda: held.service is not None and held.service.leads and ready(held.service)["triggers"]["ops"]["state"] == "running"
            )
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.wait_for(work, 5)
                connection.settimeout(30)
                while await asyncio.to_thread(connection.recv, 1000):
                    pass  # git has ended too: nobody is at the other end
    assert ended == []
