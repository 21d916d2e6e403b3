"""One pod's life: its volumes, its init containers one after the other, its containers side by side, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from jobyard.local import pod_env, pod_status, times, volumes
from jobyard.local.logs import LogFile
from jobyard.local.objects import Objects
from jobyard.local.process_runtime import Process, ProcessSpec, StartError, Warden
from jobyard.local.resources import BY_KIND, PODS

Tree = dict[str, Any]

MESSAGE_LIMIT = 4096
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 10.0, 300.0
_NO_COMMAND = "(no command: the local cluster's processes have no image, so the container must name one)"
_ENTRY_POINTS = {"pause": ["sh", "-c", 'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'], "busybox": ["sh"]}
"""The images whose entry points everybody knows: `pause` waits until it is told to end, `busybox` is a shell."""
_NEEDS_BUBBLEWRAP = "volumeMounts need bubblewrap on the local cluster, and there is none that works here: apt-get install bubblewrap"


class _Container:
    """A container's state, and its process while it runs."""

    def __init__(self, spec: Tree) -> None:
        self.spec = spec
        self.state: Tree = pod_status.waiting("ContainerCreating")
        self.last: Tree = {}
        self.restarts = 0
        self.process: Process | None = None
        self.id = ""

    @property
    def exit_code(self) -> int | None:
        ended = self.state.get("terminated")
        return ended["exitCode"] if ended else None

    def status(self) -> Tree:
        return pod_status.container_status(self.spec, self.state, self.last, self.restarts, self.id)


