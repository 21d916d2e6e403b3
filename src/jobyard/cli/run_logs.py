"""The logs of a run or a Job, step by step, or all at once while it goes on."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from jobyard.cli.log_choice import LogOptions, check_containers, choose, has_started, how, none_yet, statuses, steps, wanted
from jobyard.contracts import Change
from jobyard.engine import face, home
from jobyard.engine.clock import SystemClock
from jobyard.engine.sight import JOB_NAME_LABEL
from jobyard.engine.tries import INDEX, Tried, Try
from jobyard.model import duration, names
from jobyard.model.errors import Forbidden, Rejected, Unauthorized, Unavailable
from jobyard.model.job import job_of, read
from jobyard.model.objects import CONFIG_MAPS, JOBS, PODS, ConfigMap, ContainerStatus, Job, Kind, Pod
from jobyard.model.run import Role
from jobyard.model.written import whole
from jobyard.service.options import TargetOptions
from jobyard.service.target import Target, open_target

Record = TypeVar("Record", ConfigMap, Job)
Say = Callable[[str], None]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\S+")


async def print_logs(options: TargetOptions, asked: LogOptions, say: Say, tell: Say) -> None:
    """Prints what was asked for; `tell` is for what is no log. A line is headed by its step when there are several.

    Raises what the cluster answers, where no line could be had because of it."""
    async with open_target(options) as target:
        tried = await face.tried(target.cluster, SystemClock(), target.namespace, asked.run)
        await print_tried(target, tried, asked, say, tell)


async def print_tried(target: Target, tried: Tried, asked: LogOptions, say: Say, tell: Say) -> None:
    """The same of what is known to have been tried."""
    chosen = choose(tried, asked)
    shown = [pod for each in chosen for pod in _pods(each, asked)]
    check_containers(shown, asked)
    printer = _Printer(target, asked, tried, chosen, say, tell)
    if asked.follow and not _has_ended(tried):
        await printer.follow()
    else:
        await printer.print_all()
    printer.tell_of_unread()
    if not printer.logs:
        tell(none_yet(tried, asked))
    elif not (printer.lines or printer.unread) and asked.tail != 0:
        tell(f"Nothing was written{f' in the last {duration.show(asked.since)}' if asked.since else ''}.")
    printer.tell_of_others()


def _has_ended(tried: Tried) -> bool:
    return tried.view.state.is_end if tried.view else False


def _pods(one: Try, asked: LogOptions) -> Sequence[Pod]:
    return one.pods if asked.every else one.newest


class _Printer:
    def __init__(self, target: Target, asked: LogOptions, tried: Tried, chosen: Sequence[Try], say: Say, tell: Say) -> None:
        self._target, self._asked, self._tried, self._chosen, self._say, self._tell = target, asked, tried, chosen, say, tell
        meant = {name for name in steps(tried) if wanted(name, asked.step)} if not tried.job else set()
        self._alone = len(meant or {each.title for each in chosen}) <= 1
        self.logs = 0
        """How many were printed, empty ones included."""
        self.lines = 0
        self.unread: dict[str, Rejected | Unavailable] = {}
        """By what is to be said of it: why a log could not be had."""
        self._synced = asyncio.Event()
        """All pods that there were when we began to follow are known."""

    # --- as it is now ---

    async def print_all(self) -> None:
        for one in self._chosen:
            pods = _pods(one, self._asked)
            for pod in pods:
                self._say_heading(one, pod)
                for status in self._containers(pod):
                    await self._print(one, pod, status, several=len(pods) > 1)

    def _say_heading(self, one: Try, pod: Pod) -> None:
        if self._asked.every and self._asked.output == "text":
            self._say(f"==> {one.title}, attempt {one.number}, pod {pod.metadata.name}: {how(pod)} <==")

    def tell_of_unread(self) -> None:
        """Says which logs could not be had. Raises why, where the cluster was away and there is nothing else."""
        away = next((error for error in self.unread.values() if isinstance(error, Unavailable)), None)
        if away is not None and not self.lines:
            raise away
        for said in self.unread:
            self._tell(said)

    def tell_of_others(self) -> None:
        """Says that there were other attempts, where one step was asked for."""
        if self._alone and len(self._chosen) == 1 and not (self._asked.every or self._asked.attempt or self._tried.job):
            one = self._chosen[0]
            if one.number > 1:
                self._tell(f"This is attempt {one.number} of {one.title}; --attempt N prints another, --all prints all of them.")

    def _containers(self, pod: Pod) -> list[ContainerStatus]:
        named = self._asked.containers
        return [status for status in statuses(pod) if has_started(status) and (not named or status.name in named)]

    async def _print(self, one: Try, pod: Pod, status: ContainerStatus, *, several: bool, follow: bool = False) -> None:
        self.logs += 1
        head = self._head(one, pod, status, several=several)
        is_json = self._asked.output == "json"
        try:
            lines = self._target.cluster.logs(
                self._target.namespace,
                pod.metadata.name,
                container=status.name,
                tail=self._asked.tail,
                since=self._asked.since,
                follow=follow,
                timestamps=self._asked.timestamps or is_json,
            )
            async with aclosing(lines):
                async for line in lines:
                    self.lines += 1
                    self._say(json.dumps(_line_json(one, pod, status, line)) if is_json else f"{head}{line}")
        except (Forbidden, Unauthorized):
            raise  # of all logs, then
        except (Rejected, Unavailable) as error:
            self.unread[f"{head}its log can't be had: {error}"] = error

    def _head(self, one: Try, pod: Pod, status: ContainerStatus, *, several: bool) -> str:
        """What stands before each line: whatever of step, pod and container is not the same for all."""
        part = pod.metadata.annotations.get(INDEX) or pod.metadata.name.rsplit("-", 1)[-1]
        words = [] if self._alone else [one.title]
        words += [f"[{part}]"] if several else []
        words += [status.name] if len(statuses(pod)) > 1 and len(self._asked.containers) != 1 else []
        return f"{' '.join(words)} | " if words else ""

    # --- while it goes on ---

    async def follow(self) -> None:
        """Follows each container from its start, until the run, or the Job, has ended."""
        async with asyncio.TaskGroup() as tasks:
            pods = tasks.create_task(self._follow_pods(tasks))
            ends = [tasks.create_task(each) for each in self._ends()]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await self._synced.wait()
            # What ended last may still have lines to give: a container's log ends by itself.
            for watching in (pods, *ends):
                watching.cancel()

    def _ends(self) -> list[Any]:
        cluster, namespace = self._target.cluster, self._target.namespace
        if self._tried.job:
            return [_until(cluster.watch(JOBS, namespace, fields=f"metadata.name={self._tried.job}"), lambda job: read(job).state.is_end)]
        selector = f"{names.RECORD_SELECTOR},{names.RUN}={self._run}"
        kinds: tuple[Kind[Any], ...] = (CONFIG_MAPS, JOBS)
        return [_until(cluster.watch(kind, namespace, labels=selector), lambda record: home.end(record) is not None) for kind in kinds]

    @property
    def _run(self) -> str:
        return self._tried.view.id if self._tried.view else ""

    async def _follow_pods(self, tasks: asyncio.TaskGroup) -> None:
        """Begins to follow each container of each pod that is meant, once it has started, and again when it is started again."""
        seen: set[tuple[str, str, int]] = set()
        known = {pod.metadata.uid: one for one in self._tried.tries for pod in one.pods}
        meant = {pod.metadata.uid for one in self._chosen for pod in _pods(one, self._asked)}
        newest = Counter({one.title: one.number for one in self._tried.tries})
        selector = f"{JOB_NAME_LABEL}={self._tried.job}" if self._tried.job else f"{names.SELECTOR},{names.RUN}={self._run}"
        async for change in self._target.cluster.watch(PODS, self._target.namespace, labels=selector):
            pod = change.object
            if change.type == "SYNCED":
                self._synced.set()
            if pod is None or job_of(pod) is None or change.type != "SEEN":
                continue
            uid = pod.metadata.uid
            if uid not in known:
                one = known[uid] = self._try_of(pod, newest)
                if self._asked.attempt is None and (wanted(one.title, self._asked.step) or one.job == self._asked.step):
                    meant.add(uid)
                    if one.number > 1 and one.number > newest[one.title]:
                        self._tell(f"{one.title}: attempt {one.number}")
                newest[one.title] = max(newest[one.title], one.number)
            if uid not in meant:
                continue
            several = sum(each.job == known[uid].job and each.number == known[uid].number for each in known.values()) > 1
            for status in self._containers(pod):
                key = (uid, status.name, status.restart_count)
                if key not in seen and (status.state.running or status.state.terminated):
                    if not any(uid == each for each, *_ in seen):
                        self._say_heading(known[uid], pod)
                    seen.add(key)
                    tasks.create_task(self._print(known[uid], pod, status, several=several, follow=True))

    def _try_of(self, pod: Pod, newest: Counter[str]) -> Try:
        """The try that a pod belongs to which came while we looked."""
        labels = pod.metadata.labels
        job, label = labels.get(JOB_NAME_LABEL, ""), labels.get(names.STEP, "")
        role = Role.REVERT if labels.get(names.ROLE) == Role.REVERT else Role.STEP
        view = self._tried.view
        step = next((each.name for each in view.steps if names.label_value(each.name) == label), label) if view else job
        same = next((each for each in self._tried.tries if each.job == job), None)
        made = Try(step=step, role=role, number=whole(labels.get(names.ATTEMPT, ""), 10**6) or 1, job=job, pods=(pod,))
        if same is None:
            return made
        return Try(step=same.step, role=same.role, number=newest[same.title] + 1 if same.by_pod else same.number, job=job, pods=(pod,))


async def _until(changes: AsyncIterator[Change[Any]], is_over: Callable[[Any], bool]) -> None:
    """Returns when what is watched is over, or gone."""
    async for change in changes:
        if change.type == "GONE" or (change.object is not None and is_over(change.object)):
            return


def _line_json(one: Try, pod: Pod, status: ContainerStatus, text: str) -> dict[str, Any]:
    """A line of a log as one JSON object. `reverts`: its step's revert Job wrote it."""
    time, _, line = text.partition(" ")
    if not _TIME.fullmatch(time):
        time, line = "", text  # what the cluster says in place of a log has none
    return {
        "step": one.step or None,
        "reverts": one.role is Role.REVERT,
        "attempt": one.number,
        "job": one.job,
        "pod": pod.metadata.name,
        "container": status.name,
        "time": time or None,
        "line": line,
    }
