"""The way to a Postgres: TLS, a pooler, a standby, and a line that is cut, slow or silent."""

from __future__ import annotations

import asyncio
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from jobyard.triggers.postgres.trouble import PostgresTrouble
from tests.certificates import certificate
from tests.postgres import prepare
from tests.postgres.between import open_line, open_pooler
from tests.postgres.looking import address, count, make_job_table, opened, reading
from tests.postgres.server import Database, Server, as_nobody_special, open_server

SHORT = timedelta(seconds=0.3)


@pytest.fixture
async def database(postgres_server: Server) -> Database:
    """With three items in a queue."""
    made = await postgres_server.create_database()
    await make_job_table(made)
    await made.execute("INSERT INTO pgboss.job (name) SELECT 'work' FROM generate_series(1, 3)")
    return made


async def test_a_line_that_is_cut_slow_or_silent_is_told_in_bounded_time_and_served_again(database: Database) -> None:
    async with open_line(database) as (line, by_way):
        heard: list[str | None] = []
        async with opened(reading(by_way, timeout=SHORT), heard.append) as meter:
            line.delay = 0.02
            assert (await meter.look(["work"], 500))["work"].waiting == 3
            line.delay, line.is_silent = 0.0, True
            with pytest.raises(PostgresTrouble, match="no answer in time"):
                await meter.look(["work"], 500)
            with pytest.raises(PostgresTrouble, match="connection was closed"):
                await meter.look(["work"], 500)
        line.is_silent = False
        async with opened(reading(by_way, timeout=SHORT)) as meter:
            await meter.look(["work"], 500)
            line.cut()
            with pytest.raises(PostgresTrouble, match=r"was closed|was cut|can't be reached"):
                await meter.look(["work"], 500)
        assert await count(by_way, "work") == {"work": 3}


async def test_a_server_that_takes_connections_and_says_nothing_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobyard.triggers.postgres.meter.CONNECT_WITHIN", 0.5)
    async with open_line(database) as (line, by_way):
        line.is_silent = True
        with pytest.raises(PostgresTrouble, match="no answer in time"):
            await count(by_way, "work")


@pytest.mark.pooler
async def test_a_pooler_that_shares_connections_is_fine_and_nothing_is_listened_to(database: Database) -> None:
    async with open_pooler(database) as by_way, opened(reading(by_way)) as one, opened(reading(by_way)) as two:
        assert "pooler" in one.deaf
        for _ in range(5):
            looks = await asyncio.gather(*(each.look(["work", "none"], 500) for each in (one, two)))
            assert [look["work"].waiting for look in looks] == [3, 3]
        assert await count(by_way, "work", query="SELECT count(*) FROM pgboss.job") == {"work": 3}
        async with by_way.connect() as other:  # what we said for our transactions is nobody else's
            assert await other.fetchval("SHOW statement_timeout") == "0"


async def test_tls_is_spoken_as_libpq_does_and_a_certificate_is_looked_at(postgres_server: Server, tmp_path: Path) -> None:
    certificate(tmp_path, "ca")
    certificate(tmp_path, "other")
    certificate(tmp_path, "server", "ca")
    certificate(tmp_path, "client", "ca")
    with open_server() as server:
        database = await server.create_database()
        await make_job_table(database)
        give(server, tmp_path, "server.crt", "server.key", "ca.crt")
        server.stop()
        server.start(ssl="on", ssl_ca_file="ca.crt")
        ca, other = str(tmp_path / "ca.crt"), str(tmp_path / "other.crt")
        mine = {"certificate": str(tmp_path / "client.crt"), "key": str(tmp_path / "client.key")}
        for more in ({"tls": "require"}, {"tls": "prefer"}, {"tls": "verify-full", "ca": ca}, {"tls": "verify-full", "ca": ca, **mine}):
            assert await count(database, "work", address=address(database, **more)) == {"work": 0}
        with pytest.raises(PostgresTrouble, match=r"certificate is not accepted \(.*(self-signed|unable to get)"):
            await count(database, "work", address=address(database, tls="verify-full", ca=other))
        with pytest.raises(PostgresTrouble, match=r"certificate is not accepted \(.*[Hh]ostname|IP address"):
            await count(database, "work", address=address(database, host="localhost", tls="verify-full", ca=ca))

        expire(tmp_path, "server", "ca")
        give(server, tmp_path, "server.crt", "server.key")
        server.stop()
        server.start(ssl="on")
        with pytest.raises(
            PostgresTrouble, match=r"certificate is not accepted \(certificate has expired\). Renew the server's certificate"
        ):
            await count(database, "work", address=address(database, tls="verify-ca", ca=ca))


def expire(folder: Path, name: str, ca: str) -> None:
    """The certificate of a name, as it would be two days later."""
    request = ["openssl", "req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr"]
    sign = [
        "openssl",
        "x509",
        "-req",
        "-in",
        f"{name}.csr",
        "-CA",
        f"{ca}.crt",
        "-CAkey",
        f"{ca}.key",
        "-days",
        "-1",
        "-out",
        f"{name}.crt",
    ]
    for words in (request, sign):
        subprocess.run(words, cwd=folder, check=True, capture_output=True)


def give(server: Server, folder: Path, *names: str) -> None:
    """Puts files into a server's data folder, as its own."""
    for name in names:
        target = server.folder / "data" / name
        target.write_bytes((folder / name).read_bytes())
        os.chmod(target, 0o600)
        if user := as_nobody_special():
            os.chown(target, user["user"], user["group"])


async def test_a_standby_is_read_and_not_listened_to(postgres_server: Server, tmp_path: Path) -> None:
    with open_server() as server:
        database = await server.create_database()
        await make_job_table(database)
        await database.execute("INSERT INTO pgboss.job (name) VALUES ('work')", "CHECKPOINT")
        server.stop()
        (tmp_path / "standby.signal").touch()
        give(server, tmp_path, "standby.signal")
        server.start(hot_standby="on")
        async with opened(reading(database)) as meter:
            assert "standby" in meter.deaf
            assert (await meter.look(["work"], 500))["work"].waiting == 1


def test_the_programs_are_where_they_are_looked_for() -> None:
    found = prepare.programs()
    assert found is not None
    assert subprocess.run([found / "postgres", "--version"], capture_output=True, check=True).stdout.startswith(b"postgres")
