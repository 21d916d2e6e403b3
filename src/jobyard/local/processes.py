"""Processes that end when the cluster does, whatever ends it: our end of the warden."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from jobyard.local.logs import LogFile
from jobyard.local.runtime import StartError

_OVER = "the process that starts the containers has ended: stop the local cluster and start it again"


class Process:
    """A process that runs, or has ended. `exit` is its code; 128 plus the signal when one ended it."""

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

    def __init__(self, commands: socket.socket, umask: int = -1) -> None:
        self._commands = commands
        self.umask = umask
        """What its processes have; -1 means our own."""
        self._processes: dict[int, Process] = {}
        self._count = 0
        self._is_over = False

    async def start(self, argv: list[str], env: Mapping[str, str], cwd: str, log: LogFile) -> Process:
        """Starts a process whose output goes to `log`. Raises StartError."""
        if self._is_over:
            raise StartError(_OVER)
        self._count += 1
        process = self._processes[self._count] = Process(self, self._count)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        try:
            self.command({"start": self._count, "argv": argv, "env": dict(env), "cwd": cwd}, [out_write, err_write])
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

    def at_the_end(self, argv: list[str], env: Mapping[str, str]) -> None:
        """Has the warden run this program when the cluster has ended, even if by kill -9, and all processes with it."""
        self.command({"last": argv, "env": dict(env)})

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
        self._is_over = True
        for process in self._processes.values():
            if not process.started.done():
                process.started.set_exception(StartError(_OVER))
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


@asynccontextmanager
async def open_warden(umask: int | None = None) -> AsyncIterator[Warden]:
    """A warden for as long as the context lasts. All its processes end with it. `umask`: what they have, when not our own."""
    umask = -1 if umask is None else umask
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
        umask=umask,
    )
    its_commands.close()
    its_replies.close()
    reader, writer = await asyncio.open_connection(sock=ours_replies)
    warden = Warden(ours_commands, umask)
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
