"""The clusters that tests run on. Each test has a namespace of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.local import daemon
from jobyard.model.errors import NotFound
from tests import processes, workers
from tests.kubernetes import prepare
from tests.kubernetes.node import Node
from tests.postgres import prepare as postgres
from tests.postgres.server import Database, Server, open_server
from tests.rabbitmq import server as rabbitmq_server


@dataclass(frozen=True)
class ClusterUnderTest:
    """A cluster that runs, and how to reach it."""

    name: str
    kubeconfig: Path
    crash: Callable[[], None] | None = None
    """Kills the API server with -9, forgets older versions, and starts it again; None where that is not for us to do."""


@pytest.fixture(scope="session")
def local_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local cluster that stays for all tests of this process, in a folder of its own."""
    folder = tmp_path_factory.mktemp("data")
    os.environ["JOBYARD_DATA"] = str(folder)
    with _local_cluster(folder / "local"):
        yield folder


@contextmanager
def _local_cluster(folder: Path) -> Iterator[None]:
    """A local cluster that ends with the context, and with this process, however that ends."""
    daemon.start(folder)
    words = ["sh", "-c", 'cat > /dev/null; kill "$(cat "$0")"', str(folder / "lock")]  # reads to its end when this process is gone
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as guard:
        try:
            yield
        finally:
            daemon.stop(folder)
            guard.kill()


KUBERNETES, LOCAL = "kubernetes", "local"
CLUSTERS = ("under_test", "own_cluster")
"""The fixtures whose value is the kind of a cluster."""


