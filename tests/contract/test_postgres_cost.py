"""What a look costs: 100,000 rows and 200 queues, on the schemas of pg-boss 9 and 12."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import asyncpg
import pytest

from jobyard.triggers.postgres.slot import FLOOR
from tests.postgres import boss
from tests.postgres.boss import Boss
from tests.postgres.looking import opened, reading
from tests.postgres.server import Database

QUEUES, ROWS = 200, 100_000
NAMES = [f"q{number}" for number in range(QUEUES)]


async def fill(database: Database, waiting: float) -> None:
    """Rows of all queues, this part of them waiting, the others completed."""
    insert = (
        "INSERT INTO pgboss.job (name, state, data) SELECT 'q' || i % $1, "
        "(CASE WHEN (i / $1) % 100 < $2 THEN 'created' ELSE 'completed' END)::pgboss.job_state, '{}' FROM generate_series(1, $3::int) AS i"
    )
    async with database.connect() as connection:
        await connection.execute(insert, QUEUES, waiting * 100, ROWS)
        await connection.execute("ANALYZE pgboss.job")


async def seconds(connection: asyncpg.Connection[Any], query: str, *arguments: Any) -> float:
    """The median of some executions, warm."""
    took = []
    for _ in range(7):
        begun = time.perf_counter()
        await connection.fetch(query, *arguments)
        took.append(time.perf_counter() - begun)
    return statistics.median(took[2:])


@pytest.mark.clients
@pytest.mark.timeout(240)
@pytest.mark.parametrize("major", [9, 12])
async def test_a_look_at_200_queues_costs_less_for_each_than_pg_bosss_own_count_of_one(database: Database, major: int) -> None:
    await Boss(major=major, database=database).do(*[boss.create(name) for name in NAMES if major >= 10])
    await fill(database, waiting=0.95)
    async with opened(reading(database)) as meter:
        found = await meter.look(NAMES, FLOOR)
        text = meter._text
    assert {(depth.waiting, depth.more) for depth in found.values()} == {(FLOOR, True)}
    own = "SELECT count(*) FROM pgboss.job WHERE name = $1 AND state < 'active'"
    async with database.connect() as connection:
        await connection.execute("SET jit = off")
        ours, theirs = await seconds(connection, text, NAMES, FLOOR), await seconds(connection, own, "q7")
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {text}", NAMES, FLOOR))
    print(
        f"pg-boss {major}: {QUEUES} queues in {ours * 1000:.1f} ms, {ours / QUEUES * 1000:.3f} ms each; its own count of one {theirs * 1000:.3f} ms"
    )
    assert "Seq Scan" not in json.dumps(plan)
    assert ours / QUEUES <= theirs
