"""The `git` command: never asks a person, never waits for ever, never says more than there is room for, never tells a password."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobyard import external
from jobyard.model.errors import GitFailed, NoRepository
from jobyard.triggers.git import credentials
from jobyard.triggers.git.credentials import NOBODY, Login

log = logging.getLogger("jobyard.git.command")

TIMEOUT = 300.0
"""Seconds that one git command may take; a first clone may be long."""
ANSWER = 128 * 1024 * 1024
"""Bytes that an answer may have which is read as a whole; what may be more is asked for its size first, or read piece by piece."""
PIECE = 2 * 1024 * 1024
"""Bytes of the longest piece of an answer that is read piece by piece. Longer ones are cut."""
_SAID = 64 * 1024
"""Bytes of what is said on stderr that are kept, the last ones."""
_LINGERS = 1.0
"""Seconds for which the end of stderr is awaited once the process itself has ended."""
REMOTE = frozenset(["fetch", "push", "clone", "ls-remote"])
_NOISE = ("hint:", "Please make sure you have the correct access", "and the repository exists")


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a command ended."""

    code: int
    out: bytes
    err: bytes


class Git:
    """Runs git in one folder, with the user's own configuration, keys and helpers."""

    def __init__(self, folder: Path, identity: tuple[str, str] | None = None, login: Login = NOBODY, *, is_partial: bool = False) -> None:
        """`is_partial`: the clone lacks objects, which any command may fetch from the remote."""
        self.folder = folder
        self._env = credentials.plain(os.environ, identity, login.withheld)
        self._login = login
        self._is_partial = is_partial

    async def __call__(
        self,
        *words: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        accept: Sequence[int] = (0,),
        keep: int | None = None,
    ) -> bytes:
        """What `git WORDS` prints. `keep`: a file descriptor that the child keeps open. Raises GitFailed."""
        return (await self.run(*words, stdin=stdin, env=env, accept=accept, keep=keep)).out

    async def run(
        self,
        *words: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        accept: Sequence[int] = (0,),
        keep: int | None = None,
    ) -> Result:
        """How `git WORDS` ended. Raises GitFailed for exit codes that are not accepted, and for an answer that is too long."""
        out = bytearray()
        with external.call(f"git: {words[0]}"):
            async with self._start(words, env, keep, stdin is not None) as (process, said):
                feeding = asyncio.create_task(_feed(process, stdin))
                try:
                    async for chunk in _chunks(process.stdout):
                        out += chunk
                        if len(out) > ANSWER:
                            _kill(process)
                    code = await process.wait()
                    err = await said.end()
                finally:
                    feeding.cancel()
        if len(out) > ANSWER:
            raise GitFailed(action=words[0], message=f"the answer has more than {ANSWER:,} bytes", remedy="")
        done = Result(code=code, out=bytes(out), err=err)
        if done.code not in accept:
            raise self.failed(words[0], done)
        return done

    @contextlib.asynccontextmanager
    async def lines(self, *words: str, separator: bytes, stdin: bytes | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of what `git WORDS` prints, as they come, of each no more than PIECE; leaving ends the command. Raises GitFailed where it
        ends by itself before it has said all."""
        with external.call(f"git: {words[0]}"):
            async with self._start(words, None, None, stdin is not None) as (process, said):
                feeding = asyncio.create_task(_feed(process, stdin))
                try:
                    yield self._pieces(words[0], process, said, separator)
                finally:
                    feeding.cancel()

    async def _pieces(self, action: str, process: asyncio.subprocess.Process, said: _Said, separator: bytes) -> AsyncIterator[bytes]:
        async for piece in split(_chunks(process.stdout), separator):
            yield piece
        if code := await process.wait():
            raise self.failed(action, Result(code=code, out=b"", err=await said.end()))

    @contextlib.asynccontextmanager
    async def _start(
        self, words: Sequence[str], env: Mapping[str, str] | None, keep: int | None, feeds: bool
    ) -> AsyncIterator[tuple[asyncio.subprocess.Process, _Said]]:
        own = self._env
        if words[0] in REMOTE or self._is_partial:
            own = credentials.signed_in(own, os.environ, self._login, words[0])
        begun = time.monotonic()
        log.debug("git %s", self.hide(" ".join(words)))
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *words,
                cwd=self.folder,
                env={**own, **(env or {})},
                stdin=asyncio.subprocess.PIPE if feeds else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # no terminal to ask at, and one group to end
                pass_fds=() if keep is None else (keep,),
            )
        except FileNotFoundError:
            if not self.folder.is_dir():
                raise NoRepository(path=self.folder, why="there is no such folder") from None
            raise GitFailed(action=words[0], message="there is no git command", remedy=": install git") from None
        said = _Said(process)
        try:
            async with asyncio.timeout(TIMEOUT) as bound:
                yield process, said
        except TimeoutError:
            if not bound.expired():
                raise
            raise GitFailed(action=words[0], message=f"no answer within {TIMEOUT:.0f} s", remedy="") from None
        finally:
            if process.returncode is None:
                _kill(process)
                await process.wait()
            said.close()
            _close(process)
            log.info("git %s: exit code %s in %.0f ms", words[0], process.returncode, (time.monotonic() - begun) * 1000)

    def failed(self, action: str, result: Result) -> GitFailed:
        """The error that a command's end means, in git's own words."""
        said = result.err.decode(errors="replace") or result.out.decode(errors="replace")
        lines = [line.strip() for line in self.hide(said).splitlines() if line.strip() and not line.strip().startswith(_NOISE)]
        text = "; ".join(line.removeprefix("fatal: ").removeprefix("error: ").rstrip(".") for line in lines[-4:])
        return GitFailed(action=action, message=text or "it did not say why", remedy=_remedy(action, text))

    def hide(self, text: str) -> str:
        """What git says, without passwords."""
        ours = os.environ.get("GIT_PASSWORD", "")
        text = credentials.hide(text, (*self._login.secrets, *((ours,) if ours else ())))
        return "".join(each if each.isprintable() or each == "\n" else " " for each in text)


def _remedy(action: str, text: str) -> str:
    if action not in REMOTE:
        return ""
    if "couldn't find remote ref" in text:  # git speaks English to us
        return ". Name a branch that exists with --branch; `jobyard git init` makes the first commit of an empty repository"
    return (
        ". Check the address and your credentials: an ssh key or agent, GIT_USERNAME and GIT_PASSWORD, GIT_ASKPASS, or a credential helper"
    )


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _close(process: asyncio.subprocess.Process) -> None:
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


async def _feed(process: asyncio.subprocess.Process, text: bytes | None) -> None:
    if process.stdin is not None and text is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end tells why
            process.stdin.write(text)
            await process.stdin.drain()
        process.stdin.close()


async def _chunks(stream: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    while stream is not None and (chunk := await stream.read(65536)):
        yield chunk


class _Said:
    """What a process says on stderr: read all the time, or it would wait for us; the end of it is kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._text = bytearray()
        self._reading = asyncio.create_task(self._read(process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        async for chunk in _chunks(process.stderr):
            self._text += chunk
            del self._text[:-_SAID]

    async def end(self) -> bytes:
        """What it said, once it has ended. One that it left behind (an ssh that is shared) may keep the stream open."""
        await asyncio.wait([self._reading], timeout=_LINGERS)
        return bytes(self._text)

    def close(self) -> None:
        self._reading.cancel()


async def split(chunks: AsyncIterator[bytes], separator: bytes, longest: int = PIECE) -> AsyncIterator[bytes]:
    """What stands between separators: what is too long is cut, never left out, or what comes after it would be taken for it."""
    rest, cut = bytearray(), b""
    async for chunk in chunks:
        rest += chunk
        start = 0
        while (end := rest.find(separator, start)) >= 0:
            yield cut or bytes(rest[start : min(end, start + longest)])
            start, cut = end + len(separator), b""
        del rest[:start]
        if len(rest) > longest + len(separator):
            cut = cut or bytes(rest[:longest])
            del rest[: -len(separator)]
    if cut or rest.strip():
        yield cut or bytes(rest[:longest])
