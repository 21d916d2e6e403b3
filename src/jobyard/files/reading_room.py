"""Files of others are read here: one at a time, in a child process that has 512 MB and ten seconds for each, and is kept for the next.

A parser that a file breaks, or a rule that never ends, takes the child with it and nothing else: the file is told to be at fault, and the
next one gets a new child. What comes back is msgpack that is decoded into the type that the function returns, never pickle: a child that a
file has got hold of could have a pickle run anything here. The other way goes msgpack too, so that both ends know what they may meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from jobyard.files.borders import EXPANDED, SECONDS
from jobyard.files.reading_child import HEADER, MEMORY, Call, Reply, types_of
from jobyard.model.errors import InvalidFiles, Unavailable
from jobyard.model.finding import Finding, Position

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

LARGEST = 2 * EXPANDED
"""Bytes of an answer: what a file may expand to, and what goes with it."""
BUSY = 3
"""How many times as long as it may work a child may take by the clock: others may work, too."""
_SENT = 256 * 1024
START = 60.0
"""Seconds for a child to be there."""
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONHOME", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")


class NoChild(Unavailable):
    """The child process can't be started: no file's fault."""

    sentence = "no file can be read: the process that reads them {what}; {remedy}"
    server: str = ""


class ReadingRoom:
    """Calls functions of one argument, which stand in a module and have their types written down, for a file at a time."""

    def __init__(self, seconds: int = SECONDS) -> None:
        """`seconds`: of processor time, for a file."""
        self._seconds = seconds
        self._turn = asyncio.Lock()
        self._kept: _Child | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.end()

    def allowance(self) -> Allowance:
        """What one file may take, in however many calls it is read."""
        return Allowance(seconds=self._seconds, left=float(self._seconds))

    async def read(self, function: Callable[[Asked], Answer], asked: Asked, file: str, allowance: Allowance | None = None) -> Answer:
        """What the function returns. `file`: how a person knows it. `allowance`: of it is taken what this takes. Raises InvalidFiles: it could
        not be read; NoChild."""
        allowance = allowance or self.allowance()
        async with self._turn:
            try:
                if allowance.left <= 0:
                    raise allowance.exceeded()
                argument = msgspec.msgpack.encode(asked)  # not before its turn: it may be large, and many may wait
                if self._kept is not None:
                    with contextlib.suppress(_Worn):
                        return await self._ask(self._kept, function, argument, allowance)
                return await self._ask(await _Child.start(), function, argument, allowance)
            except _Broken as broken:
                finding = Finding(position=Position(file=file), what=broken.what, expected=broken.expected, remedy=broken.remedy)
                raise InvalidFiles([finding]) from None

    async def _ask(self, child: _Child, function: Callable[[Asked], Answer], argument: bytes, allowance: Allowance) -> Answer:
        """Keeps the child when all went well; whatever else happens, being cancelled included, ends it."""
        self._kept = None
        call = Call(function=f"{function.__module__}:{function.__qualname__}", seconds=allowance.left)
        try:
            answer: Answer = _decoder(function).decode(await child.call(call, argument, allowance))
        except msgspec.MsgspecError:
            await child.end()
            raise _Broken("the process that read it gave an answer that can't be understood") from None
        except BaseException:
            await child.end()
            raise
        self._kept = child
        return answer


@dataclass(kw_only=True)
class Allowance:
    """Seconds of processor time that one file may take, and those that are left of them."""

    seconds: int
    left: float

    def exceeded(self) -> _Broken:
        return _Broken("it takes too long to read", f"at most {self.seconds} s", "split it")


@functools.cache
def _decoder(function: Callable[..., Answer]) -> msgspec.msgpack.Decoder[Answer]:
    return msgspec.msgpack.Decoder(types_of(function)[1])


class _Broken(Exception):
    """The child broke over a file."""

    def __init__(self, what: str, expected: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.expected, self.remedy = what, expected, remedy


class _Worn(_Broken):
    """That, in a way that may be the fault of what the child read before: a new one is to judge."""


class _Child:
    """A process that we talk with over a socket. No process of asyncio's own: one whose answer nobody reads to its end is awaited for ever there."""

    def __init__(self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process, self._reader, self._writer = process, reader, writer

    @classmethod
    async def start(cls) -> Self:
        """A child that is ready. Raises NoChild."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                reader, writer = await asyncio.open_connection(sock=ours)
            except BaseException:
                ours.close()
                raise
            try:
                process = subprocess.Popen(  # noqa: ASYNC220 - a fork and exec, done at once
                    # -P: the folder that we are in may be a repository of others
                    [sys.executable, "-P", "-m", "jobyard.files.reading_child"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for us to answer
                    env=_environment(),
                    cwd="/",
                )
            except OSError as error:
                writer.close()
                raise NoChild(what=f"does not start ({error.strerror})") from None
        child = cls(process, reader, writer)
        try:
            async with asyncio.timeout(START):
                await child._receive()
        except (TimeoutError, EOFError, OSError):
            await child.end()
            raise NoChild(what="does not start") from None
        except BaseException:
            await child.end()
            raise
        return child

    async def call(self, call: Call, argument: bytes, allowance: Allowance) -> bytes:
        """What a call returns. Raises _Broken, MsgspecError."""
        try:
            async with asyncio.timeout(max(call.seconds, 1.0) * BUSY):
                await self._send(msgspec.msgpack.encode(call))
                await self._send(argument)
                reply = msgspec.msgpack.decode(await self._receive(), type=Reply)
                allowance.left -= reply.took
                if reply.no_memory:
                    raise _Worn("it takes too much memory to read", f"at most {MEMORY // 2**20} MB", "split it")
                if reply.broke:
                    raise _Broken(f"it can't be read ({reply.broke})", "", "this is a bug in Jobyard")
                return await self._receive()
        except TimeoutError:
            raise allowance.exceeded() from None
        except (EOFError, OSError):
            code = await asyncio.to_thread(self._process.wait)
            if code == -signal.SIGXCPU:
                raise allowance.exceeded() from None
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            remedy = "unless the file was made to do that, this is a bug in Jobyard"
            raise _Worn(f"the process that read it ended ({how})", "", remedy) from None

    async def _send(self, frame: bytes) -> None:
        """Sends a frame, of which never much lies here a second time."""
        self._writer.write(HEADER.pack(len(frame)))
        with memoryview(frame) as whole:
            for start in range(0, len(frame), _SENT):
                self._writer.write(whole[start : start + _SENT])
                await self._writer.drain()

    async def _receive(self) -> bytes:
        (size,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
        if size > LARGEST:
            raise _Broken("it has too much in it", f"at most {LARGEST:,} bytes", "split it")
        return await self._reader.readexactly(size)

    async def end(self) -> None:
        """Ends the process, whatever it does."""
        self._writer.close()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _environment() -> dict[str, str]:
    """What a Python needs of our environment; the rest holds secrets."""
    return {key: os.environ[key] for key in _PASSED_ON if key in os.environ} | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
