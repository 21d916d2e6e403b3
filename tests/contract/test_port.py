"""The port that forges knock at, and everybody else: what half, slow, long and wrong requests come to."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import ClassVar

import pytest

from tests import listener
from tests.listener import SECRET, Listener
from tests.waiting import BOUND

Start = Callable[..., Listener]
PUSH = json.dumps({"ref": "refs/heads/main", "before": "0", "after": "c" * 40}).encode()


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


@pytest.fixture
def start(tmp_path: Path, errors: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda **bounds: stack.enter_context(listener.started(tmp_path, errors, **bounds))
        while Caller.all:
            Caller.all.pop().socket.close()
    assert "Traceback" not in errors.read_text()


def head(length: int, path: str = "/webhooks/github", **headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "host: x",
        f"content-length: {length}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def signature(body: bytes) -> str:
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


class Caller:
    """A connection to a listener."""

    all: ClassVar[list[Caller]] = []

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=BOUND)
        self.all.append(self)

    def say(self, text: bytes) -> Caller:
        with suppress(OSError):  # it may be closed already, which `hear` tells
            self.socket.sendall(text)
        return self

    def await_answer(self) -> None:
        """Returns when an answer is whole; the other side may stay."""
        answer = b""
        while not answer.endswith(b"OK!"):
            piece = self.socket.recv(65536)
            assert piece, answer
            answer += piece

    def hear(self) -> bytes:
        """All that is answered until the other side ends."""
        answer = b""
        with suppress(OSError), self.socket:
            while piece := self.socket.recv(65536):
                answer += piece
        return answer


def test_what_is_whole_and_signed_is_a_look_however_long_it_is(start: Start) -> None:
    there = start()
    assert there.process.stdout is not None
    for body in (PUSH, json.dumps({"ref": "refs/heads/main", "before": "0", "after": "d" * 40, "commits": ["x" * 1000] * 500}).encode()):
        caller = Caller(there.port).say(head(len(body), connection="close", x_hub_signature_256=signature(body)) + body)
        assert caller.hear().startswith(b"HTTP/1.1 200 ")
        assert there.process.stdout.readline() == "look\n"
        wrong = Caller(there.port).say(head(len(body), connection="close", x_hub_signature_256=signature(body + b" ")) + body)
        assert wrong.hear().endswith(b"Invalid webhook signature")


def test_more_than_the_limit_is_refused_by_its_length_or_as_it_comes(start: Start) -> None:
    there = start()
    size = 1024 * 1024 + 1
    assert Caller(there.port).say(head(size, x_hub_signature_256="sha256=0")).socket.recv(100).startswith(b"HTTP/1.1 413 ")
    chunked = b"POST /webhooks/github HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: sha256=0\r\ntransfer-encoding: chunked\r\n\r\n"
    caller = Caller(there.port).say(chunked)
    for _ in range(17):
        caller.say(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert caller.socket.recv(100).startswith(b"HTTP/1.1 413 ")


def test_half_requests_end_and_leave_nothing_open(start: Start) -> None:
    there = start(header=0.5, body=1.0, silence=0.5, idle=1)
    before = there.sockets
    halves = {
        "nothing": b"",
        "half a line": b"POST /webh",
        "half a header": b"POST /webhooks/github HTTP/1.1\r\nhost: x\r\n",
        "half a body": head(1000, x_hub_signature_256="sha256=0") + b"half",
        "a chunk that never comes": b"POST /webhooks/github HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: sha256=0\r\ntransfer-encoding: chunked\r\n\r\nff\r\n",
        "a whole request, and then no other": b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
        "a body that nobody reads": head(1000, "/nowhere") + b"half",
        "line ends for ever": b"\r\n" * 100,
    }
    callers = {what: Caller(there.port).say(text) for what, text in halves.items() for _ in range(7)}
    for what, caller in callers.items():
        answer = caller.hear()
        assert answer == b"" or b"OK!" in answer or b"404" in answer, (what, answer)
    assert there.sockets == before
    assert b"OK!" in Caller(there.port).say(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").hear()


def test_who_drips_is_not_waited_for(start: Start) -> None:
    there = start(header=1.0, body=1.0, silence=0.5, idle=1)

    async def drip(text: bytes, drop: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        writer.write(text)
        with suppress(OSError):
            while not reader.at_eof():
                writer.write(drop)
                await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(100), 0.05)
        writer.close()

    async def all_() -> None:
        async with asyncio.timeout(BOUND):
            await asyncio.gather(
                drip(b"POST /webhooks/github HTTP/1.1\r\nx: ", b"y"),
                drip(head(100_000, x_hub_signature_256="sha256=0"), b"y"),
                drip(b"", b"\r\n"),
            )

    asyncio.run(all_())


def test_headers_trailers_and_pipelines_have_an_end(start: Start) -> None:
    there = start()
    long = Caller(there.port).say(b"GET /health HTTP/1.1\r\nx: " + b"y" * 100_000)
    assert long.hear()[:13] in (b"HTTP/1.1 431 ", b"")
    many = Caller(there.port).say(b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 20_000)
    assert many.hear()[:13] in (b"HTTP/1.1 431 ", b"")
    path = Caller(there.port).say(b"GET /" + b"y" * 100_000)
    assert path.hear()[:13] in (b"HTTP/1.1 431 ", b"")
    start_ = b"POST /webhooks/gitlab HTTP/1.1\r\nhost: x\r\nx-gitlab-token: " + SECRET.encode() + b"\r\ntransfer-encoding: chunked\r\n\r\n"
    assert Caller(there.port).say(start_ + b"0\r\n" + b"x: y\r\n" * 100_000).hear() == b""
    assert Caller(there.port).say(start_ + b"1;" + b"x" * 300_000).hear() == b""
    flood = Caller(there.port).say(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * 50_000)
    flood.hear()
    assert b"OK!" in Caller(there.port).say(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").hear()


def test_where_it_is_full_whoever_waited_longest_makes_way(start: Start) -> None:
    there = start(connections=10)
    half = [Caller(there.port).say(b"POST /") for _ in range(30)]
    assert b"OK!" in Caller(there.port).say(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").hear()
    assert half[0].hear() == b""
    assert there.sockets <= 10 + 10


POLITE = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def test_where_it_is_full_who_was_answered_and_stays_makes_way_first(start: Start) -> None:
    """A hundred and twenty-eight that ask for their health every four seconds were all that the port answered."""
    there = start(connections=10, idle=60)
    half = Caller(there.port).say(b"POST /")
    idle = [Caller(there.port).say(POLITE) for _ in range(9)]
    for caller in idle:
        caller.await_answer()
    idle[0].say(POLITE).await_answer()
    for number in range(3):
        assert b"OK!" in Caller(there.port).say(LAST).hear(), number
    assert idle[1].hear() == b"", "who was idle longest"
    assert b"OK!" in idle[0].say(LAST).hear()
    assert b"HTTP/1.1" in half.say(b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").hear(), "half a request waits on"


def test_a_connection_has_an_age(start: Start) -> None:
    there = start(age=0)
    assert b"OK!" in Caller(there.port).say(POLITE).hear(), "the answer is whole, and the last"


def test_a_hundred_open_uploads_take_little_memory(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """Unsigned, as anybody may send them, each a byte short of all that is allowed."""
    there = start()
    Caller(there.port).say(head(len(PUSH), connection="close", x_hub_signature_256=signature(PUSH)) + PUSH).hear()
    before = there.memory
    size = 1024 * 1024
    callers = [Caller(there.port).say(head(size, x_hub_signature_256="sha256=0")) for _ in range(100)]
    for _ in range(16):
        for caller in callers:
            caller.say(b"x" * 65535)
    for caller in callers:
        assert caller.say(b"x" * 16).socket.recv(100).startswith(b"HTTP/1.1 400 ")
    grown = (there.memory - before) / 1024
    with capsys.disabled():
        print(f"\n100 open uploads of {size:,} bytes: {before / 1024:.0f} MiB before, {grown:.1f} MiB more")
    assert grown < 24
