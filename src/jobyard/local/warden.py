"""The warden: a small process that starts the containers' processes, reaps them, and outlives nobody.

It is the parent of every container, and a subreaper, so what a container leaves behind becomes its child too. When the pipe from the
cluster closes, even because the cluster was killed with -9, it kills them all and ends. It runs by itself (`python -I -S warden.py
COMMANDS REPLIES`) and imports nothing of Jobyard, so that it is small and up at once.

Commands come as a 4-byte length (with the container's output descriptors) and JSON: {"start": id, argv, env, cwd} or
{"signal": id, number}; {"last": argv, env} names a program to run when all have ended. Replies are lines of JSON: {"id", "pid"}, {"id", "error"} or {"id", "exit"}; the code of a process that a signal
ended is 128 plus the signal, as in Kubernetes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
ERROR_LIMIT = 2000
"""Characters of a reply's error: a path in it may be endless, and who reads replies reads lines of bounded length."""


def main(commands: socket.socket, replies: socket.socket) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ours, lambda *_: None)  # the cluster decides when we end; and no SIG_IGN, which the containers would inherit
    warden = Warden(replies)
    try:
        while True:
            ready, _, _ = select.select([commands.fileno(), wake_read], [], [])
            if wake_read in ready:
                os.read(wake_read, 4096)
                warden.reap()
            if commands.fileno() in ready and not warden.obey(commands):
                return
    except BrokenPipeError:
        return
    finally:
        warden.kill_all()
        warden.say_last()


class Warden:
    def __init__(self, replies: socket.socket) -> None:
        self._replies = replies
        self._ids: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._last: dict[str, Any] = {}

    def obey(self, commands: socket.socket) -> bool:
        """Does one command; False when there will be no more."""
        header, descriptors, _, _ = socket.recv_fds(commands, 4, 2)
        if not header:
            return False
        header += _receive(commands, 4 - len(header))
        command = json.loads(_receive(commands, int.from_bytes(header)))
        if "start" in command:
            self._start(command, descriptors)
        elif "last" in command:
            self._last = command
        elif command["signal"] in self._pids:
            self._signal(self._pids[command["signal"]], command["number"])
        return True

    def _start(self, command: dict[str, Any], descriptors: list[int]) -> None:
        try:
            out, err = descriptors  # fewer, when there are no more to be had
            process = subprocess.Popen(
                command["argv"],
                env=command["env"],
                cwd=command["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            process.returncode = 0  # we reap it ourselves
            self._ids[process.pid] = command["start"]
            self._pids[command["start"]] = process.pid
            self._reply(id=command["start"], pid=process.pid)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._reply(id=command["start"], error=str(error)[:ERROR_LIMIT])
        finally:
            for each in descriptors:
                os.close(each)

    def _signal(self, pid: int, number: int) -> None:
        """The container's main process gets the signal, as in Kubernetes; SIGKILL goes to all of its group. bwrap stands before it: pass it by."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it may have made itself another user's
            if number == signal.SIGKILL:
                os.killpg(pid, number)
                return
            wrapped = _name(pid) == "bwrap"
            children = [child for child, parent in _parents().items() if parent == pid] if wrapped else []
            for target in children or [pid]:
                os.kill(target, number)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            container = self._ids.pop(pid, None)
            if container is None:
                continue  # something a container left behind
            del self._pids[container]
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # when its first process ends, a container ends
            code = os.waitstatus_to_exitcode(status)
            self._reply(id=container, exit=code if code >= 0 else 128 - code)

    def _reply(self, **reply: object) -> None:
        self._replies.sendall(json.dumps(reply).encode() + b"\n")

    def say_last(self) -> None:
        """Runs the program that was asked for, for a minute at most: containers of a daemon are no descendants of ours."""
        if self._last:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                quiet = subprocess.DEVNULL
                subprocess.run(self._last["last"], env=self._last["env"], stdin=quiet, stdout=quiet, stderr=quiet, timeout=60, check=False)

    def kill_all(self) -> None:
        """Kills every descendant, again until twice there is none: one may be just making another, or just have left one to us."""
        quiet = 0
        for _ in range(200):
            parents = _parents()
            doomed = _descendants(os.getpid(), parents)
            for pid in doomed:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            quiet = 0 if doomed else quiet + 1
            if quiet == 2:
                return
            select.select([], [], [], 0.01)


def _parents() -> dict[int, int]:
    """From process to its parent, for all there are."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{entry}/stat", "rb") as stat:
                state, parent = stat.read().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    found[int(entry)] = int(parent)
    return found


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as comm:
            return comm.read().strip()
    except OSError:
        return ""


def _descendants(root: int, parents: dict[int, int]) -> list[int]:
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def _receive(stream: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = stream.recv(min(size, 65536))
        if not part:
            raise BrokenPipeError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), socket.socket(fileno=int(sys.argv[2])))
