"""Networks and servers that fail: what the user notices of it, and what becomes of the runs."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.model import names
from jobyard.model.errors import Unavailable
from jobyard.model.objects import CONFIG_MAPS, JOBS
from jobyard.model.run import RunRequest, State
from jobyard.patience import Backoff
from jobyard.supervise import Report, Restarts, Stage, Supervised
from tests.certificates import certificate
from tests.conftest import ClusterUnderTest
from tests.faults.proxy import Asked, Fault, Proxy, by_seed, no_faults, open_proxy
from tests.flows import read
from tests.manifests import step, workflow
from tests.toy.folder import FolderTrigger
from tests.waiting import BOUND

T = TypeVar("T")
FIRST, _, LAST = os.environ.get("JOBYARD_FAULT_SEEDS", "0-5").partition("-")
SEEDS = range(int(FIRST), int(LAST or FIRST) + 1)
"""`JOBYARD_FAULT_SEEDS=100-300` tries others, `=17` one again."""


@pytest.fixture
async def proxy(under_test: ClusterUnderTest) -> AsyncIterator[Proxy]:
    async with open_proxy(connect(kubeconfig=str(under_test.kubeconfig))) as opened:
        yield opened


@asynccontextmanager
async def through(proxy: Proxy, folder: Path, **user: Any) -> AsyncIterator[HttpCluster]:
    """A client that reaches the cluster through the proxy."""
    async with open_cluster(connect(kubeconfig=str(kubeconfig(proxy.url, folder, **user)))) as client:
        yield client


def kubeconfig(url: str, folder: Path, ca: Path | None = None, **user: Any) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "p",
        "contexts": [{"name": "p", "context": {"cluster": "p", "user": "p"}}],
        "clusters": [{"name": "p", "cluster": {"server": url, **({"certificate-authority": str(ca)} if ca else {})}}],
        "users": [{"name": "p", "user": user}],
    }
    path = folder / "proxy-kubeconfig"
    path.write_text(json.dumps(config))
    return path


async def patient(call: Callable[[], Awaitable[T]]) -> T:
    """What a supervised trigger does when a call gives up after its minute: the same again."""
    while True:
        try:
            return await call()
        except Unavailable:
            continue


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.timeout(240)
async def test_random_faults_cost_nothing(proxy: Proxy, cluster: HttpCluster, namespace: str, tmp_path: Path, seed: int) -> None:
    """A failure names its seed; `by_seed` gives the same faults again."""
    flow = workflow(
        "w",
        step("top"),
        step("left", "true", "top"),
        step("right", "exit 1", "top", retry={"limit": 1, "backoff": "100ms"}),
        onFailure="finish",
    )
    async with through(proxy, tmp_path) as client, open_engine(client, SystemClock(), namespace) as engine:
        proxy.rule = by_seed(seed)
        asked = [RunRequest(trigger="test", key=f"{seed}-{number}", workflow=read(flow, tmp_path)) for number in range(3)]
        async with asyncio.timeout(200):
            runs = await asyncio.gather(*(patient(partial(engine.submit, each)) for each in asked))
            outcomes = await asyncio.gather(*(engine.outcome(run) for run in runs))
            for run in runs:
                await patient(partial(engine.release, run))
    said = "\n".join(proxy.told)
    for outcome in outcomes:
        said += "".join(f"\n{each.name}: {each.reason} {each.message} {each.diagnosis}" for each in outcome.view.steps)
        assert [str(each.state) for each in outcome.view.steps] == ["succeeded", "succeeded", "failed"], said
    made = sorted((each.metadata.labels[names.RUN], each.metadata.annotations[names.STEP]) for each in await cluster.list(JOBS, namespace))
    assert len(made) == 3 * 4, said


@pytest.mark.parametrize("home", ["Job", "ConfigMap"])
@pytest.mark.parametrize("fault", [Fault.CUT_AFTER, Fault.ERROR_AFTER, Fault.HALF, Fault.CONFLICT, Fault.SLOW_DOWN, Fault.PAGE])
async def test_a_create_whose_answer_is_lost_makes_one_job(
    proxy: Proxy, cluster: HttpCluster, namespace: str, tmp_path: Path, fault: Fault, home: str
) -> None:
    hit: list[str] = []

    def first_of_each(asked: Asked) -> Fault:
        if asked.method != "POST" or asked.path in hit:
            return Fault.NONE
        hit.append(asked.path)
        return fault

    proxy.rule = first_of_each
    async with through(proxy, tmp_path) as client, open_engine(client, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        flow = read(workflow("w", step("a", retry={"limit": 1}) if home == "ConfigMap" else step("a")), tmp_path)
        run = await engine.submit(RunRequest(trigger="test", key="k", workflow=flow))
        assert (await engine.outcome(run)).state is State.SUCCEEDED
    assert len(hit) == len(await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR)) + 1
    assert len(await cluster.list(JOBS, namespace)) == 1
    assert len(await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR)) == (home == "ConfigMap")


async def test_an_outage_is_told_as_reconnecting_and_the_run_goes_on(proxy: Proxy, namespace: str, tmp_path: Path) -> None:
    async with through(proxy, tmp_path) as client, open_engine(client, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        flow = read(workflow("w", step("a", "sleep 1"), step("b", "true", "a")), tmp_path)
        run = await engine.submit(RunRequest(trigger="test", key="k", workflow=flow))
        said: list[str] = []
        async with engine.changes(run) as changed:
            proxy.down = True
            proxy.cut_all()
            while not said:
                await changed.wait()
                view = engine.driven(run)
                said += [view.unreachable] if view and view.unreachable else []
            proxy.down = False
            assert (await engine.outcome(run)).state is State.SUCCEEDED
        assert "127.0.0.1" in said[0]
        view = engine.driven(run)
        assert view is not None
        assert view.unreachable == ""


async def test_under_429_calls_become_fewer_at_once_and_come_back_without_a_herd(proxy: Proxy, namespace: str, tmp_path: Path) -> None:
    async with through(proxy, tmp_path) as client, asyncio.timeout(200):

        async def some(count: int) -> None:
            async def one(number: int) -> None:
                try:
                    await client.get(CONFIG_MAPS, namespace, "kube-root-ca.crt")
                except Unavailable:
                    return

            await asyncio.gather(*(one(number) for number in range(count)))

        def slow(asked: Asked) -> Fault:
            return Fault.SLOW_DOWN if proxy.under_way > 4 else Fault.NONE

        proxy.rule = slow
        await some(100)
        refused = len(proxy.told)
        assert refused < 60, "most of them waited instead of being refused"
        proxy.most = 0
        await some(100)
        assert proxy.most <= 16, "no herd"
        proxy.rule = no_faults
        while proxy.most <= 8:  # and back to speed
            await some(100)


class Later:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


async def test_a_server_that_is_away_for_an_hour_leaves_a_correct_backlog(
    proxy: Proxy, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    """What came before, and what came meanwhile: each runs once, when the server is back."""
    clock = Later()
    report = Report("folder", clock)

    def put(name: str) -> None:
        (tmp_path / name).write_bytes(msgspec.json.encode(workflow("w", step("a", "sleep 2"), step("b", "true", "a", retry={"limit": 3}))))
        (tmp_path / name).replace(tmp_path / "inbox" / name)

    async with through(proxy, tmp_path) as client, open_engine(client, clock, namespace) as engine, asyncio.timeout(200):
        trigger = FolderTrigger(tmp_path)
        restarts = Restarts(backoff=Backoff(first=0.1, longest=1.0))
        serving = asyncio.create_task(Supervised(trigger, report, clock, restarts).run(engine))
        put("before.json")
        while not (tmp_path / "taken" / "before.json").exists():  # noqa: ASYNC110 - a folder has no event
            await asyncio.sleep(0.01)
        run = (await engine.runs("folder"))[0]
        proxy.down = True
        proxy.cut_all()
        for number in range(5):
            put(f"meanwhile-{number}.json")
        async with engine.changes(run) as changed:
            clock.ahead = timedelta(hours=1)
            while not (view := engine.driven(run)) or not view.unreachable:
                await changed.wait()
        proxy.down = False
        while len(list((tmp_path / "done").glob("[!.]*"))) < 6 or any((tmp_path / "taken").iterdir()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert report.health.stage in (Stage.RUNNING, Stage.BACKING_OFF)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert {file.read_text() for file in (tmp_path / "done").glob("[!.]*")} == {"succeeded"}
    assert len(await cluster.list(JOBS, namespace)) == 6 * 2


async def test_a_token_that_ran_out_is_read_again(proxy: Proxy, namespace: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    proxy.token = "first"
    async with through(proxy, tmp_path, tokenFile=str(token)) as client, open_engine(client, SystemClock(), namespace) as engine:
        await client.get(CONFIG_MAPS, namespace, "kube-root-ca.crt")
        proxy.token = "second"
        proxy.cut_all()
        token.write_text("second")
        async with asyncio.timeout(BOUND):
            run = await engine.submit(RunRequest(trigger="test", key="k", workflow=read(workflow("w", step("a")), tmp_path)))
            assert (await engine.outcome(run)).state is State.SUCCEEDED


async def test_a_renewed_certificate_is_noticed_by_nobody(under_test: ClusterUnderTest, namespace: str, tmp_path: Path) -> None:
    certificate(tmp_path, "ca")
    old, new = (certificate(tmp_path, name, "ca") for name in ("old", "new"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(old)
    upstream = connect(kubeconfig=str(under_test.kubeconfig))
    async with open_proxy(upstream, context) as proxy:
        config = kubeconfig(proxy.url, tmp_path, tmp_path / "ca.crt")
        async with open_cluster(connect(kubeconfig=str(config))) as client, open_engine(client, SystemClock(), namespace) as engine:
            flow = read(workflow("w", step("a", "sleep 1"), step("b", "true", "a")), tmp_path)
            run = await engine.submit(RunRequest(trigger="test", key="k", workflow=flow))
            context.load_cert_chain(new)
            proxy.cut_all()
            async with asyncio.timeout(BOUND):
                assert (await engine.outcome(run)).state is State.SUCCEEDED