class PodWorker:
    """Runs one pod to its end, and writes its status after each step."""

    def __init__(self, objects: Objects, warden: Warden, pod: Tree, folder: Path, starting: asyncio.Semaphore) -> None:
        self._objects = objects
        self._warden = warden
        self._pod = pod
        self._folder = folder
        self._starting = starting
        self._init = [_Container(each) for each in pod["spec"].get("initContainers") or []]
        self._main = [_Container(each) for each in pod["spec"]["containers"]]
        if self._init:
            for container in self._main:
                container.state = pod_status.waiting("PodInitializing")
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._grace = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        self._reason: tuple[str, str] | None = None
        self._gone = False
        self._volumes: dict[str, Path] = {}
        self.config_changed = asyncio.Event()
        self.logs: dict[str, LogFile] = {}
        namespace = pod["metadata"]["namespace"]
        self._lookup = lambda kind, name: objects.find(BY_KIND["v1", kind], namespace, name)

    # --- what the node tells us ---

    def see(self, pod: Tree) -> None:
        """The pod has changed: it may have to end."""
        self._pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            self._hurry.set()
            self._stop.set()

    def gone(self) -> None:
        """The pod is no longer there: end at once, tell nobody."""
        self._gone = True
        self._grace = 0.0
        self._hurry.set()
        self._stop.set()

    # --- its life ---

    async def run(self) -> None:
        if self._was_running():
            self._lost()
        else:
            async with asyncio.TaskGroup() as group:
                deadline = group.create_task(self._deadline())
                life = group.create_task(self._live())
                killer = group.create_task(self._kill_when_stopped())
                await life
                deadline.cancel()
                killer.cancel()
        self._finish()

    def _was_running(self) -> bool:
        status = self._pod["status"]
        known = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
        return any("running" in each["state"] or each["restartCount"] for each in known)

    def _lost(self) -> None:
        """The cluster was killed while the pod ran, and its processes with it."""
        stamp = times.stamp()
        for container in (*self._init, *self._main):
            ended = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": "The local cluster was stopped while it ran."}
            container.state = {"terminated": {**ended, "startedAt": stamp, "finishedAt": stamp}}
        self._stop.set()

    async def _live(self) -> None:
        self._write()
        if not await self._mount():
            return
        for container in self._init:
            if not await self._to_success(container):
                return
        async with asyncio.TaskGroup() as group:
            for container in self._main:
                group.create_task(self._to_the_end(container))

    async def _deadline(self) -> None:
        seconds = self._pod["spec"].get("activeDeadlineSeconds")
        if seconds is not None:
            await asyncio.sleep(seconds)
            self._reason = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
            self._stop.set()

    async def _kill_when_stopped(self) -> None:
        await self._stop.wait()
        for container in (*self._init, *self._main):
            if container.process:
                container.process.signal(signal.SIGTERM)
        begun = asyncio.get_running_loop().time()
        try:
            while True:  # the grace period may be shortened meanwhile
                async with asyncio.timeout_at(begun + self._grace):
                    await self._hurry.wait()
                self._hurry.clear()
        except TimeoutError:
            pass
        for container in (*self._init, *self._main):
            if container.process:
                container.process.signal(signal.SIGKILL)

    async def _mount(self) -> bool:
        """Sets up the volumes; waits while what they name does not exist. False when the pod is to end first."""
        while not self._stop.is_set():
            self.config_changed.clear()
            try:
                self._volumes = volumes.prepare(self._pod, self._folder, self._lookup)
            except (volumes.MountError, OSError) as error:
                self._objects.event(self._pod, "Warning", "FailedMount", str(error), "kubelet")
                await self._either(self.config_changed)
            else:
                return True
        return False

    async def _to_success(self, container: _Container) -> bool:
        """Runs an init container until it succeeds. False when it never will."""
        while await self._once(container):
            if container.exit_code == 0:
                return True
            if self._pod["spec"].get("restartPolicy") == "Never" or not await self._back_off(container):
                return False
        return False

    async def _to_the_end(self, container: _Container) -> None:
        policy = self._pod["spec"].get("restartPolicy", "Always")
        while await self._once(container):
            if policy == "Never" or (policy == "OnFailure" and container.exit_code == 0):
                return
            if not await self._back_off(container):
                return

    async def _back_off(self, container: _Container) -> bool:
        """Waits until the container may start again; False when the pod is to end first."""
        if self._stop.is_set():
            return False
        wait = 0.0 if container.restarts == 0 else min(_FIRST_BACK_OFF * 2 ** (container.restarts - 1), _LONGEST_BACK_OFF)
        if wait:
            container.last = container.state
            name, pod = container.spec["name"], self._pod["metadata"]["name"]
            message = f"back-off {wait:.0f}s restarting failed container={name} pod={pod}_{self._pod['metadata']['namespace']}({self._pod['metadata']['uid']})"
            container.state = pod_status.waiting("CrashLoopBackOff", message)
            self._write()
            self._objects.event(self._pod, "Warning", "BackOff", f"Back-off restarting failed container {name} in pod {pod}", "kubelet")
            try:
                async with asyncio.timeout(wait):
                    await self._stop.wait()
            except TimeoutError:
                pass
            else:
                container.state = container.last
                return False
        else:
            container.last = container.state
        container.restarts += 1
        return True

    async def _either(self, event: asyncio.Event) -> None:
        """Waits for `event`, or for the pod's end."""
        tasks = [asyncio.create_task(event.wait()), asyncio.create_task(self._stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    # --- one run of one container ---

    async def _once(self, container: _Container) -> bool:
        """Runs a container once. False when it did not come to that because the pod is to end."""
        spec = await self._configure(container)
        if spec is None:
            return False
        log = self.logs[container.spec["name"]] = LogFile(self._folder / "logs" / f"{container.spec['name']}-{container.restarts}.log")
        container.id = f"process://{self._pod['metadata']['uid']}/{container.spec['name']}/{container.restarts}"
        started = times.stamp()
        try:
            async with self._starting:
                container.process = await self._warden.start(spec, log)
        except StartError as error:
            log.close()
            message = f"failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: {error}"
            self._objects.event(self._pod, "Warning", "Failed", f"Error: {message}", "kubelet")
            container.state = self._terminated(128, "StartError", message, "1970-01-01T00:00:00Z")
            self._write()
            return True
        container.state = {"running": {"startedAt": started}}
        self._write()
        if self._stop.is_set():
            container.process.signal(signal.SIGTERM)
        code = await container.process.exit
        container.process = None
        try:
            async with asyncio.timeout(1):
                await log.ended.wait()
        except TimeoutError:
            pass  # something it left behind holds its output
        log.close()
        reason = "Completed" if code == 0 else "Error"
        container.state = self._terminated(code, reason, self._message(container, spec, log, code), started)
        container.state["terminated"]["containerID"] = container.id
        self._write()
        return True

    def _terminated(self, code: int, reason: str, message: str, started: str) -> Tree:
        ended: Tree = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": times.stamp()}
        return {"terminated": {**ended, **({"message": message} if message else {})}}

    async def _configure(self, container: _Container) -> ProcessSpec | None:
        """What to start; waits while what the container refers to does not exist. None when the pod is to end first."""
        while not self._stop.is_set():
            self.config_changed.clear()
            try:
                return self._spec(container)
            except pod_env.ConfigError as error:
                reason = "CreateContainerError" if str(error) == _NEEDS_BUBBLEWRAP else "CreateContainerConfigError"
                container.state = pod_status.waiting(reason, str(error))
                self._write()
                self._objects.event(self._pod, "Warning", "Failed", f"Error: {error}", "kubelet")
                await self._either(self.config_changed)
        return None

    def _spec(self, container: _Container) -> ProcessSpec:
        spec, name = container.spec, container.spec["name"]
        env = {**_base_environment(), **pod_env.environment(self._pod, spec, self._lookup)}
        if spec.get("volumeMounts") and self._warden.bwrap is None:
            raise pod_env.ConfigError(_NEEDS_BUBBLEWRAP)
        argv = pod_env.command(spec, env)
        if not spec.get("command"):
            known = _ENTRY_POINTS.get(str(spec["image"]).rpartition("/")[2].split(":")[0])
            argv = (argv or known) if known else [_NO_COMMAND]
        work = self._folder / "work" / name
        work.mkdir(parents=True, exist_ok=True)
        messages = self._folder / "messages"
        messages.mkdir(exist_ok=True)
        message = messages / f"{name}-{container.restarts}"
        message.write_bytes(b"")
        return ProcessSpec(
            argv=argv,
            env=env,
            work=work,
            chdir=spec.get("workingDir") or str(work),
            termination=(spec.get("terminationMessagePath") or "/dev/termination-log", message),
            mounts=self._mounts(spec, env),
        )

    def _mounts(self, spec: Tree, env: dict[str, str]) -> list[tuple[Path, str, bool]]:
        mounts = []
        for mount in spec.get("volumeMounts") or []:
            source = self._volumes[mount["name"]]
            inside = mount.get("subPath") or pod_env.expand(mount.get("subPathExpr") or "", env)
            if inside:
                part = source / inside
                if not part.resolve().is_relative_to(source.resolve()):
                    raise pod_env.ConfigError(f"subPath {inside} leads outside of its volume")
                if not part.exists():
                    part.mkdir(parents=True)
                source = part
            volume = next(each for each in self._pod["spec"]["volumes"] if each["name"] == mount["name"])
            read_only = bool(mount.get("readOnly")) or any(kind in volume for kind in ("secret", "configMap", "downwardAPI", "projected"))
            mounts.append((source, mount["mountPath"], read_only))
        return sorted(mounts, key=lambda each: each[1])

    def _message(self, container: _Container, spec: ProcessSpec, log: LogFile, code: int) -> str:
        try:
            text = spec.termination[1].read_bytes()[:MESSAGE_LIMIT]
        except OSError:
            text = b""
        if not text and code and container.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            lines = log.path.read_bytes().splitlines(keepends=True)[-80:]
            text = b"".join(line.split(b" ", 2)[-1] for line in lines)[-2048:]
        return text.decode(errors="replace")

    # --- its status ---

    def _write(self) -> None:
        if self._gone:
            return
        current = self._objects.find(PODS, self._pod["metadata"]["namespace"], self._pod["metadata"]["name"])
        if current is None or current["metadata"]["uid"] != self._pod["metadata"]["uid"]:
            return
        init = [each.status() for each in self._init]
        main = [each.status() for each in self._main]
        old = current["status"]
        phase = pod_status.phase(current, init, main, stopping=self._stop.is_set())
        stamp = times.stamp()
        status = {
            **old,
            "phase": phase,
            "observedGeneration": current["metadata"].get("generation", 1),
            "conditions": pod_status.conditions(old.get("conditions") or [], phase, init, main, stamp),
            "containerStatuses": main,
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "startTime": old.get("startTime") or stamp,
        }
        if init:
            status["initContainerStatuses"] = init
        if self._reason and phase == "Failed":
            status["reason"], status["message"] = self._reason
        self._pod = self._objects.set_status(PODS, current, status)

    def _finish(self) -> None:
        """The last status; and a pod that is being deleted goes, since nothing of it runs."""
        for container in (*self._init, *self._main):
            if "terminated" not in container.state and self._stop.is_set():
                self._never_ran(container)
        self._write()
        current = self._objects.find(PODS, self._pod["metadata"]["namespace"], self._pod["metadata"]["name"])
        if (
            current is not None
            and current["metadata"]["uid"] == self._pod["metadata"]["uid"]
            and current["metadata"].get("deletionTimestamp")
        ):
            self._objects.delete(PODS, current, grace=0)
        if self._gone:
            volumes.remove(self._folder)

    def _never_ran(self, container: _Container) -> None:
        message = "The container could not be located when the pod was terminated"
        container.state = self._terminated(137, "ContainerStatusUnknown", message, times.stamp())


def _base_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
