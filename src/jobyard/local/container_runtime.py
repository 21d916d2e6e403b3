"""Containers by podman or docker: real images, by the commands of the same name, which the two have in common."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jobyard.local.logs import LogFile
from jobyard.local.pod_env import amount
from jobyard.local.private import write_private
from jobyard.local.processes import Process, Warden
from jobyard.local.runtime import CannotRun, ContainerSpec, Exit, Running, StartError, Tree
from jobyard.model.errors import JobyardError

Name = Literal["podman", "docker"]

LABEL = "dev.jobyard.local"
_REFERENCE = re.compile(
    r"(?P<path>(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_READ_BY_RUNTIME = ("LD_", "GO", "CONTAINER", "DOCKER", "PODMAN", "STORAGE", "REGISTRY", "XDG_", "DBUS_", "TMPDIR", "PATH", "HOME")
"""How variables begin that podman and docker, or what starts them, look at themselves: values of several lines pass through their own."""


class RuntimeMissing(JobyardError):
    """podman or docker is not there, or does not work."""

    sentence = (
        "the local cluster can't run containers by {name} ({why}): install it and see that `{name} info` works, or leave --runtime away"
    )
    exit_code = 3
    name: str
    why: str


def label_of(folder: Path) -> str:
    """What the containers of the cluster in a folder bear."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def full_reference(image: str) -> str:
    """An image's whole reference, as a node would pull it. Raises CannotRun (InvalidImageName)."""
    found = _REFERENCE.fullmatch(image)
    if not found:
        why = f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": invalid reference format'
        raise CannotRun("InvalidImageName", why)
    path = found["path"]
    host, _, rest = path.partition("/")
    if not rest:
        path = f"docker.io/library/{path}"
    elif not ("." in host or ":" in host or host == "localhost"):
        path = f"docker.io/{path}"
    tag = f":{found['tag']}" if found["tag"] else "" if found["digest"] else ":latest"
    return f"{path}{tag}" + (f"@{found['digest']}" if found["digest"] else "")


def create_arguments(spec: ContainerSpec, label: str, env_file: Path) -> list[str]:
    """What `podman create` or `docker create` is told. Values of variables stand in a file, or in our own environment: anybody may read a command line."""
    container = spec.container
    security = {**spec.pod_security, **(container.get("securityContext") or {})}
    limits = (container.get("resources") or {}).get("limits") or {}
    args = [
        "--name",
        spec.id,
        "--hostname",
        spec.hostname,
        "--label",
        f"{LABEL}={label}",
        "--network",
        "host",
        "--pull",
        "never",
        "--env-file",
        str(env_file),
    ]
    for name in (name for name, value in spec.env.items() if "\n" in value):
        if name in os.environ or name.startswith(_READ_BY_RUNTIME):  # the runtime would take it for itself
            raise CannotRun("CreateContainerConfigError", f"{name} may not have several lines: the local cluster's runtime reads it itself")
        args += ["--env", name]
    for source, target, read_only in [*spec.mounts, (spec.termination[1], spec.termination[0], False)]:
        if ":" in f"{source}{target}":
            raise CannotRun("CreateContainerError", f"a path with a colon can't be mounted: {source} at {target}")
        args += ["--volume", f"{source}:{target}{':ro' if read_only else ''}"]
    if container.get("workingDir"):
        args += ["--workdir", container["workingDir"]]
    if "runAsUser" in security:
        group = f":{security['runAsGroup']}" if "runAsGroup" in security else ""
        args += ["--user", f"{security['runAsUser']}{group}"]
    capabilities = security.get("capabilities") or {}
    for verb in ("drop", "add"):
        args += [part for each in capabilities.get(verb) or [] for part in (f"--cap-{verb}", each)]
    if security.get("allowPrivilegeEscalation") is False:
        args += ["--security-opt", "no-new-privileges"]
    if security.get("readOnlyRootFilesystem"):
        args += ["--read-only"]
    if security.get("privileged"):
        args += ["--privileged"]
    for group in security.get("supplementalGroups") or []:
        args += ["--group-add", str(group)]
    if "memory" in limits:
        args += ["--memory", str(int(amount(limits["memory"])))]
    if "cpu" in limits:
        args += ["--cpus", f"{float(amount(limits['cpu'])):.3f}"]
    # Kubernetes' `command` takes the place of the image's entry point and of its arguments; `args` of the arguments alone.
    first = spec.command[:1]
    args += ["--entrypoint", first[0]] if first else []
    return [*args, full_reference(container["image"]), *spec.command[1:], *spec.args]


