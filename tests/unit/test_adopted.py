"""What an engine that drives a namespace does about runs of which no watch tells anything any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from jobyard.contracts import Change, Cluster, Inventory
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.namespace import Options
from jobyard.model import names
from jobyard.model.errors import NotFound
from jobyard.model.objects import ConfigMap, Job, Kind, Manifest
from tests.faketime import in_fake_time
from tests.unit.samples import NOW, changed, flow, manifest, map_record, request, served

TWO = flow(manifest(), manifest())


class LoopClock:
    def now(self) -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time() - 1000)


class Server:
    """Has some records, tells of them once, and then of what it is told to tell."""

    def __init__(self, *records: ConfigMap | Job) -> None:
        self.there: dict[tuple[str, str], Any] = {(type(each).__name__, each.metadata.name): each for each in records}
        self.news: asyncio.Queue[Change[Any]] = asyncio.Queue()
        """Of ConfigMaps."""

    async def watch(self, kind: Kind[Any], namespace: str, **_: Any) -> AsyncIterator[Change[Any]]:
        mine = [each for (name, _), each in self.there.items() if name == kind.name]
        for each in mine:
            yield Change("SEEN", each, uid=each.metadata.uid)
        yield Change("SYNCED", inventory=Inventory(uids=frozenset(each.metadata.uid for each in mine), version="1"))
        while kind.name == "ConfigMap":
            yield await self.news.get()
        await asyncio.get_running_loop().create_future()

    async def patch(self, kind: Kind[Any], namespace: str, name: str, change: Manifest) -> Any:
        metadata, old = change["metadata"], self.there[kind.name, name]
        version = int(old.metadata.resource_version) + 1
        new = changed(old, version=version, labels=metadata.get("labels"), annotations=metadata.get("annotations"))
        self.there[kind.name, name] = new
        return new

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Any:
        if (kind.name, name) not in self.there:
            raise NotFound(action="get", status=404, reason="NotFound", message=name)
        return self.there[kind.name, name]

    async def create(self, kind: Kind[Any], namespace: str, tree: Manifest) -> Any:
        name = tree["metadata"]["name"]
        self.there[kind.name, name] = made = msgspec.convert(served(tree, f"uid-of-{name}", 10), kind.struct)
        return made

    async def page(self, *_: Any, **__: Any) -> tuple[list[Any], str]:
        return [], ""

    async def list(self, *_: Any, **__: Any) -> list[Any]:
        return []


def adopted(server: Server, scene: Callable[[ClusterEngine], Awaitable[None]]) -> None:
    """Plays a scene with an engine that drives all there is."""

    async def main() -> None:
        async with open_engine(cast(Cluster, server), LoopClock(), "n", Options(service="a")) as engine:
            driving = asyncio.create_task(engine.adopt())
            await asyncio.sleep(1)
            await scene(engine)
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)

    in_fake_time(main())


def kept(uid: str, service: str) -> ConfigMap:
    """A run that has failed, and that its trigger counts for five minutes more."""
    until = {names.KEPT_UNTIL: (NOW + timedelta(minutes=5)).isoformat(), names.FINISHED: NOW.isoformat()}
    record = map_record(request(uid, workflow=TWO, service=service), uid)
    return cast(ConfigMap, changed(record, labels={names.STATE: "failed"}, annotations=until))


def test_what_another_service_keeps_for_a_count_is_released_by_that_one() -> None:
    server = Server(kept("theirs", "b"), kept("ours", "a"), kept("nobody's", ""))

    async def scene(engine: ClusterEngine) -> None:
        await asyncio.sleep(3600)

    adopted(server, scene)
    assert {each.metadata.uid: names.ENDED in each.metadata.labels for each in server.there.values()} == {
        "theirs": False,
        "ours": True,
        "nobody's": True,
    }


class Breaking(Server):
    """Answers creates with something that nobody foresaw, and may tell of the run each time."""

    def __init__(self, record: ConfigMap, *, times: int, tells: bool) -> None:
        super().__init__(record)
        self.record, self.times, self.tells = record, times, tells
        self.looks = 0

    async def create(self, kind: Kind[Any], namespace: str, tree: Manifest) -> Any:
        if self.looks < self.times:
            self.looks += 1
            if self.tells:
                news = changed(self.record, version=self.looks + 1)
                self.news.put_nowait(Change("SEEN", news, uid=news.metadata.uid))
            raise RuntimeError
        return await super().create(kind, namespace, tree)


def open_run() -> ConfigMap:
    return map_record(request("k", workflow=flow(manifest(), manifest(), parallelism=1)), "open")


def test_a_run_that_a_driver_broke_over_is_driven_again_though_nothing_of_it_changes() -> None:
    server = Breaking(open_run(), times=1, tells=False)

    async def scene(engine: ClusterEngine) -> None:
        assert [name for kind, name in server.there if kind == "Job"] == []
        await asyncio.sleep(180)
        assert len([name for kind, name in server.there if kind == "Job"]) == 1

    adopted(server, scene)


def test_one_that_breaks_its_driver_again_and_again_costs_little() -> None:
    server = Breaking(open_run(), times=5000, tells=True)

    async def scene(engine: ClusterEngine) -> None:
        await asyncio.sleep(24 * 3600)

    adopted(server, scene)
    assert 24 * 6 < server.looks < 24 * 60


def test_a_run_that_nobody_drives_is_back_when_its_label_is() -> None:
    """A person took a label of ours off, and put it on again."""
    record = open_run()
    server = Server(record)

    async def main() -> None:
        async with open_engine(cast(Cluster, server), LoopClock(), "n") as engine:
            assert [run.uid for run in engine.open_runs()] == ["open"]
            server.news.put_nowait(Change("GONE", record, uid="open", version="5"))
            await asyncio.sleep(1)
            assert engine.open_runs() == []
            server.news.put_nowait(Change("SEEN", changed(record, version=6), uid="open"))
            await asyncio.sleep(1)
            assert [run.uid for run in engine.open_runs()] == ["open"]

    in_fake_time(main())
