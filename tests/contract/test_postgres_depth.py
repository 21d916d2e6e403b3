"""How deep queues are: as their own clients see them, with the least rights, and in words when it can't be told."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import pytest

from jobyard.engine.clock import SystemClock
from jobyard.triggers.postgres.preset import grants
from jobyard.triggers.postgres.shape import Shape
from jobyard.triggers.postgres.trouble import PostgresTrouble
from tests.ports import free_port
from tests.postgres import boss
from tests.postgres.boss import MAJORS, Boss
from tests.postgres.looking import address, count, look, make_job_table, opened, reading
from tests.postgres.server import Database, Server
from tests.waiting import BOUND

HOUR = 3600


@pytest.mark.clients
@pytest.mark.parametrize("major", MAJORS)
async def test_we_count_what_every_pg_boss_would_hand_out_and_know_when_more_is_due(database: Database, major: int) -> None:
    client = Boss(major=major, database=database)
    told = await client.do(
        boss.create("work"),
        boss.create("other"),
        boss.send("work", 6),
        boss.send("work", 2, startAfter=HOUR),
        boss.send("other"),
        {"do": "fetch", "queue": "work", "count": 2},
    )
    found = await look(database, "work", "other", "missing")
    assert {name: depth.waiting for name, depth in found.items()} == {"work": 4, "other": 1, "missing": 0}
    work = found["work"]
    assert work.oldest is not None
    assert timedelta(0) <= work.at - work.oldest < timedelta(seconds=BOUND)
    assert work.next_due is not None
    assert timedelta(seconds=HOUR - BOUND) < work.next_due - work.at <= timedelta(seconds=HOUR)
    assert found["missing"].oldest is None
    handed, [ids, *_] = await client.do(boss.fetch("work", 100)), told[5:]
    assert (len(handed[0]), len(ids)) == (4, 2)
    assert (await look(database, "other", cap=1))["other"].more


@pytest.mark.clients
@pytest.mark.parametrize("major", [9, 12])
async def test_the_rights_that_the_message_names_are_enough_and_no_payload_can_be_read_with_them(
    postgres_server: Server, database: Database, major: int
) -> None:
    await Boss(major=major, database=database).do(boss.create("work"), boss.send("work", 2))
    watcher = await postgres_server.create_role(database)
    with pytest.raises(PostgresTrouble, match="may not read") as refused:
        await look(watcher, "work")
    await database.execute(*re.findall(r"GRANT [^;]*;", str(refused.value)))
    assert await count(watcher, "work") == {"work": 2}
    async with watcher.connect() as connection:
        with pytest.raises(Exception, match="permission denied"):
            await connection.fetch("SELECT data FROM pgboss.job")
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute("DELETE FROM pgboss.job")


def test_the_grants_are_for_the_columns_that_are_read_alone() -> None:
    shape = Shape(schema="pgboss", due="start_after", has_blocked=True)
    assert grants("pgboss", (("job", shape.columns),), "watch-er") == (
        'GRANT USAGE ON SCHEMA pgboss TO "watch-er"; GRANT SELECT (name, state, start_after, blocked) ON pgboss.job TO "watch-er";'
    )


async def test_a_schema_that_changes_under_us_is_read_anew(database: Database) -> None:
    await make_job_table(database, due="startafter", created="createdon")
    await database.execute("INSERT INTO pgboss.job (name) VALUES ('work')")
    async with opened(reading(database)) as meter:
        assert (await meter.look(["work"], 500))["work"].waiting == 1
        await database.execute(
            "ALTER TABLE pgboss.job RENAME startafter TO start_after", "ALTER TABLE pgboss.job RENAME createdon TO created_on"
        )
        with pytest.raises(PostgresTrouble, match="is not there"):
            await meter.look(["work"], 500)
        assert (await meter.look(["work"], 500))["work"].waiting == 1


async def test_names_of_schemas_and_queues_are_data_wherever_they_stand(database: Database) -> None:
    schema, queue = 'od"d; DROP TABLE x', "'; DELETE FROM job; -- \x01 é"
    await database.execute(
        'CREATE SCHEMA "od""d; DROP TABLE x"',
        """CREATE TABLE "od""d; DROP TABLE x".job (name text, state int, start_after timestamptz, created_on timestamptz)""",
    )
    with pytest.raises(PostgresTrouble, match="can't be counted"):  # 'active' is no number
        await look(database, queue, schema=schema)
    await make_job_table(database)
    await database.execute("INSERT INTO pgboss.job (name) VALUES ('x')")
    assert await count(database, queue, "x") == {queue: 0, "x": 1}


async def test_times_without_end_are_no_times(database: Database) -> None:
    await make_job_table(database)
    await database.execute(
        "INSERT INTO pgboss.job (name, start_after) VALUES ('late', 'infinity'), ('early', '-infinity')",
        "INSERT INTO pgboss.job (name, start_after, created_on) VALUES ('never', '-infinity', '-infinity')",
    )
    found = await look(database, "late", "early", "never")
    assert [(each.waiting, each.next_due) for each in found.values()] == [(0, None), (1, None), (1, None)]
    assert found["never"].oldest is None


# --- a query of one's own ---


async def test_a_query_answers_rows_or_for_one_queue_a_number(database: Database) -> None:
    rows = "SELECT * FROM (VALUES ('a', 3, 12.5), ('b', NULL, NULL), ('a', 1, 2.0), ('who', 9, 0.0)) AS t; "
    found = await look(database, "a", "b", "c", query=rows)
    assert {name: depth.waiting for name, depth in found.items()} == {"a": 4, "b": 0, "c": 0}
    assert found["a"].oldest == found["a"].at - timedelta(seconds=12.5)
    assert await count(database, "a", query="SELECT count(*) FROM generate_series(1, 7) -- all") == {"a": 7}
    assert await count(database, "a", query="SELECT NULL") == {"a": 0}
    with pytest.raises(PostgresTrouble, match="1 columns for several queues"):
        await count(database, "a", "b", query="SELECT 1")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DELETE FROM t RETURNING name, 1", "refuses"),
        ("SELECT 'a', nextval('numbers')", "wants to write"),
        ("SELECT 'a', pg_sleep(60)::text::int", "longer than 0.2 s"),
        ("SELECT 'a', 'the-payload'", "can't be counted"),
        ("SELECT name, payload::int FROM t", "can't be counted"),
        ("SELECT nothing FROM nowhere", "is not there"),
        ("SELECT 1; DELETE FROM t", "refuses"),
        ("SELECT 1, 2, 3, 4", "4 columns"),
        ("SELECT 'a', 1)", "refuses"),
    ],
)
async def test_a_query_only_reads_in_bounded_time_and_no_value_is_told(database: Database, query: str, said: str) -> None:
    await database.execute(
        "CREATE TABLE t (name text, payload text)", "INSERT INTO t VALUES ('a', 'the-payload')", "CREATE SEQUENCE numbers"
    )
    async with opened(reading(database, query=query, timeout=timedelta(seconds=0.2))) as meter:
        for _ in range(2):  # the connection outlives what was refused
            with pytest.raises(PostgresTrouble, match=said) as refused:
                await meter.look(["a"], 500)
            assert "the-payload" not in str(refused.value)
    assert await database.value("SELECT count(*) FROM t") == 1


async def test_what_a_query_answers_is_bounded(database: Database) -> None:
    many = "SELECT repeat(i::text, 100000), 'Infinity'::float8 FROM generate_series(1, 20000) AS i"
    assert await count(database, "1", query=many, timeout=timedelta(seconds=60)) == {"1": 0}
    assert await count(database, "a", query="SELECT 'a', 'NaN'::float8") == {"a": 10**15}


# --- what goes wrong ---


async def test_everything_that_can_be_wrong_with_a_database_is_said_in_words(postgres_server: Server, database: Database) -> None:
    secret = "p4ssw0rd-canary"
    cases = {
        "can't be reached": reading(database, address=address(database, port=free_port())),
        "no host|not known|can't be reached": reading(database, address=address(database, host="nowhere.invalid")),
        "does not accept the password of postgres": reading(database, address=address(database, password=secret)),
        "does not accept the password of stranger": reading(database, address=address(database, user="stranger", password=secret)),
        "there is no database nothing_there": reading(database, address=address(database, database="nothing_there")),
        "does not speak TLS": reading(database, address=address(database, tls="require")),
        "no such file": reading(database, address=address(database, tls="verify-full", ca="/nowhere/ca.crt")),
        'there is no schema "pgboss"': reading(database),
        "is not there in schema public": reading(database, preset="river"),
    }
    for said, settings in cases.items():
        with pytest.raises(PostgresTrouble, match=said) as refused:
            async with opened(settings) as meter:
                await meter.look(["work"], 500)
        assert secret not in str(refused.value) + repr(refused.value)
        assert str(database.port) in str(refused.value) or "nowhere" in str(refused.value) or "can't be reached" in str(refused.value)


async def test_a_server_that_goes_away_is_told_at_once_and_asked_again(postgres_server: Server, database: Database) -> None:
    await make_job_table(database)
    lost = asyncio.Event()
    async with opened(reading(database), lambda said: lost.set() if said is None else None) as meter:
        await meter.look(["work"], 500)
        postgres_server.stop()
        try:
            async with asyncio.timeout(BOUND):
                await lost.wait()
            with pytest.raises(PostgresTrouble, match=r"being stopped|was closed|cut|reached"):
                await meter.look(["work"], 500)
        finally:
            postgres_server.start()
    assert await count(database, "work") == {"work": 0}


async def test_a_table_that_somebody_holds_is_waited_for_in_bounded_time(database: Database) -> None:
    await make_job_table(database)
    async with database.connect() as other, other.transaction():
        await other.execute("LOCK TABLE pgboss.job IN ACCESS EXCLUSIVE MODE")
        begun = SystemClock().now()
        with pytest.raises(PostgresTrouble, match="has locked the table"):
            await look(database, "work", timeout=timedelta(seconds=0.5))
        assert SystemClock().now() - begun < timedelta(seconds=BOUND)


# --- what is heard ---


async def test_notifications_are_heard_on_the_channel_of_pg_boss_and_on_one_of_ones_own(database: Database) -> None:
    await make_job_table(database)
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    async with opened(reading(database, channel="mine"), heard.put_nowait) as meter:
        assert meter.deaf == ""
        await database.execute("SELECT pg_notify('pgboss_' || left(encode(sha224('pgboss'), 'hex'), 24), 'work')", "NOTIFY mine, 'other'")
        async with asyncio.timeout(BOUND):
            assert [await heard.get(), await heard.get()] == ["work", "other"]


@pytest.mark.clients
async def test_pg_boss_12_notifies_where_a_queue_asks_for_it(database: Database) -> None:
    client = Boss(major=12, database=database)
    await client.do(boss.create("work", notify=True), boss.create("quiet"))
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    async with opened(reading(database), heard.put_nowait):
        await client.do(boss.send("quiet"), boss.send("work", startAfter=HOUR), boss.send("work"))
        async with asyncio.timeout(BOUND):
            assert await heard.get() == "work"
        assert heard.empty()
