"""One pod's life: its volumes, its init containers one after the other, its containers side by side, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from jobyard.local import pod_status, times, volumes
from jobyard.local.container_spec import container_spec, last_words
from jobyard.local.logs import LogFile
from jobyard.local.objects import Objects
from jobyard.local.resources import BY_KIND, PODS
from jobyard.local.runtime import CannotRun, ContainerSpec, Running, Runtime, StartError, Tree
from jobyard.local.volumes import remove_folder

_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 10.0, 300.0


def _wait(failures: int) -> float:
    """Seconds until a container is tried again that failed so often: not at all, 10, 20, and five minutes at most."""
    return min(_FIRST_BACK_OFF * 2 ** min(failures - 1, 10), _LONGEST_BACK_OFF) if failures else 0.0


class _Container:
    """A container's state, and what runs of it while it does."""

    def __init__(self, spec: Tree) -> None:
        self.spec = spec
        self.state: Tree = pod_status.waiting("ContainerCreating")
        self.last: Tree = {}
        self.restarts = 0
        self.running: Running | None = None
        self.id = ""

    @property
    def exit_code(self) -> int | None:
        ended = self.state.get("terminated")
        return ended["exitCode"] if ended else None

    def status(self, *, is_init: bool = False) -> Tree:
        return pod_status.container_status(self.spec, self.state, self.last, self.restarts, self.id, is_init=is_init)


