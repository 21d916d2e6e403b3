"""Other libraries' queues by their presets: graphile-worker and procrastinate for real; River, Oban, pgmq and Solid Queue on tables written from their docs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import procrastinate
import pytest

from jobyard.triggers.postgres.preset import presets
from jobyard.triggers.postgres.trouble import PostgresTrouble
from tests.postgres.boss import graphile
from tests.postgres.looking import count, look, opened, reading
from tests.postgres.server import Database, Server
from tests.waiting import BOUND

RIVER = (
    "CREATE TYPE river_job_state AS ENUM ('available', 'cancelled', 'completed', 'discarded', 'pending', 'retryable', 'running', 'scheduled')",
    "CREATE TABLE river_job (id bigserial PRIMARY KEY, state river_job_state NOT NULL DEFAULT 'available', queue text NOT NULL DEFAULT 'default', "
    "scheduled_at timestamptz NOT NULL DEFAULT now(), priority smallint NOT NULL DEFAULT 1)",
    "INSERT INTO river_job (queue, state, scheduled_at) VALUES ('a', 'available', now() - interval '30 s'), ('a', 'retryable', now() - interval '1 s'), "
    "('a', 'scheduled', now() + interval '1 h'), ('a', 'running', now()), ('a', 'completed', now()), ('b', 'available', now())",
)
OBAN = (
    "CREATE TYPE oban_job_state AS ENUM ('available', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled')",
    "CREATE TABLE oban_jobs (id bigserial PRIMARY KEY, state oban_job_state NOT NULL DEFAULT 'available', queue text NOT NULL DEFAULT 'default', "
    "scheduled_at timestamp NOT NULL DEFAULT timezone('UTC', now()))",
    "INSERT INTO oban_jobs (queue, state, scheduled_at) SELECT queue, state::oban_job_state, timezone('UTC', now() + later) FROM (VALUES "
    "('a', 'available', interval '-30 s'), ('a', 'retryable', interval '-1 s'), ('a', 'scheduled', interval '1 h'), ('a', 'executing', interval '0'), "
    "('b', 'available', interval '0')) AS t(queue, state, later)",
)
PGMQ = (
    "CREATE SCHEMA pgmq",
    "CREATE TYPE pgmq.metrics_result AS (queue_name text, queue_length bigint, newest_msg_age_sec int, oldest_msg_age_sec int, total_messages bigint, "
    "scrape_time timestamptz, queue_visible_length bigint)",
    "CREATE FUNCTION pgmq.metrics_all() RETURNS SETOF pgmq.metrics_result LANGUAGE sql AS "
    "$$ VALUES ('a'::text, 5::bigint, 1, 30, 9::bigint, now(), 2::bigint), ('b', 1, 0, 0, 1, now(), 1) $$",
)
SOLID = (
    "CREATE TABLE solid_queue_ready_executions (queue_name varchar NOT NULL, created_at timestamp(6) NOT NULL DEFAULT timezone('UTC', now()))",
    "CREATE TABLE solid_queue_scheduled_executions (queue_name varchar NOT NULL, scheduled_at timestamp(6) NOT NULL)",
    "CREATE TABLE solid_queue_pauses (queue_name varchar NOT NULL)",
    "INSERT INTO solid_queue_ready_executions VALUES ('a', timezone('UTC', now()) - interval '30 s'), ('b', DEFAULT), ('paused', DEFAULT)",
    "INSERT INTO solid_queue_scheduled_executions VALUES ('a', timezone('UTC', now()) - interval '1 s'), ('a', timezone('UTC', now()) + interval '1 h')",
    "INSERT INTO solid_queue_pauses VALUES ('paused')",
)


@pytest.mark.parametrize(("preset", "tables"), [("river", RIVER), ("oban", OBAN), ("pgmq", PGMQ), ("solid-queue", SOLID)])
async def test_what_may_be_taken_now_counts_and_what_is_due_later_is_known(
    database: Database, preset: str, tables: tuple[str, ...]
) -> None:
    await database.execute("ALTER DATABASE " + database.name + " SET timezone TO 'Asia/Tokyo'", *tables)
    found = await look(database, "a", "b", "paused", preset=preset)
    assert {name: depth.waiting for name, depth in found.items()} == {"a": 2, "b": 1, "paused": 0}
    a = found["a"]
    assert a.oldest is not None
    assert timedelta(seconds=25) < a.at - a.oldest < timedelta(seconds=120)
    if preset != "pgmq":
        assert a.next_due is not None
        assert timedelta(minutes=58) < a.next_due - a.at <= timedelta(hours=1)


@pytest.mark.clients
async def test_graphile_workers_jobs_count_until_it_has_done_them(postgres_server: Server, database: Database) -> None:
    await graphile(database, {"task": "mail", "count": 3}, {"task": "mail", "delay": 3600}, {"task": "other"})
    found = await look(database, "mail", "other", "never", preset="graphile-worker")
    assert {name: depth.waiting for name, depth in found.items()} == {"mail": 3, "other": 1, "never": 0}
    assert found["mail"].next_due is not None
    watcher = await postgres_server.create_role(database)
    await database.execute(f'GRANT USAGE ON SCHEMA graphile_worker TO "{watcher.user}"')
    await database.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA graphile_worker TO "{watcher.user}"')
    with pytest.raises(PostgresTrouble, match="row-level security would hide rows"):
        await count(watcher, "mail", preset="graphile-worker")
    assert await graphile(database, {"work": "mail"}) == [3]
    assert await count(database, "mail", preset="graphile-worker") == {"mail": 0}


def test_every_preset_says_where_its_tables_are_and_what_is_read() -> None:
    assert sorted(presets()) == ["graphile-worker", "oban", "pgboss", "pgmq", "procrastinate", "river", "solid-queue"]
    for preset in presets().values():
        assert preset.schema
        assert preset.reads


async def test_a_preset_whose_tables_are_not_there_says_so(database: Database) -> None:
    for name in presets():
        async with opened(reading(database, preset=name)) as meter:
            with pytest.raises(PostgresTrouble, match=r"not there|there is no"):
                await meter.look(["a"], 500)


async def test_procrastinates_jobs_count_until_it_has_done_them(database: Database) -> None:
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            conninfo=f"host=127.0.0.1 port={database.port} dbname={database.name} user={database.user} password={database.password}"
        )
    )

    @app.task(queue="mail", name="mail")
    async def mail() -> None: ...

    heard: asyncio.Queue[str | None] = asyncio.Queue()
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        async with opened(reading(database, preset="procrastinate"), heard.put_nowait) as meter:
            await mail.defer_async()
            await mail.configure(schedule_in={"hours": 1}).defer_async()
            async with asyncio.timeout(BOUND):
                assert "job_inserted" in str(await heard.get())
            found = (await meter.look(["mail"], 500))["mail"]
            assert (found.waiting, found.next_due is not None) == (1, True)
        await app.run_worker_async(wait=False, queues=["mail"], install_signal_handlers=False)
    assert await count(database, "mail", preset="procrastinate") == {"mail": 0}
