"""Containers as processes of this machine, without images; bubblewrap gives them their volumes where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from jobyard.local.logs import LogFile
from jobyard.local.processes import Process, Warden
from jobyard.local.runtime import CannotRun, ContainerSpec, Exit, Running, StartError
from jobyard.local.volumes import bubblewrap

_NO_COMMAND = "no command specified: the local cluster's processes have no image, so the container must name one"
_ENTRY_POINTS = {"pause": ["sh", "-c", 'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'], "busybox": ["sh"]}
"""The images whose entry points everybody knows: `pause` waits until it is told to end, `busybox` is a shell."""
_SET_UP_TRIES = 20
_NEEDS_BUBBLEWRAP = "volumeMounts need bubblewrap on the local cluster, and there is none that works here: apt-get install bubblewrap"


class ProcessRuntime:
    """The Runtime whose containers are plain processes: no image, no isolation, started in milliseconds."""

    name: Literal["process"] = "process"
    version = "1"

    def __init__(self, warden: Warden, folder: Path) -> None:
        self._warden = warden
        self._bwrap = find_bubblewrap()
        self._busybox = folder / "busybox"

    def environment(self, container: Mapping[str, Any]) -> Mapping[str, str]:
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        if _image_name(container) == "busybox" and (programs := self._busybox_programs()):
            env["PATH"] = f"{programs}:{env.get('PATH', os.defpath)}"
        return env

    def _busybox_programs(self) -> Path | None:
        """A folder with busybox' programs, where it is installed: its shell and this machine's are not the same."""
        busybox = shutil.which("busybox")
        if busybox is not None and not self._busybox.exists():
            self._busybox.mkdir(parents=True)
            subprocess.run([busybox, "--install", "-s", str(self._busybox)], check=False, capture_output=True)
        return self._busybox if busybox is not None else None

    async def prepare(self, container: Mapping[str, Any]) -> None:
        if container.get("volumeMounts") and self._bwrap is None:
            raise CannotRun("CreateContainerError", _NEEDS_BUBBLEWRAP)

    async def start(self, spec: ContainerSpec, log: LogFile) -> Running:
        argv = [*spec.command, *spec.args]
        if not spec.command:
            known = _ENTRY_POINTS.get(_image_name(spec.container))
            if not known:
                raise StartError(_NO_COMMAND)
            argv = argv or known
        if argv and _image_name(spec.container) == "busybox" and (programs := self._busybox_programs()):
            folder, _, program = argv[0].rpartition("/")
            if folder in ("/bin", "/usr/bin") and (programs / program).exists():
                argv[0] = str(programs / program)
        chdir = spec.container.get("workingDir") or str(spec.work)
        _check(argv, spec.env, chdir)
        if self._bwrap is None:
            path, file = spec.termination
            return _Running(await self._warden.start([part.replace(path, str(file)) for part in argv], spec.env, chdir, log))
        wrapped = bubblewrap(work=spec.work, termination=spec.termination, mounts=spec.mounts, chdir=chdir)
        # The last thing that bubblewrap does before the program runs: without it, nothing of the container has run.
        ready = spec.work / ".jobyard-ready"  # bound by itself, so it is this folder whatever else is shadowed
        words = [self._bwrap, *wrapped, "--dir", str(ready), "--", *argv]

        async def launch() -> Process:
            with contextlib.suppress(FileNotFoundError):
                ready.rmdir()
            return await self._warden.start(words, spec.env, str(spec.work), log)

        return _Bubble(launch, await launch(), ready, log)


class _Bubble:
    """A process in bubblewrap, which sees every mount of this machine and fails where one vanishes while it looks: then it is started again."""

    def __init__(self, launch: Callable[[], Awaitable[Process]], process: Process, ready: Path, log: LogFile) -> None:
        self._launch = launch
        self._process = process
        self._ready = ready
        self._log = log
        self._signalled = False

    async def signal(self, number: int) -> None:
        self._signalled = True
        self._process.signal(number)

    async def wait(self) -> Exit:
        for _ in range(_SET_UP_TRIES):
            code = await self._process.exit
            if code == 0 or self._signalled or self._ready.exists():
                break
            await self._log.again()
            try:
                self._process = await self._launch()
            except (StartError, OSError):
                return Exit(code=128, reason="StartError")
        return Exit(code=await self._process.exit)


class _Running:
    def __init__(self, process: Process) -> None:
        self._process = process

    async def signal(self, number: int) -> None:
        self._process.signal(number)

    async def wait(self) -> Exit:
        return Exit(code=await self._process.exit)


def _image_name(container: Mapping[str, Any]) -> str:
    """The last part of the image's name: `busybox` of `docker.io/library/busybox:1.36`."""
    return str(container["image"]).rpartition("/")[2].partition("@")[0].partition(":")[0]


def _check(argv: list[str], env: Mapping[str, str], chdir: str) -> None:
    """Raises StartError for what bubblewrap would only say by its own exit code."""
    program = argv[0]
    found = shutil.which(program, path=env.get("PATH")) if os.sep not in program else os.path.join(chdir, program)
    if not found or not os.path.exists(found):
        why = "no such file or directory" if os.sep in program else "executable file not found in $PATH"
        raise StartError(f'exec: "{program}": {why}: unknown')
    if not os.access(found, os.X_OK) or os.path.isdir(found):
        raise StartError(f'exec: "{program}": permission denied: unknown')
    if not os.path.isdir(chdir):
        raise StartError(f'chdir to cwd ("{chdir}") set in config.json failed: no such file or directory: unknown')


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