class PodWorker:
    """Runs one pod to its end, and writes its status after each step."""

    def __init__(self, objects: Objects, runtime: Runtime, pod: Tree, folder: Path, starting: asyncio.Semaphore) -> None:
        self._objects = objects
        self._runtime = runtime
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
        self._asked_for: set[tuple[str, str, str]] = set()
        """The kind, namespace and name of what the pod refers to."""

    def _lookup(self, kind: str, name: str) -> Tree | None:
        namespace = self._pod["metadata"]["namespace"]
        self._asked_for.add((kind, namespace, name))
        return self._objects.find(BY_KIND["v1", kind], namespace, name)

    @property
    def pod(self) -> Tree:
        return self._pod

    # --- what the node tells us ---

    def hear(self, changed: Tree) -> None:
        """A Secret or ConfigMap has changed: the pod may have waited for it."""
        metadata = changed["metadata"]
        if (changed["kind"], metadata["namespace"], metadata["name"]) in self._asked_for:
            self.config_changed.set()

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
        """The pod's life, to its end. Whatever it raises, nothing of the pod runs on."""
        try:
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
        except Exception:
            await self._signal(signal.SIGKILL)
            raise

    async def until_stopped(self, seconds: float) -> None:
        """Waits until the pod is to end, so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    def _was_running(self) -> bool:
        status = self._pod["status"]
        known = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
        return any((each.get("state") or {}).get("running") is not None or each["restartCount"] for each in known)

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
        await self._signal(signal.SIGTERM)
        begun = asyncio.get_running_loop().time()
        try:
            while True:  # the grace period may be shortened meanwhile
                async with asyncio.timeout_at(begun + self._grace):
                    await self._hurry.wait()
                self._hurry.clear()
        except TimeoutError:
            pass
        await self._signal(signal.SIGKILL)

    async def _signal(self, number: int) -> None:
        for container in (*self._init, *self._main):
            if container.running:
                await container.running.signal(number)

    async def _mount(self) -> bool:
        """Sets up the volumes; waits while what they name does not exist. False when the pod is to end first."""
        failures = 0
        while not self._stop.is_set():
            self.config_changed.clear()
            try:
                self._volumes = volumes.prepare(self._pod, self._folder, self._lookup)
            except (volumes.MountError, OSError, ValueError) as error:
                self._objects.event(self._pod, "Warning", "FailedMount", str(error), "kubelet")
                failures += 1
                await self._either(self.config_changed, _wait(failures))
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
        wait = _wait(container.restarts)
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

    async def _either(self, event: asyncio.Event, seconds: float | None = None) -> None:
        """Waits for `event`, or for the pod's end, or until `seconds` have passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._unless_stopped(event.wait())

    async def _unless_stopped(self, work: Coroutine[Any, Any, Any]) -> None:
        """Does `work`, unless the pod is to end first."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    # --- one run of one container ---

    async def _once(self, container: _Container) -> bool:
        """Runs a container once. False when it did not come to that because the pod is to end."""
        container.id = f"{self._runtime.name}://{self._pod['metadata']['uid']}/{container.spec['name']}/{container.restarts}"
        started = times.stamp()
        path = self._folder / "logs" / f"{container.spec['name']}-{container.restarts}.log"
        try:
            begun = await self._start(container, path)
        except StartError as error:
            message = f"failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: {error}"
            self._objects.event(self._pod, "Warning", "Failed", f"Error: {message}", "kubelet")
            container.state = self._terminated(128, "StartError", message, "1970-01-01T00:00:00Z")
            self._write()
            return True
        if begun is None:
            return False
        spec, container.running, log = begun
        container.state = {"running": {"startedAt": started}}
        self._write()
        if self._stop.is_set():
            await container.running.signal(signal.SIGTERM)
        end = await container.running.wait()
        container.running = None
        with contextlib.suppress(TimeoutError):  # something it left behind may hold its output
            async with asyncio.timeout(1):
                await log.ended.wait()
        log.close()
        reason = end.reason or ("Completed" if end.code == 0 else "Error")
        container.state = self._terminated(end.code, reason, last_words(spec, log.path, end.code), started)
        container.state["terminated"]["containerID"] = container.id
        self._write()
        return True

    async def _start(self, container: _Container, path: Path) -> tuple[ContainerSpec, Running, LogFile] | None:
        """Starts a container; waits while anything that it needs is missing. None when the pod is to end first. Raises StartError."""
        failures = 0
        while not self._stop.is_set():
            self.config_changed.clear()
            try:
                await self._unless_stopped(self._runtime.prepare(container.spec))
                if self._stop.is_set():
                    return None
                base = self._runtime.environment(container.spec)
                log: LogFile | None = None
                try:
                    spec = container_spec(self._pod, container.spec, container.restarts, self._folder, self._volumes, self._lookup, base)
                    log = self.logs[container.spec["name"]] = LogFile(path)
                    async with self._starting:
                        return spec, await self._runtime.start(spec, log), log
                except BaseException as error:
                    if log is not None:
                        log.close()
                    if isinstance(error, OSError | ValueError):  # a path or a text that this machine does not take
                        raise CannotRun("CreateContainerError", str(error)) from error
                    raise
            except CannotRun as error:
                failures += 1
                self._tell_why(container, error)
                await self._either(self.config_changed, _wait(failures))
        return None

    def _tell_why(self, container: _Container, error: CannotRun) -> None:
        """Why the container waits, on the pod and as events, as a kubelet does."""
        reason, message = error.reason, str(error)
        if reason == "ErrImagePull":
            image = container.spec["image"]
            self._objects.event(self._pod, "Warning", "Failed", f'Failed to pull image "{image}": {message}', "kubelet")
            self._objects.event(self._pod, "Warning", "Failed", "Error: ErrImagePull", "kubelet")
            reason, message = "ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {message}'
        else:
            self._objects.event(self._pod, "Warning", "Failed", f"Error: {message}", "kubelet")
        container.state = pod_status.waiting(reason, message)
        self._write()

    def _terminated(self, code: int, reason: str, message: str, started: str) -> Tree:
        ended: Tree = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": times.stamp()}
        return {"terminated": {**ended, **({"message": message} if message else {})}}

    # --- its status ---

    def _write(self) -> None:
        if self._gone:
            return
        current = self._objects.find(PODS, self._pod["metadata"]["namespace"], self._pod["metadata"]["name"])
        if current is None or current["metadata"]["uid"] != self._pod["metadata"]["uid"]:
            return
        init = [each.status(is_init=True) for each in self._init]
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
            remove_folder(self._folder)

    def _never_ran(self, container: _Container) -> None:
        message = "The container could not be located when the pod was terminated"
        container.state = self._terminated(137, "ContainerStatusUnknown", message, times.stamp())
