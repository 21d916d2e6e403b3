"""Files of others are read here: one at a time, in a child process that has 512 MB and ten seconds for each, and is kept for the next.

A parser that a file breaks, or a rule that never ends, takes the child with it and nothing else: the file is told to be at fault, and the
next one gets a new child. What comes back is msgpack that is decoded into the type that the function returns, never pickle: a child that a
file has got hold of could have a pickle run anything here. The other way goes msgpack too, so that both ends know what they may meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec

from jobyard.files.borders import EXPANDED, SECONDS
from jobyard.files.reading_child import HEADER, MEMORY, Reply, types_of
from jobyard.model.errors import InvalidFiles, Unavailable
from jobyard.model.finding import Finding, Position

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

LARGEST = 2 * EXPANDED
"""Bytes of an answer: what a file may expand to, and what goes with it."""
LATEST = 30.0
"""Seconds by the clock for one file: the ten are the processor's, and on a busy machine they take longer."""
START = 60.0
"""Seconds for a child to be there."""
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONHOME", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")
"""Of our environment: what a Python needs. The rest holds secrets."""


class NoChild(Unavailable):
    """The child process can't be started: no file's fault."""

    sentence = "files can't be read: their process {what}; {remedy}"
    server: str = ""


class ReadingRoom(Generic[Asked, Answer]):
    """Calls one function of one argument, which stands in a module and has its types written down, for a file at a time."""

    def __init__(self, read: Callable[[Asked], Answer]) -> None:
        self._name = f"{read.__module__}:{read.__qualname__}"
        self._decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(types_of(read)[1])
        self._turn = asyncio.Lock()
        self._kept: _Child | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.end()

    async def read(self, asked: Asked, file: str) -> Answer:
        """What the function returns. `file`: how a person knows it. Raises InvalidFiles: it could not be read; NoChild."""
        async with self._turn:
            try:
                if self._kept is not None and not self._kept.has_ended:
                    with contextlib.suppress(_Worn):
                        return await self._ask(self._kept, asked)
                return await self._ask(await _Child.start(self._name), asked)
            except _Broken as broken:
                finding = Finding(position=Position(file=file), what=broken.what, expected=broken.expected, remedy=broken.remedy)
                raise InvalidFiles([finding]) from None

    async def _ask(self, child: _Child, asked: Asked) -> Answer:
        """Keeps the child when all went well; whatever else happens, being cancelled included, ends it."""
        self._kept = None
        try:
            answer = self._decoder.decode(await child.call(msgspec.msgpack.encode(asked)))
        except msgspec.MsgspecError:
            await child.end()
            raise _Broken("the process that read it gave an answer that can't be understood") from None
        except BaseException:
            await child.end()
            raise
        self._kept = child
        return answer


class _Broken(Exception):
    """The child broke over a file."""

    def __init__(self, what: str, expected: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.expected, self.remedy = what, expected, remedy


class _Worn(_Broken):
    """That, in a way that may be the fault of what the child read before: a new one is to judge."""


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    @classmethod
    async def start(cls, name: str) -> Self:
        """A child that is ready. Raises NoChild."""
        env = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the folder that we are in may be a repository of others
                "-m",
                "jobyard.files.reading_child",
                name,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us to answer
                env={**env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                cwd="/",
            )
        except OSError as error:
            raise NoChild(what=f"does not start ({error.strerror})") from None
        child = cls(process)
        try:
            async with asyncio.timeout(START):
                await child._receive()
        except (TimeoutError, asyncio.IncompleteReadError, msgspec.MsgspecError):
            await child.end()
            raise NoChild(what="does not start") from None
        except BaseException:
            await child.end()
            raise
        return child

    async def call(self, frame: bytes) -> bytes:
        """The answer to a frame. Raises _Broken, MsgspecError."""
        try:
            async with asyncio.timeout(LATEST):
                if self._process.stdin is not None:
                    self._process.stdin.write(HEADER.pack(len(frame)) + frame)
                reply = msgspec.msgpack.decode(await self._receive(), type=Reply)
                if reply.no_memory:
                    raise _Worn("it takes too much memory to read", f"at most {MEMORY // 2**20} MB", "split it")
                if reply.broke:
                    raise _Broken(f"it can't be read ({reply.broke})", "", "this is a bug in Jobyard")
                return await self._receive()
        except TimeoutError:
            raise _Broken("it takes too long to read", f"at most {SECONDS} s", "split it") from None
        except asyncio.IncompleteReadError:
            raise _why_ended(await self._process.wait()) from None

    async def _receive(self) -> bytes:
        stdout = self._process.stdout
        if stdout is None:
            raise _Broken("the process that read it said nothing")
        (size,) = HEADER.unpack(await stdout.readexactly(HEADER.size))
        if size > LARGEST:
            raise _Broken("it has too much in it", f"at most {LARGEST:,} bytes", "split it")
        return await stdout.readexactly(size)

    async def end(self) -> None:
        """Ends the process, whatever it does."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()


def _why_ended(code: int) -> _Broken:
    if code == -signal.SIGXCPU:
        return _Broken("it takes too long to read", f"at most {SECONDS} s", "split it")
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return _Worn(f"the process that read it ended ({how})", "", "unless the file was made to do that, this is a bug in Jobyard")