def _is_on_kubernetes(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and KUBERNETES in (callspec.params.get(name) for name in CLUSTERS)


def _is_on_rabbitmq(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    scenario = callspec.params.get("name", "") if callspec is not None else ""
    return "rabbitmq" in getattr(item, "fixturenames", ()) or str(scenario).startswith("amqp")


# --- several workers ---


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """None but this process where few tests are asked for."""
    if workers.is_narrow(config.option, config.args):
        return 0
    return workers.how_many([Path(each).absolute() for each in config.args], config.rootpath)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Holds the folder of a real node for the workers: the first that needs it starts it, and it ends with this process."""
    stash = node.config.stash
    if SHARED not in stash:
        stash[SHARED] = Node.free("tests", first_slot=1)
        stash[SHARED].clear()
    node.workerinput["slot"] = stash[SHARED].slot


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """What a worker could not run is told by this process."""
    said = node.config.stash.setdefault(WHY_NOT, [])
    said += [why for why in getattr(node, "workeroutput", {}).get("why not", []) if why not in said]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["why not"] = session.config.stash.get(WHY_NOT, [])


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM ends the tests as Ctrl-C does, in every worker: nothing is left running."""
    is_worker = hasattr(config, "workerinput")

    def end(number: int, frame: FrameType | None) -> None:
        for each in [] if is_worker else processes.children(os.getpid()):
            os.kill(each, number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing of a node is left, also where a worker was killed."""
    if shared := config.stash.get(SHARED, None):
        shared.down()
        Node.clear_all("tests", first_slot=1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> workers.Scheduling:
    config.option.loadscopereorder = False
    return workers.Scheduling(config, log)


SHARED = pytest.StashKey[Node]()


# --- what the tests need ---


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Makes ready what the collected tests need of a real Kubernetes, or says in one loud line why they are skipped."""
    config.stash[WHY_NOT] = []
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (-workers.may_take(item), not _is_on_kubernetes(item)))
    if config.option.collectonly:
        return
    mounting = [item for item in items if item.get_closest_marker("bubblewrap") and not _is_on_kubernetes(item)]
    real = [item for item in items if _is_on_kubernetes(item)]
    cases = [item for item in items if item.get_closest_marker("conformance")]
    served = [item for item in items if "postgres_server" in getattr(item, "fixturenames", ()) or "pgboss" in item.name]
    if os.environ.get("JOBYARD_TEST_KUBECONFIG"):
        real = []
    for tests, ready, what in (
        (mounting, prepare.bubblewrap, "WITH VOLUMES ON THE LOCAL CLUSTER"),
        (real, prepare.node, "ON A REAL KUBERNETES"),
        (cases, prepare.cases, "OF KUBERNETES' OWN CASES"),
        ([item for item in items if _is_on_rabbitmq(item)], rabbitmq_server.ready, "ON A REAL RABBITMQ"),
        (served, postgres.postgres, "ON A REAL POSTGRES"),
        ([item for item in served if item.get_closest_marker("clients")], postgres.clients, "WITH QUEUES' OWN CLIENTS"),
        ([item for item in served if item.get_closest_marker("pooler")], postgres.pgbouncer, "BEHIND PGBOUNCER"),
    ):
        if not tests:
            continue
        capture = config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            why = ready()
        if why:
            config.stash[WHY_NOT].append(f"{len(tests)} TESTS {what} ARE SKIPPED: {why}")
            for item in tests:
                item.add_marker(pytest.mark.skip(reason=why))


WHY_NOT = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Counts the tests by cluster, and repeats what was skipped."""
    counts: dict[str, int] = {}
    for report in terminalreporter.getreports("passed"):
        for name in (LOCAL, KUBERNETES):
            if report.when == "call" and f"[{name}" in report.nodeid:
                counts[name] = counts.get(name, 0) + 1
    if counts:
        terminalreporter.write_line("passed by cluster: " + ", ".join(f"{count} on {name}" for name, count in counts.items()))
    reports = [each for kind in terminalreporter.stats.values() for each in kind if hasattr(each, "duration")]
    if line := workers.where_time_went((each.nodeid, each.duration) for each in reports):
        terminalreporter.write_line(line)
    for why in config.stash.get(WHY_NOT, []):
        terminalreporter.write_line(why, red=True, bold=True)


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config) -> Iterator[Node]:
    """A real node, for as long as the tests run: one for all workers."""
    told: dict[str, Any] | None = getattr(pytestconfig, "workerinput", None)
    if told is not None:
        shared = Node.of("tests", told["slot"])
        shared.join()
        yield shared
        return
    real = Node.free("tests", first_slot=1)
    real.up()
    yield real
    real.down()


@pytest.fixture(scope="session", params=[LOCAL, KUBERNETES])
def under_test(request: pytest.FixtureRequest) -> ClusterUnderTest:
    """Each cluster that there is: our own, and a real one. Others use it meanwhile: see `own_cluster`."""
    if request.param == LOCAL:
        data: Path = request.getfixturevalue("local_data")
        return ClusterUnderTest(name=LOCAL, kubeconfig=data / "local" / "kubeconfig")
    if named := os.environ.get("JOBYARD_TEST_KUBECONFIG"):
        return ClusterUnderTest(name=KUBERNETES, kubeconfig=Path(named))
    real: Node = request.getfixturevalue("node")
    return ClusterUnderTest(name=KUBERNETES, kubeconfig=real.kubeconfig)


@pytest.fixture(scope="session", params=[LOCAL, KUBERNETES])
def own_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    """Each cluster that there is, and nobody else on it: for tests that harm it."""
    if request.param == LOCAL:
        folder = tmp_path_factory.mktemp("own") / "local"
        with _local_cluster(folder):
            yield ClusterUnderTest(name=LOCAL, kubeconfig=folder / "kubeconfig", crash=lambda: _crash_local(folder))
    elif os.environ.get("JOBYARD_TEST_KUBECONFIG"):
        pytest.skip("this cluster is not ours to harm")
    else:
        real = Node.free("tests", first_slot=1)
        real.up()
        yield ClusterUnderTest(name=KUBERNETES, kubeconfig=real.kubeconfig, crash=lambda: _crash_node(real))
        real.down()


def _crash_local(folder: Path) -> None:
    pid = daemon.running_pid(folder)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while daemon.running_pid(folder) is not None:
        pass  # its lock goes with it
    daemon.start(folder)


def _crash_node(real: Node) -> None:
    real.stop_api_server()
    real.compact()
    real.start_api_server()
    real.wait_for_api_server()


@pytest.fixture
async def cluster(under_test: ClusterUnderTest) -> AsyncIterator[HttpCluster]:
    """A client of the cluster under test."""
    async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as client:
        yield client


@pytest.fixture
async def namespace(cluster: HttpCluster) -> AsyncIterator[str]:
    """A new namespace, which goes with all that is in it."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    await cluster.create_namespace(name)
    yield name
    with contextlib.suppress(NotFound):  # a test may have deleted it
        await cluster.call("DELETE", f"/api/v1/namespaces/{name}", f"delete Namespace {name}")


# --- RabbitMQ ---


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rabbitmq_server.Broker]:
    """A RabbitMQ for the tests of this process. Each has a virtual host of its own."""
    with rabbitmq_server.open_broker(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@pytest.fixture
def vhost(rabbitmq: rabbitmq_server.Broker) -> rabbitmq_server.VirtualHost:
    """A new virtual host."""
    return rabbitmq.create_virtual_host()


# --- Postgres ---


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL for the tests of this process. Each has a database of its own."""
    with open_server() as server:
        yield server


@pytest.fixture
async def database(postgres_server: Server) -> Database:
    """A new database, and who may do everything there."""
    return await postgres_server.create_database()
