"""Asks one database how deep its queues are, over one connection: read-only, bounded in time, and never in a transaction between two looks.

All that a look needs is said in its own transaction (`SET LOCAL`), so a pooler that shares connections is fine; only LISTEN needs one of
our own, and is left out behind a pooler and on a standby. The poll stays in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import asyncpg

from jobyard import external
from jobyard.contracts import Clock
from jobyard.triggers.postgres import depth, shape
from jobyard.triggers.postgres.depth import Depth
from jobyard.triggers.postgres.preset import PGBOSS, Preset, presets
from jobyard.triggers.postgres.settings import NAME_LIMIT, Address, TriggerSettings
from jobyard.triggers.postgres.shape import Shape, quoted, shape_of
from jobyard.triggers.postgres.trouble import PostgresTrouble, Wanted, explain

CONNECT_WITHIN = 10.0
"""Seconds for a connection."""
MARGIN = 3.0
"""Seconds that a look may take beyond what the database is told: the network, and a server that does not do as told."""
SHAPE_HOLDS = 600.0
"""Seconds for which the shape of a pg-boss schema is believed: a newer pg-boss may change it under us."""
ROWS = 10_000
"""How many rows of a user's own query are read."""

Heard = Callable[[str | None], None]
"""Is told what a notification says; None where something else has happened to the connection."""

_COLUMNS = """
SELECT namespace.nspname::text, array_agg(attribute.attname::text)
FROM pg_catalog.pg_namespace AS namespace
LEFT JOIN pg_catalog.pg_class AS class ON class.relnamespace = namespace.oid AND class.relname = $2::text
LEFT JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = class.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
WHERE namespace.nspname IN ($1::text, lower($1::text))
GROUP BY namespace.nspname
ORDER BY namespace.nspname = $1::text DESC
"""


class Meter:
    """A connection that is open. Made by `open_meter`."""

    def __init__(self, connection: asyncpg.Connection[Any], settings: TriggerSettings, clock: Clock) -> None:
        self._connection = connection
        self._settings = settings
        self._clock = clock
        self.deaf = ""
        """Why nothing is listened to; '' while something is."""
        self._preset: Preset | None = presets()[settings.preset] if settings.preset else None
        self._schema = settings.schema or (self._preset.schema if self._preset else "")
        self._text = ""
        self._takes_names = True
        self._shape: Shape | None = None
        self._shaped = 0.0

    @property
    def wanted(self) -> Wanted:
        """What is read, for what is said when it can't be."""
        reads: Sequence[tuple[str, Sequence[str]]] = self._preset.reads if self._preset else ()
        if self._shape is not None:
            reads = ((shape.TABLE, self._shape.columns),)
        return Wanted(schema=self._schema if self._preset else "", reads=reads, seconds=self._settings.timeout.total_seconds())

    async def look(self, queues: Sequence[str], cap: int) -> Mapping[str, Depth]:
        """How deep each of these queues is, by one query; of each at most `cap` items are counted. Raises PostgresTrouble."""
        seconds = self._settings.timeout.total_seconds()
        try:
            with external.call("postgres: look"):
                async with asyncio.timeout(seconds + MARGIN):
                    return await self._look(queues, cap)
        except asyncpg.PostgresError as error:
            self._text = ""
            trouble = explain(error, self._settings.address, self.wanted)
            if trouble.shape_changed:
                self._shape = None
            raise trouble from error
        except PostgresTrouble:
            raise
        except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
            self._connection.terminate()
            raise explain(error, self._settings.address, self.wanted) from error

    async def _look(self, queues: Sequence[str], cap: int) -> Mapping[str, Depth]:
        connection = self._connection
        await connection.execute(self._begin())
        try:
            if not self._text or (self._shape is not None and asyncio.get_running_loop().time() > self._shaped + SHAPE_HOLDS):
                await self._learn(queues)
            rows = await (connection.fetch(self._text, list(queues), cap) if self._takes_names else connection.fetch(self._text))
            await connection.execute("COMMIT")
        except (asyncpg.PostgresError, PostgresTrouble):
            await connection.execute("ROLLBACK")
            raise
        except BaseException:
            connection.terminate()  # an answer may still be on its way
            raise
        at = self._clock.now()
        if self._takes_names:
            return depth.by_queue(rows, queues, cap, at)
        named = [(queues[0], *row[1:]) for row in rows[:1]] if rows and rows[0][0] is None else rows
        return depth.by_queue(named, queues, None, at)

    def _begin(self) -> str:
        milliseconds = max(1, int(self._settings.timeout.total_seconds() * 1000))
        words = [
            "BEGIN READ ONLY",
            f"SET LOCAL statement_timeout = {milliseconds}",
            f"SET LOCAL lock_timeout = {max(1, milliseconds // 2)}",
        ]
        words.append("SET LOCAL jit = off")
        if self._preset:
            words.append("SET LOCAL row_security = off")  # rows that would be hidden are an error, not none
        return "; ".join(words)

    # --- what is asked ---

    async def _learn(self, queues: Sequence[str]) -> None:
        """Finds out what to ask."""
        if self._preset is None:
            self._text, self._takes_names = await self._own(len(queues)), False
        elif self._preset.name == PGBOSS:
            self._shape = await self._probe()
            self._shaped = asyncio.get_running_loop().time()
            self._text = self._shape.fill(self._preset.text)
        else:
            self._text = self._preset.text.format(schema=quoted(self._schema))

    async def _probe(self) -> Shape:
        """Which pg-boss it is, from the catalog, which everybody may read. Raises PostgresTrouble."""
        found = await self._connection.fetch(_COLUMNS, self._schema, shape.TABLE)
        for schema, columns in found:
            if (known := shape_of(schema, [each for each in columns if each])) is not None:
                return known
        where = f"schema {shape.quoted(self._schema)}"
        if not found:
            what = f"there is no {where}"
        elif not any(each for each in found[0][1]):
            what = f"{where} has no table {shape.TABLE}"
        else:
            what = f"table {shape.TABLE} in {where} is none of pg-boss 7 to 12"
        raise PostgresTrouble(
            server=str(self._settings.address),
            what=what,
            remedy="Correct the schema, or start pg-boss once: it makes its tables",
            shape_changed=True,
        )

    async def _own(self, queues: int) -> str:
        """A user's own query, so that nothing of unbounded size is answered. Raises PostgresTrouble."""
        query = self._settings.query.strip().rstrip(";")
        statement = await self._connection.prepare(query, name="")
        count = len(statement.get_attributes())
        if not 1 <= count <= 3 or (count == 1 and queues > 1):
            raise PostgresTrouble(
                server=str(self._settings.address),
                what=f"the query answers {count} columns{' for several queues' if count == 1 else ''}",
                remedy="It should answer queue, waiting and, if it likes, the seconds of the oldest; or, for one queue, a number",
            )
        waiting = f"least(greatest(c{min(count, 2)}::float8, 0), {depth.MOST}::float8)"
        chosen = [
            "NULL::text" if count == 1 else f"left(c1::text, {NAME_LIMIT + 1})",
            waiting,
            "c3::float8" if count == 3 else "NULL::float8",
        ]
        names = ", ".join(f"c{index}" for index in range(1, count + 1))
        return f"SELECT {', '.join(chosen)} FROM (\n{query}\n) AS counted({names}) LIMIT {1 if count == 1 else ROWS}"  # noqa: S608 - the query is the user's own, and read-only

    # --- what is heard ---

    async def listen(self, heard: Heard) -> None:
        """Has `heard` told of notifications, where there can be any; says in `deaf` why not."""
        channels = [self._settings.channel] if self._settings.channel else []
        if self._preset is not None:
            channels += [shape.channel(self._schema)] if self._preset.name == PGBOSS else [self._preset.channel]
        if not any(channels):
            self.deaf = "nothing says what to listen to"
            return
        process, is_standby = await self._connection.fetchrow("SELECT pg_backend_pid(), pg_is_in_recovery()") or (0, False)
        if process != self._connection.get_server_pid():
            self.deaf = "there is a pooler before the database, which may share its connections"
        elif is_standby:
            self.deaf = "the database is a standby, where nothing can be listened to"
        else:
            for each in filter(None, channels):
                await self._connection.add_listener(each, lambda _connection, _pid, _channel, payload: heard(str(payload)))


