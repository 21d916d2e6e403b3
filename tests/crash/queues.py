"""A queue in a real Postgres as a source for the crash harness: each Job takes one item."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from functools import cache
from pathlib import Path

from jobyard.engine.clock import SystemClock
from jobyard.triggers.postgres.rule import Why
from jobyard.triggers.postgres.settings import Address, QueueSettings, Scale, TriggerSettings, Waits
from jobyard.triggers.postgres.trigger import QueueTrigger
from tests.crash.place import Place
from tests.flows import read
from tests.manifests import Tree, job
from tests.postgres import prepare
from tests.postgres.server import PASSWORD, SUPERUSER, Server, open_server

QUICK = timedelta(milliseconds=100)
WAITS = Waits(check=QUICK, success=QUICK, failure=QUICK, error=QUICK, start_timeout=QUICK)
LOOK_EVERY = 0.05
TABLE = (
    "CREATE SCHEMA pgboss",
    "CREATE TYPE pgboss.job_state AS ENUM ('created', 'retry', 'active', 'completed', 'cancelled', 'failed')",
    "CREATE TABLE pgboss.job (name text, state pgboss.job_state DEFAULT 'created', start_after timestamptz DEFAULT now())",
)
TAKE = (
    "UPDATE pgboss.job SET state = 'completed' WHERE ctid = "
    "(SELECT ctid FROM pgboss.job WHERE name = 'work' AND state = 'created' LIMIT 1 FOR UPDATE SKIP LOCKED)"
)


@cache
def server() -> Server:
    """One for all that this process tries."""
    if why := prepare.postgres():
        raise RuntimeError(why)
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(open_server())


def psql() -> str:
    found = prepare.programs()
    assert found is not None
    return str(found / "psql")


def variables(told: Mapping[str, str]) -> dict[str, str]:
    """What psql needs to know."""
    return {"PGHOST": "127.0.0.1", "PGUSER": SUPERUSER, "PGPASSWORD": PASSWORD, "PGPORT": told["port"], "PGDATABASE": told["name"]}


def ask(told: Mapping[str, str], *statements: str) -> str:
    """What psql answers."""
    words = [psql(), "-XAtq", "-v", "ON_ERROR_STOP=1", *(word for each in statements for word in ("-c", each))]
    return subprocess.run(words, check=True, capture_output=True, text=True, env={**os.environ, **variables(told)}).stdout.strip()


def fill(folder: Path, files: Mapping[str, Tree]) -> None:
    told = {"port": str(server().port), "name": f"c_{folder.name.rpartition('-')[2]}".lower()}
    ask({**told, "name": "postgres"}, f'CREATE DATABASE "{told["name"]}"')
    ask(told, *TABLE, f"INSERT INTO pgboss.job (name) SELECT 'work' FROM generate_series(1, {len(files)})")  # noqa: S608 - a number
    (folder / "database").write_text(json.dumps(told))


def look(folder: Path) -> tuple[list[str], dict[str, str]]:
    """How many items are left, and how many were taken."""
    told = json.loads((folder / "database").read_text())
    all_, taken = (
        int(each) for each in ask(told, "SELECT count(*), count(*) FILTER (WHERE state = 'completed') FROM pgboss.job").split("|")
    )
    left = all_ - taken
    return [f"{left} items"] if left else [], {str(number): "done" for number in range(1, taken + 1)}


def worker(told: Mapping[str, str], *, on_machine: bool) -> Tree:
    """A Job that takes one item: a process of this machine, or a pod on its network that has its files."""
    words = [psql(), "-Xq", "-c", TAKE]
    env = [{"name": name, "value": value} for name, value in variables(told).items()]
    if on_machine:
        return job("work", container={"command": words, "env": env})
    pod = {"hostNetwork": True, "volumes": [{"name": "host", "hostPath": {"path": "/"}}]}
    mounts = [{"name": "host", "mountPath": "/host", "readOnly": True}]
    return job("work", pod=pod, container={"command": ["busybox", "chroot", "/host", *words], "env": env, "volumeMounts": mounts})


async def serve(place: Place, scale: Scale | None = None) -> None:
    """Serves the queue until it is empty and nothing runs."""
    told = json.loads((place.folder / "database").read_text())
    version = json.loads(await place.cluster.call("GET", "/version", "ask for the version"))
    flow = read(worker(told, on_machine="jobyard" in version["gitVersion"]), place.folder)
    queue = QueueSettings(queue="work", workflow=flow, waits=WAITS, scale=scale)
    address = Address(host="127.0.0.1", port=int(told["port"]), database=told["name"], user=SUPERUSER, password=PASSWORD)
    trigger = QueueTrigger("q", TriggerSettings(address=address, queues=(queue,), preset="pgboss"), SystemClock())
    serving = asyncio.create_task(trigger.run(place.engine))
    try:
        while not serving.done():
            slot = trigger.slots.get("work")
            is_empty = slot is not None and slot.step is not None and slot.step.why is Why.EMPTY
            if is_empty and all(run.state.is_end for run in await trigger.runs(place.engine)):
                return
            await asyncio.sleep(LOOK_EVERY)
        serving.result()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def scaled(place: Place) -> None:
    """The same, several at once."""
    await serve(place, Scale(most=3))
