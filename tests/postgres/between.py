"""What may stand between us and a Postgres: a proxy that cuts, delays and goes silent; PgBouncer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.ports import free_port
from tests.postgres.server import Database, as_nobody_special
from tests.waiting import BOUND


@dataclass
class Line:
    """A TCP proxy. What is set holds for connections that are open, too."""

    port: int = 0
    is_silent: bool = False
    delay: float = 0.0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """Cuts every connection there is."""
        for each in list(self._open):
            each.transport.abort()


@asynccontextmanager
async def open_line(database: Database) -> AsyncIterator[tuple[Line, Database]]:
    """A proxy before the server, and the database by way of it."""
    line = Line()

    async def hand_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while part := await source.read(65536):
            await asyncio.sleep(line.delay)
            if not line.is_silent:
                target.write(part)
                await target.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", database.port)
        both = {writer, far_writer}
        line._open |= both
        ways = [asyncio.create_task(hand_on(reader, far_writer)), asyncio.create_task(hand_on(far_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ways:
                each.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in both:
                end.transport.abort()
            line._open -= both

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    line.port = listener.sockets[0].getsockname()[1]
    try:
        yield line, replace(database, port=line.port)
    finally:
        line.cut()
        listener.close()


@asynccontextmanager
async def open_pooler(database: Database) -> AsyncIterator[Database]:
    """PgBouncer in transaction mode before the server, and the database by way of it."""
    folder = Path(tempfile.mkdtemp(prefix="jobyard-pgbouncer-"))
    port = free_port()
    (folder / "users").write_text(f'"{database.user}" "{database.password}"\n')
    (folder / "ini").write_text(
        f"[databases]\n{database.name} = host=127.0.0.1 port={database.port} dbname={database.name} pool_size=2\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {folder}/users\n"
        "pool_mode = transaction\n"
    )
    user = as_nobody_special()
    for each in (folder, *folder.iterdir()):
        os.chmod(each, 0o755)  # noqa: S103 - PgBouncer is somebody else
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    assert program is not None
    with subprocess.Popen([program, str(folder / "ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user) as process:
        try:
            async with asyncio.timeout(BOUND):
                while True:
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        break
                    await asyncio.sleep(0.02)
            yield replace(database, port=port)
        finally:
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)
