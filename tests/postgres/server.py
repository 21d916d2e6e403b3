"""A real PostgreSQL of the tests: a data folder and a port of its own, fast rather than safe, gone with the tests however they end."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from tests.ports import free_port
from tests.postgres import prepare
from tests.waiting import BOUND

SUPERUSER, PASSWORD = "postgres", "the-superuser's"
WATCHERS = "a-watcher's"
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200", "autovacuum": "on"}


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database of a server, and who one is there."""

    port: int
    name: str
    user: str = SUPERUSER
    password: str = PASSWORD

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """A connection."""
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.port, database=self.name, user=self.user, password=self.password, timeout=BOUND
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    async def execute(self, *statements: str) -> None:
        """Executes statements, each by itself."""
        async with self.connect() as connection:
            for each in statements:
                await connection.execute(each)

    async def value(self, query: str, *arguments: Any) -> Any:
        """The first value that a query answers."""
        async with self.connect() as connection:
            return await connection.fetchval(query, *arguments)


class Server:
    """A server that runs. Made by `open_server`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def superuser(self) -> Database:
        return Database(port=self.port, name="postgres")

    def start(self, **settings: str) -> None:
        """Starts the server (again), and waits until it answers."""
        found = prepare.programs()
        assert found is not None
        asked = {**FAST, "listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": str(self.folder), **settings}
        words = [str(found / "postgres"), "-D", str(self.folder / "data"), *(f"--{name}={value}" for name, value in asked.items())]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, **as_nobody_special())
        watch = ["sh", "-c", 'cat > /dev/null; kill -QUIT "$0"', str(self._process.pid)]  # reads to its end when this process is gone
        self._guard = subprocess.Popen(watch, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        end = time.monotonic() + BOUND
        ready = [str(found / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < end, (self.folder / "log").read_text()[-2000:]

    def stop(self, *, crash: bool = False) -> None:
        """Ends the server: cuts all connections at once, as a restart does; or as a crash does."""
        if self._process is None:
            return
        if crash:
            os.kill(self._process.pid, 3)  # SIGQUIT: without a checkpoint
        else:
            self._process.send_signal(2)  # SIGINT: fast shutdown
        self._process.wait(BOUND)
        self._process = None
        assert self._guard is not None
        self._guard.kill()
        self._guard.communicate()

    async def create_database(self) -> Database:
        """A new database."""
        name = f"t_{uuid.uuid4().hex[:10]}"
        await self.superuser.execute(f'CREATE DATABASE "{name}"')
        return Database(port=self.port, name=name)

    async def create_role(self, database: Database, password: str = WATCHERS) -> Database:
        """The database for a new role that may nothing there but connect."""
        name = f"r_{uuid.uuid4().hex[:10]}"
        await self.superuser.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{password.replace(chr(39), chr(39) * 2)}'")
        return Database(port=self.port, name=database.name, user=name, password=password)


def as_nobody_special() -> dict[str, Any]:
    """PostgreSQL will not run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def open_server() -> Iterator[Server]:
    """A server as long as the context lasts."""
    folder = Path(tempfile.mkdtemp(prefix="jobyard-postgres-"))
    user = as_nobody_special()
    if user:
        os.chown(folder, user["user"], user["group"])
    found = prepare.programs()
    assert found is not None
    passwords = folder / "password"
    passwords.write_text(PASSWORD)
    os.chmod(passwords, 0o644)
    words = [
        str(found / "initdb"),
        "-D",
        str(folder / "data"),
        "-U",
        SUPERUSER,
        "--pwfile",
        str(passwords),
        "-E",
        "UTF8",
        "--no-locale",
        "-N",
    ]
    subprocess.run([*words, "--auth-local=trust", "--auth-host=scram-sha-256"], check=True, capture_output=True, cwd=folder, **user)
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
