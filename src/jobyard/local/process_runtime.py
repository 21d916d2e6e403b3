"""Containers as processes of this machine: the warden starts them, bubblewrap gives them their volumes where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from jobyard.local.logs import LogFile


class StartError(Exception):
    """A process that could not be started, in the container runtime's words."""


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """What to start. `mounts`: source, target, read-only."""

    argv: list[str]
    env: Mapping[str, str]
    work: Path
    chdir: str
    termination: tuple[str, Path]
    mounts: list[tuple[Path, str, bool]]


class Process:
    """A process that runs, or has ended."""

    def __init__(self, warden: Warden, number: int) -> None:
        self._warden = warden
        self._number = number
        self.pid = 0
        self.started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def signal(self, number: int) -> None:
        if not self.exit.done():
            self._warden.command({"signal": self._number, "number": number})


class Warden:
    """Our end of the warden: commands out, replies in. Made by `open_warden`."""

    def __init__(self, commands: socket.socket, bwrap: str | None) -> None:
        self._commands = commands
        self._processes: dict[int, Process] = {}
        self._count = 0
        self.bwrap = bwrap

    async def start(self, spec: ProcessSpec, log: LogFile) -> Process:
        """Starts a process whose output goes to `log`. Raises StartError."""
        argv = self._argv(spec)
        self._count += 1
        process = self._processes[self._count] = Process(self, self._count)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        try:
            command = {"start": self._count, "argv": argv, "env": dict(spec.env), "cwd": str(spec.work) if self.bwrap else spec.chdir}
            self.command(command, [out_write, err_write])
        finally:
            os.close(out_write)
            os.close(err_write)
        readers = [await _read(out_read, log, "stdout"), await _read(err_read, log, "stderr")]
        try:
            process.pid = await process.started
        except StartError:
            for reader in readers:
                reader.close()
            raise
        return process

    def _argv(self, spec: ProcessSpec) -> list[str]:
        program = spec.argv[0] if spec.argv else ""
        found = shutil.which(program, path=spec.env.get("PATH")) if os.sep not in program else os.path.join(spec.chdir, program)
        if not found or not os.path.exists(found):
            why = "no such file or directory" if os.sep in program else "executable file not found in $PATH"
            raise StartError(f'exec: "{program}": {why}: unknown')
        if not os.access(found, os.X_OK) or os.path.isdir(found):
            raise StartError(f'exec: "{program}": permission denied: unknown')
        if not os.path.isdir(spec.chdir):
            raise StartError(f'chdir to cwd ("{spec.chdir}") set in config.json failed: no such file or directory: unknown')
        if self.bwrap is None:
            return [str(part).replace(spec.termination[0], str(spec.termination[1])) for part in spec.argv]
        # Imported here: only a cluster with bubblewrap has use for it.
        from jobyard.local.volumes import bubblewrap

        return [
            self.bwrap,
            *bubblewrap(work=spec.work, termination=spec.termination, mounts=spec.mounts, chdir=spec.chdir),
            "--",
            *spec.argv,
        ]

    def command(self, command: Mapping[str, object], descriptors: list[int] | None = None) -> None:
        body = json.dumps(command).encode()
        header = len(body).to_bytes(4, "big")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._commands, [header], descriptors or [])
            self._commands.sendall(body)

    async def listen(self, replies: asyncio.StreamReader) -> None:
        """Takes the warden's replies until it ends."""
        while line := await replies.readline():
            reply = json.loads(line)
            process = self._processes.get(reply["id"])
            if process is None:
                continue
            if "pid" in reply:
                process.started.set_result(reply["pid"])
            elif "error" in reply:
                del self._processes[reply["id"]]
                process.started.set_exception(StartError(f"{reply['error']}: unknown"))
            else:
                del self._processes[reply["id"]]
                process.exit.set_result(reply["exit"])
        for process in self._processes.values():
            if not process.exit.done():
                process.exit.set_result(137)


class _PipeReader(asyncio.Protocol):
    def __init__(self, log: LogFile, stream: str) -> None:
        self._log, self._stream = log, stream

    def data_received(self, data: bytes) -> None:
        self._log.write(data, self._stream)

    def connection_lost(self, exc: Exception | None) -> None:
        self._log.end_of(self._stream)


async def _read(descriptor: int, log: LogFile, stream: str) -> asyncio.ReadTransport:
    pipe = os.fdopen(descriptor, "rb", 0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: _PipeReader(log, stream), pipe)
    return transport


def find_bubblewrap() -> str | None:
    """bwrap, if it is installed and may be used here: a container without the rights for it can't."""
    path = shutil.which("bwrap")
    if path is None:
        return None
    probe = [path, "--bind", "/", "/", "--dev", "/dev", "true"]
    try:
        return path if subprocess.run(probe, capture_output=True, timeout=5, check=False).returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired):
        return None


@asynccontextmanager
async def open_warden() -> AsyncIterator[Warden]:
    """A warden for as long as the context lasts. All its processes end with it."""
    ours_commands, its_commands = socket.socketpair()
    ours_replies, its_replies = socket.socketpair()
    script = str(Path(__file__).with_name("warden.py"))
    descriptors = (its_commands.fileno(), its_replies.fileno())
    process = subprocess.Popen(  # noqa: ASYNC220 - a fork and exec, done at once
        [sys.executable, "-I", "-S", script, *map(str, descriptors)],
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    its_commands.close()
    its_replies.close()
    reader, writer = await asyncio.open_connection(sock=ours_replies)
    warden = Warden(ours_commands, find_bubblewrap())
    listener = asyncio.create_task(warden.listen(reader))
    try:
        yield warden
    finally:
        ours_commands.close()  # the warden sees the end of its commands, kills what runs, and ends
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await listener
        listener.cancel()
        writer.close()
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, 5)
