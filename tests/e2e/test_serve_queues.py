"""`jobyard serve` with queues in Postgres: pg-boss' own workers drain them, a database that is not well is told, a reload mends it."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from tests.conftest import ClusterUnderTest
from tests.e2e.conftest import Jobyard
from tests.e2e.test_serve import until
from tests.postgres import boss
from tests.postgres.boss import Boss
from tests.postgres.looking import count
from tests.postgres.server import WATCHERS, Server
from tests.postgres.worker import worker
from tests.replicas import Replica, leads, runs

pytestmark = [pytest.mark.timeout(180), pytest.mark.clients]
PAYLOAD = "canary-in-a-payload"
Start = Callable[..., Replica]


@pytest.fixture
def start(credentials: Path, space: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a replica."""
    started: list[Replica] = []

    def begin(*triggers: dict[str, Any], **env: str) -> Replica:
        words = ["--kubeconfig", str(credentials), "-n", space]
        started.append(
            Replica(tmp_path, words, list(triggers), {**os.environ, **env}, replicas=1, log={"level": "debug", "format": "json"})
        )
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.said.end()


def test_queues_are_drained_by_pg_bosss_own_workers_and_what_is_wrong_with_a_database_is_told(
    start: Start, tmp_path: Path, under_test: ClusterUnderTest, jobyard: Jobyard, postgres_server: Server, space: str
) -> None:
    database = asyncio.run(postgres_server.create_database())
    client = Boss(major=12, database=database)
    asyncio.run(
        client.do(
            boss.create("invoices"),
            boss.create("mails"),
            boss.send("invoices", 23, data={"secret": PAYLOAD}),
            boss.send("mails", 2, startAfter=3600),
        )
    )
    watcher = asyncio.run(postgres_server.create_role(database))
    (tmp_path / "job.json").write_text(json.dumps(worker(client, "invoices", under_test, most=10)))
    connection = {
        "host": "127.0.0.1",
        "port": database.port,
        "database": database.name,
        "user": watcher.user,
        "password": {"env": "SECRET"},
    }
    queues = [
        {"queue": "invoices", "job": "job.json", "check": "300ms", "scale": {"max": 3, "perPod": 10, "claimGrace": "1m"}},
        {"queue": "mails", "job": "job.json"},
    ]
    replica = start({"name": "orders", "pgboss": {"connection": connection, "queues": queues}}, SECRET=WATCHERS)
    replica.until(leads)

    told = replica.until(lambda told: "may not read" in str(told["triggers"]))
    grants = re.findall(r"GRANT [^;]*;", str(told["triggers"]["orders"]))
    asyncio.run(database.execute(*grants))
    replica.until(runs("orders"))
    until(lambda: asyncio.run(count(database, "invoices")) == {"invoices": 0}, "the queue is empty")
    until(
        lambda: len(ended := jobyard("runs", "-o", "json").lines) == 3 and all(each["state"] == "succeeded" for each in ended), "the ends"
    )

    def queues_told() -> dict[str, tuple[int, int, str]]:
        (line,) = jobyard("triggers", "list", "-o", "json").lines
        return {each["queue"]: (each["waiting"], each["runs"], each["waits"]) for each in line["queues"] or ()}

    until(lambda: queues_told() == {"invoices": (0, 0, "QueueEmpty"), "mails": (0, 0, "QueueEmpty")}, "what the list tells")
    listed = jobyard("triggers", "list")
    print(listed.out)
    assert "invoices" in listed.out
    assert "starts when there is work" in listed.out

    seen = asyncio.run(everything(under_test, space))
    for page in ("/readyz", "/metrics"):
        seen += replica.ask(page)[1]
    for canary in (WATCHERS, PAYLOAD):
        assert canary not in replica.said.text + listed.out + seen


async def everything(under_test: ClusterUnderTest, namespace: str) -> str:
    """All that a reader of the namespace sees of ours."""
    async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as cluster:
        paths = ("api/v1", "configmaps"), ("batch/v1", "jobs"), ("api/v1", "pods"), ("api/v1", "events")
        answers = [
            await cluster.call("GET", f"/{'' if group == 'api/v1' else 'apis/'}{group}/namespaces/{namespace}/{plural}", f"list {plural}")
            for group, plural in paths
        ]
    return "".join(each.decode() for each in answers)
