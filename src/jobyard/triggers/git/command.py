"""The `git` command: never asks a person, never waits for ever, never tells a password."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobyard import external
from jobyard.model.errors import GitFailed, NoRepository

TIMEOUT = 300.0
"""Seconds that one git command may take; a first clone may be long."""
REMOTE = frozenset(["fetch", "push", "clone", "ls-remote"])
_NOISE = ("hint:", "Please make sure you have the correct access", "and the repository exists")
_ASKPASS = """#!/bin/sh
case "$1" in
  *sername*) printf '%s\\n' "$GIT_USERNAME" ;;
  *assword*) printf '%s\\n' "$GIT_PASSWORD" ;;
  *) exit 1 ;;
esac
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a command ended."""

    code: int
    out: bytes
    err: bytes


class Git:
    """Runs git in one folder, with the user's own configuration, keys and helpers."""

    def __init__(self, folder: Path, identity: tuple[str, str] | None = None) -> None:
        self.folder = folder
        self._env = environment(os.environ, identity)

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
        """How `git WORDS` ended. Raises GitFailed for exit codes that are not accepted."""
        with external.call(f"git: {words[0]}"):
            async with self._start(words, env, keep, stdin is not None) as process:
                try:
                    async with asyncio.timeout(TIMEOUT):
                        out, err = await process.communicate(stdin)
                except TimeoutError:
                    raise GitFailed(action=words[0], message=f"no answer in {TIMEOUT:.0f} s", remedy="") from None
        done = Result(code=process.returncode or 0, out=out, err=err)
        if done.code not in accept:
            raise self.failed(words[0], done)
        return done

    @contextlib.asynccontextmanager
    async def lines(self, *words: str, separator: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of what `git WORDS` prints, as they come; leaving ends the command."""
        with external.call(f"git: {words[0]}"):
            async with self._start(words, None, None, False) as process:
                yield _split(process.stdout, separator) if process.stdout else _nothing()

    @contextlib.asynccontextmanager
    async def _start(
        self, words: Sequence[str], env: Mapping[str, str] | None, keep: int | None, feeds: bool
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *words,
                cwd=self.folder,
                env={**self._env, **(env or {})},
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
        try:
            yield process
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            _close(process)

    def failed(self, action: str, result: Result) -> GitFailed:
        """The error that a command's end means, in git's own words."""
        said = result.err.decode(errors="replace") or result.out.decode(errors="replace")
        lines = [line.strip() for line in self.hide(said).splitlines() if line.strip() and not line.strip().startswith(_NOISE)]
        text = "; ".join(line.removeprefix("fatal: ").removeprefix("error: ").rstrip(".") for line in lines[-4:])
        return GitFailed(action=action, message=text or "it did not say why", remedy=_remedy(action))

    def hide(self, text: str) -> str:
        """What git says, without passwords."""
        text = re.sub(r"(://)[^/@\s]+@", r"\1", text)
        secret = self._env.get("GIT_PASSWORD")
        return text.replace(secret, "***") if secret else text


def _remedy(action: str) -> str:
    if action not in REMOTE:
        return ""
    return ". Check the address, and who you are to it: an ssh key or agent, GIT_USERNAME and GIT_PASSWORD, GIT_ASKPASS, or a credential helper"


def _close(process: asyncio.subprocess.Process) -> None:
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _split(stream: asyncio.StreamReader, separator: bytes) -> AsyncIterator[bytes]:
    rest = b""
    while chunk := await stream.read(65536):
        *whole, rest = (rest + chunk).split(separator)
        for each in whole:
            yield each
    if rest.strip():
        yield rest


def environment(outer: Mapping[str, str], identity: tuple[str, str] | None = None) -> dict[str, str]:
    """The environment for git: the user's, made unable to ask."""
    env = {**outer, "GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"}
    if env.get("GIT_ASKPASS") and not os.access(env["GIT_ASKPASS"], os.X_OK):
        del env["GIT_ASKPASS"]  # goji's image had a program there
    if env.get("GIT_PASSWORD") and "GIT_ASKPASS" not in env:
        env["GIT_ASKPASS"] = str(_askpass())
    if identity is not None:
        name, email = identity
        for who in ("AUTHOR", "COMMITTER"):
            env.setdefault(f"GIT_{who}_NAME", name)
            env.setdefault(f"GIT_{who}_EMAIL", email)
    return env


def _askpass() -> Path:
    """A program that answers git with GIT_USERNAME and GIT_PASSWORD. It holds no secret itself."""
    path = Path(tempfile.gettempdir()) / f"jobyard-askpass-{os.getuid()}" / "askpass"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise GitFailed(
            action="sign-in", message=f"{path.parent} belongs to somebody else", remedy=": set GIT_ASKPASS to a program of your own"
        )
    new = path.with_name(f"askpass-{os.getpid()}")
    new.write_text(_ASKPASS)
    new.chmod(0o700)
    new.replace(path)
    return path
