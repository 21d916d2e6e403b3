"""The logs of a run, step by step, or all at once while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from jobyard.engine import face, home
from jobyard.engine.clock import SystemClock
from jobyard.engine.logs import pods_of
from jobyard.model import names
from jobyard.model.errors import NoSuchStep, Rejected, Unavailable
from jobyard.model.finding import did_you_mean
from jobyard.model.job import job_of
from jobyard.model.objects import CONFIG_MAPS, JOBS, PODS, ConfigMap, Job, Kind, Pod
from jobyard.model.run import Role, RunView
from jobyard.service.options import TargetOptions
from jobyard.service.target import Target, open_target

Record = TypeVar("Record", ConfigMap, Job)
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What `jobyard logs` was asked."""

    run: str
    step: str | None
    follow: bool
    tail: int | None
    timestamps: bool


async def print_logs(options: TargetOptions, asked: LogOptions, say: Say, tell: Say) -> None:
    """Prints what was asked for; `tell` is for what is no log. A line is headed by its step when there are several."""
    async with open_target(options) as target:
        view = await face.view(target.cluster, SystemClock(), target.namespace, asked.run)
        steps = [step.name for step in view.steps]
        if asked.step is not None and not any(name == asked.step or name.startswith(f"{asked.step}/") for name in steps):
            raise NoSuchStep(run=asked.run, step=asked.step, hint=did_you_mean(asked.step, steps) or f"it has: {', '.join(steps[:12])}")
        printer = _Printer(target, asked, view.id, say, alone=asked.step in steps or len(steps) == 1)
        if asked.follow and not view.state.is_end:
            await printer.follow()
        else:
            await printer.print_all(view)
            if not printer.pods:
                tell("No logs: no pod of it has started yet, or its pods are deleted.")


class _Printer:
    def __init__(self, target: Target, asked: LogOptions, run: str, say: Say, *, alone: bool) -> None:
        self._target, self._asked, self._run, self._say, self._alone = target, asked, run, say, alone
        self.pods = 0

    async def print_all(self, view: RunView) -> None:
        for step in sorted(view.steps, key=lambda each: str(each.started or "~")):
            if step.job and self._wanted(step.name):
                for pod in await pods_of(self._target.cluster, self._target.namespace, step.job):
                    await self._print_pod(pod, step.name if step.role is Role.STEP else f"{step.name} (revert)", follow=False)

    async def follow(self) -> None:
        """Follows each pod of the run from its start, until the run has ended."""
        async with asyncio.TaskGroup() as tasks:
            pods = tasks.create_task(self._follow_pods(tasks))
            ends = [tasks.create_task(self._until_the_end(CONFIG_MAPS)), tasks.create_task(self._until_the_end(JOBS))]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            # What ended last may still have lines to give: a pod's log ends by itself.
            for watching in (pods, *ends):
                watching.cancel()

    async def _until_the_end(self, kind: Kind[Record]) -> None:
        """Returns when a record of this kind says that the run has ended, or is gone."""
        selector = f"{names.RECORD_SELECTOR},{names.RUN}={self._run}"
        async for change in self._target.cluster.watch(kind, self._target.namespace, labels=selector):
            if change.type == "GONE" or (change.object is not None and home.end(change.object)):
                return

    async def _follow_pods(self, tasks: asyncio.TaskGroup) -> None:
        seen: set[str] = set()
        selector = f"{names.SELECTOR},{names.RUN}={self._run}"
        async for change in self._target.cluster.watch(PODS, self._target.namespace, labels=selector):
            pod = change.object
            if pod is None or job_of(pod) is None or change.type != "SEEN" or pod.metadata.uid in seen or pod.status.phase == "Pending":
                continue
            step = pod.metadata.labels.get(names.STEP, "")
            if self._wanted(step):
                seen.add(pod.metadata.uid)
                tasks.create_task(self._print_pod(pod, step, follow=True))

    def _wanted(self, step: str) -> bool:
        asked = self._asked.step
        return asked is None or step in (asked, names.label_value(asked)) or step.startswith(f"{asked}/")

    async def _print_pod(self, pod: Pod, step: str, *, follow: bool) -> None:
        head = "" if self._alone else f"{step} | "
        self.pods += 1
        for status in pod.status.container_statuses:
            try:
                lines = self._target.cluster.logs(
                    self._target.namespace,
                    pod.metadata.name,
                    container=status.name,
                    tail=self._asked.tail,
                    follow=follow,
                    timestamps=self._asked.timestamps,
                )
                async for line in lines:
                    self._say(f"{head}{line}")
            except (Rejected, Unavailable) as error:
                self._say(f"{head}(its log can't be had: {error})")
