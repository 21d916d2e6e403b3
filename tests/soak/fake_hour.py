"""An hour of a service in some seconds: two replicas, the local cluster's API and controllers in the same loop, in a time of their own.

Nothing here waits for a socket, a thread or a process: the way to the API is a call, and a container is a pause and an exit code. So the
same seed does the same each time, and whether two lead can be asked at every turn of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from jobyard.cluster.client import HttpCluster
from jobyard.cluster.credentials import Credentials
from jobyard.cluster.kubeconfig import Connection
from jobyard.cluster.transport import Answer, Broken, Pools, Stream
from jobyard.contracts import Engine, Runs
from jobyard.local import times
from jobyard.local.api import Api
from jobyard.local.controller import drive
from jobyard.local.garbage import EventCollector, Furnisher, GarbageCollector, PodCollector
from jobyard.local.jobs import JobController
from jobyard.local.kubelet import Kubelet, node
from jobyard.local.logs import LogFile
from jobyard.local.objects import KEPT_NAMESPACES, Objects
from jobyard.local.resources import JOBS, NAMESPACES, NODES
from jobyard.local.runtime import ContainerSpec, Exit, Name
from jobyard.local.store import Change, Store
from jobyard.model import names
from jobyard.service.board import Board
from jobyard.service.metrics import Metrics
from jobyard.service.obstacles import Obstacles
from jobyard.service.options import TargetOptions
from jobyard.service.served import Source
from jobyard.service.service import Service, open_service
from jobyard.service.settings import Settings, TriggerSettings
from jobyard.service.target import Target
from jobyard.supervise import Budget
from tests.manifests import Tree, step, workflow
from tests.toy.folder import FolderTrigger
from tests.toy.service import trigger

TOKEN, NAMESPACE = "hush", "jobs"
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
LOOK_EVERY = 2.0


class FakeClock:
    """The Clock of the loop."""

    def __init__(self) -> None:
        self._from = asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return BEGUN + timedelta(seconds=asyncio.get_running_loop().time() - self._from)


# --- the cluster ---


@dataclass
class Quick:
    """A container that is a pause and an exit code."""

    seconds: float
    code: int
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def signal(self, number: int) -> None:
        self.code = 128 + number if not self.stopped.is_set() else self.code
        self.stopped.set()

    async def wait(self) -> Exit:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await self.stopped.wait()
        return Exit(code=self.code)


class Pretence:
    """A Runtime that runs nothing: `sleep N` takes as long, `exit 1` ends so."""

    name: Name = "process"
    version = "0"

    def environment(self, container: Tree) -> Mapping[str, str]:
        return {}

    async def prepare(self, container: Tree) -> None:
        return

    async def start(self, spec: ContainerSpec, log: LogFile) -> Quick:
        for stream in ("stdout", "stderr"):
            log.end_of(stream)
        script = spec.command[-1]
        return Quick(float(script.removeprefix("sleep ")) if script.startswith("sleep") else 0.1, 1 if "exit 1" in script else 0)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[tuple[Api, Objects]]:
    """The local cluster without its port."""
    objects = Objects(Store(None))
    for name in (*KEPT_NAMESPACES, NAMESPACE):
        objects.ensure(NAMESPACES, "", {"metadata": {"name": name}})
        objects.furnish(name)
    objects.ensure(NODES, "", node(Pretence()))
    kubelet = Kubelet(objects, Pretence(), folder / "pods")
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(kubelet.run())]
        for part in (JobController, GarbageCollector, Furnisher, PodCollector, EventCollector):
            parts.append(group.create_task(drive(objects, part(objects))))
        try:
            yield Api(objects, kubelet, TOKEN), objects
        finally:
            for each in parts:
                each.cancel()


class Wire:
    """The way of one replica to the API; it may be cut, and mended. Of who is dead nothing passes any more."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._cut = asyncio.Event()
        self.is_dead = False

    def cut(self) -> None:
        self._cut.set()

    def mend(self) -> None:
        self._cut.clear()

    async def _pass(self) -> None:
        if self.is_dead:
            await asyncio.Event().wait()
        if self._cut.is_set():
            raise Broken("can't be reached")

    def _scope(self, method: str, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
        split = urlsplit(url)
        told = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        return {"type": "http", "method": method, "path": unquote(split.path), "query_string": split.query.encode(), "headers": told}

    async def call(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        await self._pass()
        await asyncio.sleep(0.002)  # a way has a length: others are let in between
        await self._pass()
        status, told = 0, bytearray()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body or b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            told.extend(message.get("body", b""))

        await self._api(self._scope(method, url, headers), receive, send)
        await asyncio.sleep(0.002)
        await self._pass()
        return Answer(status=status, body=bytes(told))

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Stream]:
        await self._pass()
        queue: asyncio.Queue[Any] = asyncio.Queue()
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await asyncio.Event().wait()
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def cut() -> None:
            await self._cut.wait()
            await queue.put(None)

        tasks = [asyncio.create_task(self._api(self._scope("GET", url, headers), receive, queue.put)), asyncio.create_task(cut())]
        try:
            begun = await queue.get()
            await self._pass()
            yield Stream(status=begun["status"], retry_after=None, chunks=self._chunks(queue))
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _chunks(self, queue: asyncio.Queue[Any]) -> AsyncIterator[bytes]:
        while True:
            message = await queue.get()
            await self._pass()
            if message is None:
                raise Broken("closed the connection")
            if message["body"]:
                yield message["body"]
            if not message.get("more_body"):
                return


def client(wire: Wire) -> HttpCluster:
    """A cluster by way of a wire."""
    connection = Connection(server=f"http://api/{TOKEN}", credentials=Credentials())
    return HttpCluster(connection, Pools(calls=wire, streams=wire, urgent=wire))


# --- the service ---


class Inbox(FolderTrigger):
    """A folder under a name, looked at in a time that passes fast."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(folder)
        self.name = name

    async def run(self, engine: Engine | Runs) -> None:
        while True:
            await self.run_once(engine)
            await asyncio.sleep(LOOK_EVERY)


class Replica:
    """A process of the service, as far as it can be one in this one."""

    def __init__(self, hour: Hour, number: int) -> None:
        self.wire = Wire(hour.api)
        self.me = f"replica-{number}"
        self.service: Service | None = None
        self._hour = hour
        self.life = asyncio.create_task(self._live(), name=self.me)

    async def _live(self) -> None:
        hour = self._hour

        def build(settings: TriggerSettings, where: str) -> Source:
            inbox = Inbox(settings.name, hour.folder / settings.name)
            return Source(trigger=inbox, wake=lambda _: None, branch=lambda: "")

        through = client(self.wire)
        target = Target(cluster=through, namespace=NAMESPACE, options=TargetOptions())
        obstacles = Obstacles(lambda run: run.name, lambda _: None, target)
        async with open_service(through, hour.clock, NAMESPACE, hour.settings, self.me, build, Metrics(), obstacles) as self.service:
            await asyncio.Event().wait()

    @property
    def leads(self) -> bool:
        return self.service is not None and self.service.leads and not self.wire.is_dead

    async def end(self, *, at_once: bool) -> None:
        """Killed, nothing of it reaches the cluster any more; else it leaves in peace."""
        self.wire.is_dead = at_once
        self.life.cancel()
        await asyncio.gather(self.life, return_exceptions=True)


@dataclass
class Told:
    """What an hour came to."""

    files: int = 0
    ends: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    deeds: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    leaderless: float = 0.0
    """The longest time, in seconds, in which nobody led."""
    tasks: tuple[int, int] = (0, 0)
    """That there were, early and at the end."""


class Hour:
    """One at work."""

    def __init__(self, api: Api, objects: Objects, folder: Path, seed: int) -> None:
        self.api = api
        self.folder = folder
        self.clock = FakeClock()
        self.told = Told()
        self._objects = objects
        self._chosen = random.Random(seed)
        self._uids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._reloads = 0
        self.settings = self._settings()
        self._count = 0
        self._replicas: list[Replica] = []
        self._board = Board(client(Wire(api)), NAMESPACE, "jobyard")

    def _settings(self) -> Settings:
        budget = Budget(failures=5, within=timedelta(minutes=2))
        return Settings(triggers=(trigger("ops", budget=budget), trigger("etl", poll=60 + self._reloads)), limits={"namespace": 6})

    async def run(self, seconds: float) -> None:
        """All of it."""
        loop = asyncio.get_running_loop()
        self._replicas = [self._new(), self._new()]
        watching = [asyncio.create_task(each) for each in (self._watch_jobs(), self._watch_leaders())]
        deeds = (
            (self._file, 8),
            (self._kill, 300),
            (self._stop, 420),
            (self._outage, 400),
            (self._lonely, 700),
            (self._reload, 250),
            (self._pause, 350),
        )
        async with asyncio.TaskGroup() as group:
            for deed, every in deeds:
                group.create_task(self._again_and_again(deed, every, loop.time() + seconds))
            await asyncio.sleep(seconds / 5)
            early = self._tasks()
        await self._settle()
        self.told.tasks = (early, self._tasks())
        for each in watching:
            each.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        for replica in self._replicas:
            await replica.end(at_once=False)
        self._judge()

    async def _again_and_again(self, deed: Any, every: float, until: float) -> None:
        loop = asyncio.get_running_loop()
        while (wait := self._chosen.uniform(0.5, 1.5) * every) + loop.time() < until:
            await asyncio.sleep(wait)
            self.told.deeds[deed.__name__.strip("_")] += 1
            await deed()

    def _new(self) -> Replica:
        self._count += 1
        return Replica(self, self._count)

    def _tasks(self) -> int:
        return len(asyncio.all_tasks())

    # --- what happens ---

    async def _file(self) -> None:
        number = self.told.files
        self.told.files += 1
        name = f"{number}.json"
        script = self._chosen.choice(["true", "true", "sleep 20", "exit 1"])
        self.told.ends[name] = "failed" if script == "exit 1" else "succeeded"
        flow = workflow("flow", step("a", script), step("b", "true", "a")) if number % 3 else workflow("one", step("a", script))
        folder = self.folder / ("ops", "etl")[number % 2] / "inbox"
        folder.mkdir(parents=True, exist_ok=True)
        (folder.parent / f".{name}").write_bytes(msgspec.json.encode(flow))
        (folder.parent / f".{name}").replace(folder / name)

    async def _kill(self) -> None:
        await self._end(at_once=True)

    async def _stop(self) -> None:
        await self._end(at_once=False)

    async def _end(self, *, at_once: bool) -> None:
        which = self._chosen.randrange(2)
        ending, self._replicas[which] = self._replicas[which], self._new()
        await ending.end(at_once=at_once)

    async def _outage(self) -> None:
        await self._cut(list(self._replicas))

    async def _lonely(self) -> None:
        await self._cut([self._chosen.choice(self._replicas)])

    async def _cut(self, replicas: list[Replica]) -> None:
        for each in replicas:
            each.wire.cut()
        await asyncio.sleep(self._chosen.uniform(1, 40))
        for each in replicas:
            each.wire.mend()

    async def _reload(self) -> None:
        self._reloads += 1
        self.settings = self._settings()
        for each in self._replicas:
            if each.service is not None:
                each.service.apply(self.settings)

    async def _pause(self) -> None:
        await self._board.pause("etl", "the soak", self.clock.now())
        await asyncio.sleep(self._chosen.uniform(5, 60))
        await self._board.resume("etl")

    # --- what is seen ---

    async def _watch_jobs(self) -> None:
        changes = self._objects.store.subscribe(JOBS.full_name)
        while True:
            for change in await changes.wait():
                self._see(change)

    def _see(self, change: Change) -> None:
        metadata = change.object["metadata"]
        labels = metadata.get("labels", {})
        self._uids[labels.get(names.RUN, ""), metadata["name"]].add(metadata["uid"])

    async def _watch_leaders(self) -> None:
        loop = asyncio.get_running_loop()
        led = loop.time()
        while True:
            leaders = sum(each.leads for each in self._replicas)
            if leaders > 1:
                self.told.wrong.append(f"{leaders} lead at {loop.time():.1f}")
            now = loop.time()
            led = now if leaders else led
            if not any(each.wire._cut.is_set() for each in self._replicas):
                self.told.leaderless = max(self.told.leaderless, now - led)
            else:
                led = now
            await asyncio.sleep(0.5)

    def _left(self) -> list[str]:
        return [str(file) for name in ("ops", "etl") for part in ("inbox", "taken") for file in (self.folder / name / part).glob("[!.]*")]

    async def _settle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1800):
                while self._left() or self._unreleased():  # noqa: ASYNC110
                    await asyncio.sleep(5)

    def _unreleased(self) -> list[str]:
        found = []
        for resource, tree in self._objects.store.everything():
            labels = tree["metadata"].get("labels", {})
            if resource in (JOBS.full_name, "configmaps") and labels.get(names.ROLE) == "run" and names.ENDED not in labels:
                found.append(tree["metadata"]["name"])
        return found

    def _judge(self) -> None:
        told = self.told
        told.wrong += [f"{each} is left" for each in (*self._left(), *self._unreleased())]
        for name, end in told.ends.items():
            done = [file.read_text() for part in ("ops", "etl") for file in (self.folder / part / "done").glob(name)]
            if done != [end]:
                told.wrong.append(f"{name} ended as {done}, expected {end}")
        told.wrong += [f"{name} of run {run} was made {len(uids)} times" for (run, name), uids in self._uids.items() if len(uids) > 1]


@contextmanager
def the_time_of_the_loop() -> Iterator[None]:
    """The local cluster's times are those of the running loop."""
    real, clock = times.now, FakeClock()
    vars(times)["now"] = clock.now
    try:
        yield
    finally:
        vars(times)["now"] = real


async def hour(folder: Path, seconds: float, seed: int) -> Told:
    """An hour, or so many seconds; to be run in a fake time."""
    random.seed(seed)  # jitter is by lot
    with the_time_of_the_loop():
        async with cluster(folder) as (api, objects):
            at_work = Hour(api, objects, folder, seed)
            await at_work.run(seconds)
            return at_work.told
