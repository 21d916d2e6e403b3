"""Looks at queues as a trigger does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from jobyard.engine.clock import SystemClock
from jobyard.triggers.postgres.depth import Depth
from jobyard.triggers.postgres.meter import Heard, Meter, open_meter
from jobyard.triggers.postgres.settings import Address, TriggerSettings
from tests.postgres.server import Database


def address(server: Database, /, **more: Any) -> Address:
    """The database as our settings name it."""
    facts = {"host": "127.0.0.1", "port": server.port, "database": server.name, "user": server.user, "password": server.password}
    return Address(**{**facts, **more})


def reading(database: Database, **more: Any) -> TriggerSettings:
    """Settings that look at it."""
    asked = {"preset": "pgboss"} if "query" not in more else {}
    return TriggerSettings(**{"address": address(database), "queues": (), **asked, **more})


@asynccontextmanager
async def opened(settings: TriggerSettings, heard: Heard = lambda _: None) -> AsyncIterator[Meter]:
    async with open_meter(settings, SystemClock(), "test", heard) as meter:
        yield meter


async def look(database: Database, *queues: str, cap: int = 500, **more: Any) -> Mapping[str, Depth]:
    """One look over a connection of its own."""
    async with opened(reading(database, **more)) as meter:
        return await meter.look(queues, cap)


async def count(database: Database, *queues: str, **more: Any) -> dict[str, int]:
    """How many wait."""
    return {name: depth.waiting for name, depth in (await look(database, *queues, **more)).items()}


async def make_job_table(database: Database, schema: str = "pgboss", due: str = "start_after", created: str = "created_on") -> None:
    """The columns of pg-boss that we read: for what needs no client."""
    await database.execute(
        f'CREATE SCHEMA "{schema}"',
        f"CREATE TYPE \"{schema}\".job_state AS ENUM ('created', 'retry', 'active', 'completed', 'cancelled', 'failed')",
        f'CREATE TABLE "{schema}".job (name text, state "{schema}".job_state DEFAULT \'created\', {due} timestamptz DEFAULT now(), '
        f"{created} timestamptz DEFAULT now(), data jsonb)",
    )
