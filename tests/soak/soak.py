"""Two replicas of a service for as long as one likes, with all that happens to a service in its life; and what that cost."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.engine.clock import SystemClock
from jobyard.model import names
from jobyard.model.objects import JOBS
from jobyard.service.board import Board
from tests.crash.git import look
from tests.faults.proxy import Proxy, open_proxy
from tests.git.remotes import git
from tests.manifests import job
from tests.ports import free_port
from tests.replicas import Replica, git_trigger, settings
from tests.soak.plan import Deed, Moment, plan, scripts

SETTLES = 120.0
"""Seconds in which all that was committed must be over once nothing happens any more."""
TRIGGERS = ("ops", "etl")
MIB = 1024 * 1024


@dataclass
class Verdict:
    """What a soak came to."""

    seconds: float = 0.0
    files: int = 0
    deeds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: tuple[float, float] = (0.0, 0.0)
    """MiB of the replica that was never ended, early and at the end."""
    handles: tuple[int, int] = (0, 0)
    """Open files of it."""


class Soak:
    """One at work."""

    def __init__(
        self, kubeconfig: Path, cluster: HttpCluster, namespace: str, folder: Path, proxies: tuple[Proxy, Proxy], seed: int
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._folder = folder
        self._proxies = proxies
        self._script = scripts(seed)
        self._poll = 2
        self._expected: dict[str, dict[str, str]] = {name: {} for name in TRIGGERS}
        self._uids: defaultdict[str, set[str]] = defaultdict(set)
        self._samples: list[tuple[float, int]] = []
        self._board = Board(cluster, namespace, "jobyard")
        self._writing = asyncio.Lock()
        self._steered: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.verdict = Verdict()
        tree = yaml.safe_load(kubeconfig.read_text())
        self._replicas: list[Replica] = []
        for name in TRIGGERS:
            git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", f"{name}/remote.git")
            git(folder, "clone", "--quiet", f"{name}/remote.git", f"{name}/person")
        self._ports = (free_port(), free_port())
        for number, proxy in enumerate(proxies):
            home = folder / f"replica-{number}"
            home.mkdir()
            for each in tree["clusters"]:
                each["cluster"] = {"server": proxy.url}
            (home / "kubeconfig").write_text(yaml.safe_dump(tree))

    # --- the replicas ---

    def _triggers(self) -> list[dict[str, Any]]:
        return [git_trigger(name, self._folder / name / "remote.git", poll=f"{self._poll if name == 'etl' else 2}s") for name in TRIGGERS]

    def _write(self, text: str = "") -> None:
        for number, port in enumerate(self._ports):
            file = self._folder / f"replica-{number}" / "jobyard.yaml"
            (file.parent / "new").write_text(text or settings(*self._triggers(), port=port))
            (file.parent / "new").replace(file)

    def _start(self, number: int) -> Replica:
        home = self._folder / f"replica-{number}"
        words = ["--kubeconfig", str(home / "kubeconfig"), "-n", self._namespace]
        return Replica(home, words, [], os.environ, self._ports[number])

    # --- what happens ---

    async def run(self, seconds: float, seed: int) -> None:
        """Does all of it, and judges."""
        self._write()
        self._replicas = [self._start(0), self._start(1)]
        watching = asyncio.create_task(self._watch())
        sampling = asyncio.create_task(self._sample())
        try:
            for name in TRIGGERS:
                await self._commit(name)
            async with asyncio.TaskGroup() as deeds:
                begun = asyncio.get_running_loop().time()
                for moment in plan(seed, seconds):
                    await asyncio.sleep(max(0.0, begun + moment.at - asyncio.get_running_loop().time()))
                    deeds.create_task(self._do(moment))
            await self._settle()
        finally:
            for each in (watching, sampling):
                each.cancel()
            await asyncio.gather(watching, sampling, return_exceptions=True)
            for replica in self._replicas:
                await asyncio.to_thread(replica.said.end)
        self._judge(seconds)

    async def _do(self, moment: Moment) -> None:
        deed, lasts = moment.deed, moment.lasts
        async with self._steered[deed]:
            self.verdict.deeds[deed] += 1
            match deed:
                case Deed.COMMIT:
                    await self._commit(TRIGGERS[self.verdict.files % 2])
                case Deed.KILL | Deed.STOP:
                    await self._end_the_second(signal.SIGKILL if deed is Deed.KILL else signal.SIGTERM)
                case Deed.NO_CLUSTER | Deed.NO_CLUSTER_FOR_ONE:
                    await self._cut(self._proxies if deed is Deed.NO_CLUSTER else self._proxies[:1], lasts)
                case Deed.NO_REMOTE:
                    remote = self._folder / "ops" / "remote.git"
                    async with self._writing:
                        remote.rename(remote.with_name("hidden.git"))
                        await asyncio.sleep(lasts)
                        remote.with_name("hidden.git").rename(remote)
                case Deed.RELOAD:
                    async with self._steered["second"]:
                        self._poll = 5 - self._poll
                        self._write()
                case Deed.MISTAKE:
                    async with self._steered["second"]:  # who starts with such a file ends at once, as it should
                        self._write("kind: Service\napiVersion: jobyard.dev/v1\nspec: {trigers: []}\n")
                        await asyncio.sleep(lasts)
                        self._write()
                case Deed.PAUSE:
                    await self._board.pause("etl", "the soak", SystemClock().now())
                    await asyncio.sleep(lasts)
                    await self._board.resume("etl")

    async def _cut(self, proxies: tuple[Proxy, ...], lasts: float) -> None:
        for proxy in proxies:
            proxy.down = True
            proxy.cut_all()
        await asyncio.sleep(lasts)
        for proxy in proxies:
            proxy.down = False

    async def _end_the_second(self, how: signal.Signals) -> None:
        async with self._steered["second"]:
            replica = self._replicas[1]
            replica.process.send_signal(how)
            code = await asyncio.to_thread(replica.process.wait, 30)
            if code != (-9 if how is signal.SIGKILL else 0) and replica.said.text:  # before its first word it is a Python that begins
                self.verdict.wrong.append(f"it ended with {code}: {replica.said.text[-1000:]}")
            self._replicas[1] = self._start(1)

    async def _commit(self, trigger: str) -> None:
        number = self.verdict.files
        self.verdict.files += 1
        name, script = f"f-{number}", self._script(number)
        self._expected[trigger][f"{name}.yaml"] = "failed" if "exit" in script else "succeeded"
        async with self._writing:
            await asyncio.to_thread(_push, self._folder / trigger / "person", name, yaml.safe_dump(job(name, script)))

    # --- what is seen ---

    async def _watch(self) -> None:
        async for change in self._cluster.watch(JOBS, self._namespace):
            if change.object is not None:
                self._uids[change.object.metadata.name].add(change.object.metadata.uid)

    async def _sample(self) -> None:
        pid = self._replicas[0].process.pid
        while True:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            self._samples.append((pages * os.sysconf("SC_PAGE_SIZE") / MIB, len(os.listdir(f"/proc/{pid}/fd"))))
            await asyncio.sleep(1)

    async def _settle(self) -> None:
        """Returns when all that was committed is over, or it takes too long."""
        left: list[str] = []
        try:
            async with asyncio.timeout(SETTLES):
                while left := [*await asyncio.to_thread(self._left), *await self._unreleased()]:  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
        except TimeoutError:
            self.verdict.wrong.append(f"not over in {SETTLES:.0f} s: {', '.join(left)}")
            self.verdict.wrong += [replica.said.text[-3000:] for replica in self._replicas]

    def _left(self) -> list[str]:
        return [f"{name}/{each}" for name in TRIGGERS for each in look(self._folder / name)[0]]

    async def _unreleased(self) -> list[str]:
        return [
            each.metadata.name for each in await self._cluster.list(JOBS, self._namespace, labels=f"{names.RECORD_SELECTOR},!{names.ENDED}")
        ]

    def _judge(self, seconds: float) -> None:
        told = self.verdict
        told.seconds = seconds
        for name in TRIGGERS:
            left, done = look(self._folder / name)
            told.wrong += [f"{name}: {each}" for each in left]
            for file, end in self._expected[name].items():
                if done.get(file) != end:
                    told.wrong.append(f"{name}: {file} is {done.get(file)}, expected {end}")
        told.wrong += [f"{name} was made {len(uids)} times" for name, uids in self._uids.items() if len(uids) > 1]
        if self._replicas[0].process.returncode != 0:
            told.wrong.append(f"the steady one ended with {self._replicas[0].process.returncode}")
        for replica in self._replicas:
            told.wrong += [f"no JSON: {line}" for line in replica.said.text.splitlines() if not line.startswith("{")]
            told.wrong += [line for line in replica.said.text.splitlines() if "Traceback" in line]
        count = len(self._samples)
        early, late = self._samples[count // 5 : count // 5 + max(count // 5, 1)], self._samples[-max(count // 5, 1) :]
        told.memory = _median(early, lambda each: each[0]), _median(late, lambda each: each[0])
        told.handles = int(_median(early, lambda each: each[1])), int(_median(late, lambda each: each[1]))


def _median(samples: list[tuple[float, int]], of: Callable[[tuple[float, int]], float]) -> float:
    return statistics.median(map(of, samples))


def _push(folder: Path, name: str, text: str) -> None:
    """Commits a file to queued/, whoever else pushes meanwhile."""
    while True:
        if git(folder, "ls-remote", "origin", "main"):
            git(folder, "fetch", "--quiet", "origin", "main")
            git(folder, "reset", "--quiet", "--hard", "origin/main")
        (folder / "queued").mkdir(exist_ok=True)
        (folder / "queued" / f"{name}.yaml").write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "--quiet", "-m", f"queue {name}")
        git(folder, "push", "--quiet", "origin", "HEAD:main", check=False)
        if not git(folder, "log", "--format=%H", "origin/main..HEAD"):
            return


async def soak(kubeconfig: Path, namespace: str, seconds: float, seed: int) -> Verdict:
    """A soak in a namespace that is there."""
    connection = connect(kubeconfig=str(kubeconfig))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobyard-soak-")))
        cluster = await stack.enter_async_context(open_cluster(connection))
        proxies = (await stack.enter_async_context(open_proxy(connection)), await stack.enter_async_context(open_proxy(connection)))
        at_work = Soak(kubeconfig, cluster, namespace, folder, proxies, seed)
        await at_work.run(seconds, seed)
        return at_work.verdict
