"""The real pg-boss of each major makes its schema, sends, fetches and completes: what the other tests build on."""

from __future__ import annotations

import pytest

from tests.postgres import boss
from tests.postgres.boss import MAJORS, Boss
from tests.postgres.server import Database, Server

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("major", MAJORS)
async def test_every_major_sends_and_drains(database: Database, major: int) -> None:
    told = await Boss(major=major, database=database).do(
        boss.create("work"), boss.send("work", 3), {"do": "size", "queue": "work"}, boss.drain("work"), boss.fetch("work", 1)
    )
    assert [len(told[1]), told[2:]] == [3, [3, 3, []]]
    assert await database.value("SELECT version FROM pgboss.version") >= 19


async def test_a_server_that_was_restarted_has_what_it_had(postgres_server: Server, database: Database) -> None:
    await database.execute("CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (7)", "CHECKPOINT")
    postgres_server.stop()
    postgres_server.start()
    assert await database.value("SELECT x FROM kept") == 7
