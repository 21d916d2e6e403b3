"""What becomes of a call when the server is not what it should be. The server is a socket in this process."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jobyard.cluster import transport
from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import Connection
from jobyard.model.errors import Rejected, Unavailable
from jobyard.model.objects import JOBS
from tests.certificates import certificate, server_context

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Its URL. Each connection is talked with by `talk`, and then closed."""
    ended: set[asyncio.Future[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended.add(done)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            done.set_result(None)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    if ended:
        await asyncio.wait(ended, timeout=5)


def says(text: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return talk


async def lines_of_a_log(cluster: HttpCluster) -> list[str]:
    return [line async for line in cluster.logs("n", "p")]


CALLS: list[Callable[[HttpCluster], Awaitable[object]]] = [
    lambda c: c.create(JOBS, "n", {"metadata": {"name": "a"}}),
    lambda c: c.get(JOBS, "n", "a"),
    lines_of_a_log,
]

GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain"


@pytest.mark.parametrize("call", CALLS, ids=["create", "get", "stream"])
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (GZIP, "sent an answer that can't be decompressed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", "closed the connection"),
        (b"", "closed the connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "sent an answer that is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", "sent an answer that is not HTTP"),
    ],
    ids=["not packed", "half a body", "half a chunk", "nothing", "another protocol", "a long header"],
)
async def test_an_answer_that_is_none_is_told_in_words(call: Callable[[HttpCluster], Awaitable[object]], said: bytes, words: str) -> None:
    async with server(says(said)) as url, open_cluster(Connection(server=url)) as cluster:
        with pytest.raises(Unavailable, match=f"the cluster at {url} {words}|{url} {words}"):
            await call(cluster)


async def test_nobody_listens() -> None:
    async with server(says(b"")) as url:
        pass
    async with open_cluster(Connection(server=url)) as cluster:
        with pytest.raises(Unavailable, match=rf"{url} can't be reached \(.*refused"):
            await cluster.get(JOBS, "n", "a")


async def test_a_redirect_is_not_followed() -> None:
    """A token would go along."""
    asked = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with server(talk) as url, open_cluster(Connection(server=url)) as cluster:
        with pytest.raises((Rejected, Unavailable)):
            await cluster.create(JOBS, "n", {"metadata": {"name": "a"}})
    assert asked == 1


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    context = server_context(tmp_path)
    certificate(tmp_path, "other")
    ca = (tmp_path / "other.crt").read_text()
    async with server(says(b""), context) as url, open_cluster(Connection(server=url, ca=ca)) as cluster:
        with pytest.raises(Unavailable, match="shows a certificate that is not trusted"):
            await cluster.get(JOBS, "n", "a")


@pytest.mark.parametrize("call", CALLS, ids=["create", "get", "stream"])
async def test_an_error_that_has_no_end_is_told_all_the_same(call: Callable[[HttpCluster], Awaitable[object]]) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536

    async with server(endless) as url, asyncio.timeout(10), open_cluster(Connection(server=url)) as cluster:
        with pytest.raises(Unavailable, match="503"):
            await call(cluster)
    assert sent < 50_000_000


@pytest.mark.parametrize("call", CALLS, ids=["create", "get", "stream"])
async def test_an_error_that_nobody_ends_is_told_after_a_while(
    call: Callable[[HttpCluster], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "REFUSAL_TIMEOUT", 0.1)

    async def stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 422 x\r\nContent-Length: 1000\r\n\r\n{"reason": "Invalid", "message"')
        await reader.read()

    async with server(stops) as url, asyncio.timeout(10), open_cluster(Connection(server=url)) as cluster:
        with pytest.raises(Rejected, match=r'"reason": "Invalid"'):
            await call(cluster)


@pytest.mark.parametrize("call", CALLS, ids=["create", "get", "stream"])
async def test_a_proxy_that_accepts_and_is_silent_is_given_up(
    call: Callable[[HttpCluster], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "CALL_TIMEOUT", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(silent) as proxy, asyncio.timeout(10), open_cluster(Connection(server="https://api.example", proxy=proxy)) as cluster:
        with pytest.raises(Unavailable, match=r"https://api.example (can't be reached|did not answer)"):
            await call(cluster)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_call_that_is_cancelled_ends_at_once_and_its_connection_with_it(tls: bool, tmp_path: Path) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()  # until the client leaves
        closed.set()

    context = server_context(tmp_path) if tls else None
    ca = (tmp_path / "ca.crt").read_text() if tls else None
    async with server(talk, context) as url, open_cluster(Connection(server=url, ca=ca)) as cluster, asyncio.timeout(10):
        calling = asyncio.create_task(cluster.get(JOBS, "n", "a"))
        await asked.wait()
        calling.cancel()
        await asyncio.wait([calling])
        assert calling.cancelled()
        await closed.wait()


async def test_a_proxy_of_the_environment_is_used_but_never_on_the_way_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    through: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        through.append("proxy")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{"metadata":{"name":"a"}}')
        await writer.drain()

    async with server(talk) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        async with open_cluster(Connection(server="http://api.example")) as cluster:
            assert (await cluster.get(JOBS, "n", "a")).metadata.name == "a"
        async with server(says(b"")) as direct, open_cluster(Connection(server=direct)) as cluster:
            with pytest.raises(Unavailable):
                await cluster.get(JOBS, "n", "a")
        monkeypatch.setenv("no_proxy", "example")
        async with open_cluster(Connection(server="http://api.example")) as cluster:
            with pytest.raises(Unavailable, match="can't be reached"):
                await cluster.get(JOBS, "n", "a")
    assert through == ["proxy"]


async def in_chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for each in chunks:
        yield each


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb", b"c\n", b"\n", b"d"], ["a", "bc", "", "d"]),
        ([b"\r\n\x0b\x1c\xe2\x80\xa8"], ["\r", "\x0b\x1c\u2028"]),
        ([b"12345678", b"\n"], ["12345678"]),
        ([b"123456789\nab"], ["12345678", "9", "ab"]),
        ([b"1234", b"5678", b"12345678" * 2, b"x\ny"], ["12345678", "12345678", "12345678", "x", "y"]),
        (["1234567\u00e4x\n".encode()], ["1234567", "\u00e4x"]),
        ([b"\x80" * 10], ["\ufffd" * 8, "\ufffd" * 2]),
        ([], []),
    ],
    ids=[
        "over chunks",
        "no other character",
        "as long as may be",
        "in pieces",
        "in pieces over chunks",
        "in no character",
        "no UTF-8",
        "nothing",
    ],
)
async def test_lines_come_whole_or_in_pieces(chunks: list[bytes], expected: list[str]) -> None:
    assert [line async for line in transport.lines(in_chunks(*chunks), 8)] == expected


async def test_a_log_without_lines_takes_time_that_grows_with_its_size_alone() -> None:
    """A progress bar ends its lines with \\r."""
    begun = time.process_time()
    chunks = [b"x\r" * (32 * 1024)] * (64 * 16)
    sizes = [len(line) async for line in transport.lines(in_chunks(*chunks), transport.LINE_LIMIT)]
    assert sizes == [transport.LINE_LIMIT] * 64
    assert time.process_time() - begun < 5
