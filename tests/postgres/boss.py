"""The real pg-boss of each major, as producer and worker: a Node process that does what it is told."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.postgres import prepare
from tests.postgres.server import Database

MAJORS = (7, 8, 9, 10, 11, 12)
SCRIPT = prepare.PACKAGES / "boss.mjs"


@dataclass(frozen=True, kw_only=True)
class Boss:
    """pg-boss of a major, on a schema of a database."""

    major: int
    database: Database
    schema: str = "pgboss"

    async def do(self, *steps: dict[str, Any]) -> list[Any]:
        """Does the steps in one process, and says what each answered. Its start makes the schema, where there is none."""
        return await run_client(SCRIPT, self.plan(*steps))

    def plan(self, *steps: dict[str, Any]) -> dict[str, Any]:
        """What the script is told."""
        database = self.database
        who = {"host": "127.0.0.1", "port": database.port, "database": database.name, "user": database.user, "password": database.password}
        return {"major": self.major, "connection": who, "schema": self.schema, "steps": steps}


async def run_client(script: Path, plan: dict[str, Any]) -> list[Any]:
    """What a script of a client answers to a plan."""
    process = await asyncio.create_subprocess_exec(
        str(prepare.node()),
        str(script),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "CLIENTS": str(prepare.modules())},
    )
    answer, told = await process.communicate(json.dumps(plan).encode())
    assert process.returncode == 0, told.decode()
    return list(json.loads(answer))


async def graphile(database: Database, *steps: dict[str, Any]) -> list[Any]:
    """The real graphile-worker does these steps."""
    where = f"postgres://{database.user}:{quote(database.password)}@127.0.0.1:{database.port}/{database.name}"
    return await run_client(prepare.PACKAGES / "graphile.mjs", {"connectionString": where, "steps": steps})


def create(queue: str, **options: Any) -> dict[str, Any]:
    return {"do": "create", "queue": queue, "options": options}


def send(queue: str, count: int = 1, data: Any = None, **options: Any) -> dict[str, Any]:
    return {"do": "send", "queue": queue, "count": count, "data": data or {}, "options": options}


def fetch(queue: str, count: int) -> dict[str, Any]:
    return {"do": "fetch", "queue": queue, "count": count}


def drain(queue: str, most: int = 10**9) -> dict[str, Any]:
    return {"do": "drain", "queue": queue, "most": most}