@asynccontextmanager
async def open_meter(settings: TriggerSettings, clock: Clock, who: str, heard: Heard) -> AsyncIterator[Meter]:
    """A connection as long as the context lasts. `who`: the trigger, as the database's administrator sees it. Raises PostgresTrouble."""
    address = settings.address
    try:
        with external.call("postgres: connect"):
            async with asyncio.timeout(CONNECT_WITHIN):
                connection = await asyncpg.connect(
                    host=address.host,
                    port=address.port,
                    database=address.database,
                    user=address.user,
                    password=address.password,
                    ssl=_tls(address),
                    timeout=CONNECT_WITHIN,
                    statement_cache_size=0,
                    server_settings={"application_name": f"jobyard {who}"[:63]},
                )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise explain(error, address, Wanted()) from error
    connection.add_termination_listener(lambda _: heard(None))
    meter = Meter(connection, settings, clock)
    try:
        try:
            with external.call("postgres: listen"):
                async with asyncio.timeout(CONNECT_WITHIN):
                    await meter.listen(heard)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise explain(error, address, meter.wanted) from error
        yield meter
    finally:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.shield(_close(connection))


async def _close(connection: asyncpg.Connection[Any]) -> None:
    try:
        await connection.close(timeout=2)
    finally:
        connection.terminate()


def _tls(address: Address) -> Literal["prefer", False] | ssl.SSLContext:
    """How to speak TLS, by libpq's words. Raises OSError, ssl.SSLError: a file that can't be read."""
    if address.tls == "disable":
        return False
    if address.tls == "prefer" and not (address.ca or address.certificate):
        return "prefer"
    context = ssl.create_default_context(cafile=address.ca or None)
    context.check_hostname = address.tls == "verify-full"
    if address.tls in ("prefer", "require"):
        context.verify_mode = ssl.CERT_NONE
    if address.certificate:
        context.load_cert_chain(address.certificate, address.key or None, password="")
    return context