class ContainerRuntime:
    """The Runtime whose containers are podman's or docker's. Made by `open_runtime`."""

    def __init__(self, name: Name, version: str, warden: Warden, folder: Path) -> None:
        self.name: Name = name
        self.version = version
        self._warden = warden
        self._label = label_of(folder)
        self._pulls: dict[str, asyncio.Lock] = {}
        self._env_files = folder / "env"

    def environment(self, container: Tree) -> Mapping[str, str]:
        return {}

    async def prepare(self, container: Tree) -> None:
        image, policy = str(container["image"]), container.get("imagePullPolicy", "IfNotPresent")
        reference = full_reference(image)
        async with self._pulls.setdefault(reference, asyncio.Lock()):
            if policy != "Always" and (await self.command("image", "inspect", "--format", "{{.Id}}", reference))[0] == 0:
                return
            if policy == "Never":
                why = f'Container image "{image}" is not present with pull policy of Never'
                raise CannotRun("ErrImageNeverPull", why)
            code, _, said = await self.command("pull", "--quiet", reference)
        if code:
            raise CannotRun("ErrImagePull", f'failed to pull and unpack image "{reference}": {_last_line(said)}')

    async def start(self, spec: ContainerSpec, log: LogFile) -> Running:
        self._env_files.mkdir(exist_ok=True, mode=0o700)
        env_file = self._env_files / spec.id
        plain = "".join(f"{name}={value}\n" for name, value in spec.env.items() if "\n" not in value)
        write_private(env_file, plain)
        spec.termination[1].chmod(0o666)  # whoever the container runs as may write it
        try:
            several = {name: value for name, value in spec.env.items() if "\n" in value}
            code, _, said = await self.command("create", *create_arguments(spec, self._label, env_file), env=several)
        finally:
            env_file.unlink()
        if code:
            raise CannotRun("CreateContainerError", _last_line(said))
        process = await self._warden.start([self.name, "start", "--attach", spec.id], os.environ, "/", log)
        running = _Running(self, spec.id, process, log)
        await running.until_started()
        return running

    async def sweep(self) -> None:
        """Removes what an earlier cluster of this folder left, and has the warden do so when this one has ended."""
        remove = f"{self.name} ps --all --quiet --filter label={LABEL}={self._label} | xargs -r {self.name} rm --force"
        self._warden.at_the_end(["sh", "-c", remove], os.environ)
        process = await asyncio.create_subprocess_exec("sh", "-c", remove, stdout=asyncio.subprocess.DEVNULL, umask=self._warden.umask)
        await process.wait()

    async def command(self, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Runs one command of the runtime's: its exit code, its output, what it said."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            self.name,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            env={**os.environ, **(env or {})},
            umask=self._warden.umask,
        )
        try:
            out, said = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return process.returncode or 0, out.decode(errors="replace"), said.decode(errors="replace")


class _Running:
    """A container, and the `start --attach` that carries its output to the log."""

    def __init__(self, runtime: ContainerRuntime, id: str, attached: Process, log: LogFile) -> None:
        self._runtime = runtime
        self._id = id
        self._attached = attached
        self._log = log

    async def until_started(self) -> None:
        """Returns when its first process runs or has run. Raises StartError."""
        while True:  # asking takes a few hundredths of a second: that is the pace
            state = await self._state()
            if state.get("Status") not in ("created", "configured", "initialized"):
                return
            if self._attached.exit.done():
                state = await self._state()
                if state.get("Status") != "created":
                    return
                await self._remove()
                raise StartError(_why_not_started(self._log.path.read_text(errors="replace")))

    async def signal(self, number: int) -> None:
        if not self._attached.exit.done():
            await self._runtime.command("kill", "--signal", signal.Signals(number).name, self._id)

    async def wait(self) -> Exit:
        code = await self._attached.exit
        state = await self._state()
        await self._remove()
        return Exit(code=int(state.get("ExitCode", code)), reason="OOMKilled" if state.get("OOMKilled") else "")

    async def _state(self) -> dict[str, Any]:
        code, said, _ = await self._runtime.command("inspect", "--format", "{{json .State}}", self._id)
        return dict(json.loads(said)) if code == 0 else {}

    async def _remove(self) -> None:
        await self._runtime.command("rm", "--force", self._id)


def _why_not_started(log: str) -> str:
    """What the runtime said instead of the container, in runc's own words where they are there."""
    found = re.search(r"unable to start container process: (.*?)(?:: OCI runtime attempted.*)?$", log, re.MULTILINE)
    return found[1] if found else _last_line(re.sub(r"^\S+ (?:stdout|stderr) ", "", log, flags=re.MULTILINE))


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else "it did not say why"


async def open_runtime(name: Name, warden: Warden, folder: Path) -> ContainerRuntime:
    """podman or docker, when it is installed and works here. Raises RuntimeMissing."""
    if shutil.which(name) is None:
        raise RuntimeMissing(name=name, why="there is no such command")
    runtime = ContainerRuntime(name, "", warden, folder)
    template = "{{.Version.Version}}" if name == "podman" else "{{.ServerVersion}}"
    code, version, said = await runtime.command("info", "--format", template)
    if code:
        raise RuntimeMissing(name=name, why=_last_line(said))
    runtime.version = version.strip()
    await runtime.sweep()
    return runtime
