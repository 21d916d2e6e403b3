"""A cluster that has never answered as it should ends a command at once; one that did is tried for a while, and that is said."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from jobyard.cli.asking import ask_cluster
from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import Connection
from jobyard.contracts import Change, Cluster, Inventory
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.engine.namespace import COMMAND, Options
from jobyard.model.errors import JobyardError, Unauthorized, Unavailable, Unreachable, innermost
from jobyard.model.objects import CONFIG_MAPS, JOBS, Kind
from jobyard.service.options import TargetOptions
from jobyard.service.reading import read_file
from tests.faketime import in_fake_time
from tests.unit.samples import manifest
from tests.unit.test_transport import says, server

NOT_KNOWN = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


async def why_not_opened(url: str, options: Options) -> BaseException:
    async with open_cluster(Connection(server=url, namespace="n")) as cluster:
        with pytest.raises((JobyardError, ExceptionGroup)) as raised:
            async with open_engine(cluster, SystemClock(), "n", options):
                pytest.fail("it was opened")
    return innermost(raised.value)


async def unused() -> str:
    async with server(says(b"")) as url:
        return url


@pytest.mark.parametrize("host", ["closed", "unknown"])
async def test_nobody_at_the_address_ends_a_command_at_once(host: str) -> None:
    url = await unused() if host == "closed" else "http://nowhere.invalid:6443"
    async with asyncio.timeout(20):
        error = await why_not_opened(url, COMMAND)
    assert isinstance(error, Unreachable)
    assert (error.exit_code, "can't be reached" in str(error)) == (3, True)


async def test_a_login_that_never_worked_ends_a_command_at_once() -> None:
    async with server(says(NOT_KNOWN)) as url, asyncio.timeout(20):
        assert isinstance(await why_not_opened(url, COMMAND), Unauthorized)


class Answers:
    """Tells of a kind what `said` has for it, again and again; of others that all is told."""

    def __init__(self, said: dict[str, JobyardError]) -> None:
        self.said = said

    async def watch(self, kind: Kind[Any], namespace: str, **_: Any) -> AsyncIterator[Change[Any]]:
        while error := self.said.get(kind.plural):
            yield Change("LOST_TOUCH", why=str(error), error=error)
            await asyncio.sleep(20)
        yield Change("SYNCED", inventory=Inventory(uids=frozenset(), version="1"))
        await asyncio.get_running_loop().create_future()


AWAY = Unreachable(server="s", what="can't be reached (Connection refused)")
EXPIRED = Unauthorized(action="list jobs", status=401, reason="", message="no")
SLOW = Unavailable(server="s", what="did not answer within 30 s")


async def seconds_until_told(said: dict[str, JobyardError], options: Options) -> float | None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        async with asyncio.timeout(1000), open_engine(cast(Cluster, Answers(said)), SystemClock(), "n", options):
            return None
    except TimeoutError:
        return 1000
    except ExceptionGroup:
        return loop.time() - begun


@pytest.mark.parametrize(
    ("said", "options", "seconds"),
    [
        ({CONFIG_MAPS.plural: AWAY}, COMMAND, 0),
        ({CONFIG_MAPS.plural: EXPIRED}, COMMAND, 0),
        ({CONFIG_MAPS.plural: SLOW}, COMMAND, 60),
        ({JOBS.plural: AWAY}, COMMAND, 60),
        ({JOBS.plural: EXPIRED}, COMMAND, 60),
        ({CONFIG_MAPS.plural: AWAY}, Options(), 1000),
        ({CONFIG_MAPS.plural: EXPIRED}, Options(), 1000),
    ],
)
def test_what_worked_once_is_tried_for_a_minute_and_that_is_said(
    said: dict[str, JobyardError], options: Options, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "jobyard.engine"):
        assert in_fake_time(seconds_until_told(said, options)) == pytest.approx(seconds)
    assert ("trying for 60 s, then giving up" in caplog.text) == (seconds == 60)


async def test_a_login_that_is_refused_is_no_mistake_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, kubeconfig = tmp_path / "j.json", tmp_path / "kubeconfig"
    file.write_text(json.dumps(manifest()))
    async with server(says(NOT_KNOWN)) as url:
        user, context = {"name": "u", "user": {"token": "old"}}, {"name": "c", "context": {"cluster": "c", "user": "u"}}
        named = {"clusters": [{"name": "c", "cluster": {"server": url}}], "users": [user], "contexts": [context], "current-context": "c"}
        kubeconfig.write_text(json.dumps(named))
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        for options in (TargetOptions(), TargetOptions(kubeconfig=str(kubeconfig))):
            with pytest.raises(Unauthorized) as raised:
                await ask_cluster(options, read_file(file))
            assert raised.value.exit_code == 3
