"""The last log lines of what runs, followed while it runs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from jobyard.contracts import Cluster
from jobyard.engine.logs import end_of, pods_of
from jobyard.model.errors import JobyardError
from jobyard.model.run import RunView, State, StepView

FOLLOWED = 16
"""How many steps' logs are followed at once; of more nobody could read the last lines anyway."""
TAIL = 20
ENOUGH, KEPT = 5, 200
"""How many lines are told of a failure before the next try, and of how many failures."""


class Tails:
    """Follows the logs of running steps, and keeps their last lines, each under the name of its Job."""

    def __init__(self, cluster: Cluster, tasks: asyncio.TaskGroup) -> None:
        self._cluster = cluster
        self._tasks = tasks
        self._following: dict[str, asyncio.Task[None]] = {}
        self._lines: dict[str, deque[str]] = {}
        self._failed: dict[tuple[str, int], tuple[str, ...]] = {}
        """By Job and how often it had failed: the end of the log of the last failure, once it was fetched."""

    def see(self, view: RunView) -> None:
        """Begins to follow what runs now."""
        for step in view.steps:
            if step.state is State.RUNNING and step.job not in self._following and len(self._following) < FOLLOWED:
                self._following[step.job] = self._tasks.create_task(self._follow(view.namespace, step.job))

    def between_tries(self, view: RunView, news: Callable[[], None]) -> RunView:
        """The run with the end of the log of each step that failed and is tried again, as far as it is there; `news` is called when more is."""
        steps = tuple(self._with_end(view.namespace, step, news) if step.tries else step for step in view.steps)
        return replace(view, steps=steps)

    def _with_end(self, namespace: str, step: StepView, news: Callable[[], None]) -> StepView:
        key = (step.job, step.tries.failed if step.tries else 0)
        if key not in self._failed and len(self._failed) < KEPT and step.diagnosis is not None and step.diagnosis.has_log:
            self._failed[key] = ()
            self._following[f"{key}"] = self._tasks.create_task(self._fetch(namespace, step, key, news))
        return replace(step, last_lines=self._failed.get(key, ()))

    async def _fetch(self, namespace: str, step: StepView, key: tuple[str, int], news: Callable[[], None]) -> None:
        lines = await end_of(self._cluster, namespace, step.diagnosis, ENOUGH)
        self._following.pop(f"{key}", None)
        if lines:
            self._failed[key] = tuple(lines)
            self._lines[step.job] = deque(lines, maxlen=TAIL)
            news()

    def last_lines(self) -> dict[str, str]:
        return {job: lines[-1] for job, lines in self._lines.items() if lines}

    def kept(self, job: str) -> list[str]:
        return list(self._lines.get(job, ()))

    def forget(self, view: RunView) -> None:
        """Nobody looks at the run any more."""
        jobs = {step.job for step in view.steps}
        self._lines = {job: lines for job, lines in self._lines.items() if job not in jobs}
        self._failed = {key: lines for key, lines in self._failed.items() if key[0] not in jobs}

    def close(self) -> None:
        for task in self._following.values():
            task.cancel()

    async def _follow(self, namespace: str, job: str) -> None:
        try:
            pods = await pods_of(self._cluster, namespace, job)
            running = [pod for pod in pods if pod.status.phase == "Running"] or pods
            if not running:
                return
            lines = self._lines.setdefault(job, deque(maxlen=TAIL))
            lines.clear()
            pod = running[-1]
            container = pod.status.container_statuses[0].name if pod.status.container_statuses else ""
            async for line in self._cluster.logs(namespace, pod.metadata.name, container=container, tail=TAIL, follow=True):
                lines.append(line)
        except JobyardError:
            return  # a log that can't be had is no reason to disturb the run
        finally:
            self._following.pop(job, None)
