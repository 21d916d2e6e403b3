"""Places in limits that several processes, and several steps of one run, take and give back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from jobyard.contracts import Cluster
from jobyard.engine import limits
from jobyard.engine.admission import Admission
from jobyard.engine.ledger import Ledger
from jobyard.engine.limiter import Limiter
from jobyard.engine.limits import LIMITS, Claim, Full, Place
from jobyard.engine.lines import PATIENCE
from jobyard.engine.places import SHARED
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.errors import Conflict, NotFound
from jobyard.model.objects import ConfigMap, Job, JobStatus, Kind, Manifest, Metadata
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow
from tests.faketime import in_fake_time
from tests.unit.samples import COMPLETE, NOW, changed, flow, job_record, manifest, map_record, request, served


class LoopClock:
    """The time that the event loop makes pass, and so much more."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time()) + self._ahead


class Server:
    """Keeps ConfigMaps as an API server does: a change holds for one version."""

    def __init__(self) -> None:
        self.made: dict[str, ConfigMap] = {}
        self.runs: list[ConfigMap] = []
        self.lists = 0

    async def create(self, kind: Kind[Any], namespace: str, tree: Manifest) -> ConfigMap:
        await asyncio.sleep(0.01)
        name = tree["metadata"]["name"]
        if name in self.made:
            raise Conflict(action="create", status=409, reason="AlreadyExists", message=name)
        self.made[name] = msgspec.convert({**served(tree, name, 1), "status": None}, ConfigMap)
        return self.made[name]

    async def patch(self, kind: Kind[Any], namespace: str, name: str, change: Manifest) -> ConfigMap:
        await asyncio.sleep(0.01)
        old = self.made[name]
        version = old.metadata.resource_version
        if change["metadata"]["resourceVersion"] != version:
            raise Conflict(action="patch", status=409, reason="Conflict", message=name)
        self.made[name] = msgspec.structs.replace(changed(old, version=int(version) + 1), data=change["data"])
        return self.made[name]

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> ConfigMap:
        await asyncio.sleep(0.01)
        if name not in self.made:
            raise NotFound(action="get", status=404, reason="NotFound", message=name)
        return self.made[name]

    async def list(self, kind: Kind[Any], namespace: str, *, labels: str) -> list[ConfigMap]:
        self.lists += 1
        return [run for run in self.runs if kind.plural == "configmaps" and f"{names.RUN}={run.metadata.labels[names.RUN]}" in labels]

    async def delete(self, kind: Kind[Any], namespace: str, name: str, *, uid: str = "", version: str = "") -> None:
        found = self.made.get(name)
        if found is not None and found.metadata.resource_version != version:
            raise Conflict(action="delete", status=409, reason="Conflict", message=name)
        self.made.pop(name, None)

    def holders(self, scope: str) -> dict[str, Place]:
        return limits.holders(self.made.get(Claim(scope=scope, limit=1, holder="").object_name))

    def hold(self, scope: str, **places: Place) -> None:
        claim = Claim(scope=scope, limit=1, holder="")
        self.made[claim.object_name] = msgspec.convert({**served(limits.write(claim, places), scope), "status": None}, ConfigMap)


def process(
    server: Server, *, ahead: timedelta = timedelta(0), alone: bool = False, service: str = "", **numbers: int
) -> tuple[Limiter, Sight]:
    """A process that shares the namespace's limits with others; `alone`: one that leads."""
    sight = Sight()
    data = {name: str(number) for name, number in numbers.items()}
    sight.see(ConfigMap(metadata=Metadata(name=LIMITS, uid="limits", resource_version="1"), data=data))
    return Limiter(cast(Cluster, server), LoopClock(ahead), "n", sight, leads=lambda: alone, service=service), sight


def steps(*numbers: str) -> Workflow:
    """A workflow of steps with one limit each, or none."""
    made = tuple(Step(name=f"s{number}", job=Template(manifest()), limits=(name,) if name else ()) for number, name in enumerate(numbers))
    return Workflow(name="etl", steps=made)


def test_a_step_that_finds_no_room_leaves_its_run_the_place_that_another_step_took() -> None:
    async def scene() -> None:
        server = Server()
        limiter, _ = process(server, namespace=1, gpu=1)
        two = steps("gpu", "gpu")
        got = await asyncio.gather(*(limiter.admit("run-r", two, step, f"job-{step.name}") for step in two.steps))
        assert [str(each.scope) if each else "" for each in got] == ["", "gpu"]
        assert set(server.holders("namespace")) == {"run-r"}
        other, _ = process(server, namespace=1, gpu=1)
        assert isinstance(await other.admit("run-s", flow()), Full)

    in_fake_time(scene())


def test_a_step_does_not_go_by_a_place_that_is_about_to_be_given_back() -> None:
    async def scene() -> None:
        server = Server()
        server.hold("gpu", other=Place(run="other", at=LoopClock().now()))
        limiter, _ = process(server, namespace=1, gpu=1)
        two = steps("gpu", "")
        full, free = await asyncio.gather(*(limiter.admit("run-r", two, step, f"job-{step.name}") for step in two.steps))
        assert isinstance(full, Full)
        assert free is None
        assert set(server.holders("namespace")) == {"run-r"}, "the second step runs by it"

    in_fake_time(scene())


def test_places_that_were_taken_in_vain_are_given_back() -> None:
    async def scene() -> None:
        server = Server()
        server.hold("gpu", other=Place(run="other", at=LoopClock().now()))
        limiter, _ = process(server, database=1, gpu=1)
        assert isinstance(await limiter.admit("run-r", flow(limits=("database", "gpu"))), Full)
        assert server.holders("database") == {}
        assert await limiter.admit("run-s", flow(limits=("database",))) is None

    in_fake_time(scene())


def test_no_clock_takes_a_fresh_place_and_none_keeps_one_that_nobody_uses() -> None:
    async def scene(ahead: timedelta) -> None:
        server = Server()
        limiter, _ = process(server, namespace=1)
        other, _ = process(server, ahead=ahead, namespace=1)
        assert await other.admit("run-r", flow()) is None, "and then it crashes"
        assert isinstance(await limiter.admit("run-s", flow()), Full)
        await asyncio.sleep(limits.UNUSED.total_seconds() - 1)
        assert isinstance(await limiter.admit("run-s", flow()), Full)
        await asyncio.sleep(1)
        assert await limiter.admit("run-s", flow()) is None

    for minutes in (-7, -3, 0, 3, 60 * 24 * 365 * 70):
        in_fake_time(scene(timedelta(minutes=minutes)))


def test_a_place_that_was_left_long_ago_is_free_at_once() -> None:
    async def scene() -> None:
        server = Server()
        server.hold("namespace", other=Place(run="other", at=LoopClock(-limits.OLD).now()))
        limiter, _ = process(server, namespace=1)
        assert await limiter.admit("run-s", flow()) is None

    in_fake_time(scene())


def test_a_run_that_was_submitted_again_elsewhere_keeps_its_place() -> None:
    async def scene() -> None:
        server = Server()
        limiter, sight = process(server, namespace=1)
        asked = request("again", workflow=flow(manifest(), manifest()))
        assert await limiter.admit(asked.run_id, asked.workflow) is None
        first = sight.see(map_record(asked, "first"))
        assert first is not None
        sight.forget("first")
        sight.drop(first)
        place = server.holders("namespace")[asked.run_id]
        assert await limiter.places.is_over(asked.run_id, place), "as far as is seen"
        assert server.lists == 0, "nobody was asked"
        await asyncio.sleep(1)
        other, _ = process(server, namespace=1)
        assert await other.admit(asked.run_id, asked.workflow) is None
        server.runs = [map_record(asked, "second")]  # which the watch has not told of yet
        place = server.holders("namespace")[asked.run_id]
        assert not await limiter.places.is_over(asked.run_id, place)
        assert isinstance(await limiter.admit("other", flow()), Full)

    in_fake_time(scene())


def test_a_leader_counts_a_place_that_another_process_has_just_taken() -> None:
    async def scene() -> None:
        server = Server()
        leader, sight = process(server, alone=True, namespace=1)
        person, _ = process(server, namespace=1)
        assert await person.admit("run-p", flow()) is None
        for places in server.made.values():
            sight.see(places)
        full = await leader.admit("run-l", flow())
        assert full == Full(scope="namespace", limit=1, holders=("run-p",)), "though nobody has seen a run of it"
        await asyncio.sleep(limits.UNUSED.total_seconds())
        assert await leader.admit("run-l", flow()) is None

    in_fake_time(scene())


def test_a_leader_asks_once_of_places_whose_runs_are_over() -> None:
    async def scene() -> None:
        server = Server()
        gone = [request(f"gone-{number}") for number in range(5)]
        now = LoopClock().now()
        server.hold("namespace", **{each.run_id: Place(run=each.run_id, at=now) for each in gone})
        over: Any = {"labels": {names.STATE: "succeeded", names.ENDED: "2026-01-01"}, "annotations": {names.FINISHED: NOW.isoformat()}}
        server.runs = [changed(map_record(each, each.key), **over) for each in gone]
        leader, sight = process(server, alone=True, namespace=5)
        for places in server.made.values():
            sight.see(places)
        for _ in range(3):
            assert await leader.admit("run-l", flow()) is None
        assert server.lists == 2 * len(gone), "in each home"

    in_fake_time(scene())


def test_who_takes_places_counts_what_a_leader_runs_without() -> None:
    async def scene() -> None:
        server = Server()
        person, sight = process(server, namespace=1)
        asked = request("led", workflow=flow(manifest(), manifest()))
        sight.see(map_record(asked))
        assert await person.admit("run-p", flow()) is None, "it has not begun"
        for place in server.made.values():
            server.made[place.metadata.name] = msgspec.structs.replace(place, data={})
        begun = job_record(request("running"))
        sight.see(begun)
        full = await person.admit("run-q", flow())
        assert full == Full(scope="namespace", limit=1, holders=(begun.metadata.name,))

    in_fake_time(scene())


def test_runs_that_go_on_when_a_limit_is_set_do_not_wait_for_each_other() -> None:
    async def scene() -> None:
        server = Server()
        process_, sight = process(server, namespace=1)
        going = [request(key) for key in ("one", "two")]
        for asked in going:
            sight.see(job_record(asked, asked.key))
        assert await process_.admit(going[0].run_id, flow()) is None
        assert isinstance(await process_.admit(going[1].run_id, flow()), Full), "one after the other: there is one place"

    in_fake_time(scene())


def test_who_held_the_places_of_a_workflow_that_is_gone_is_forgotten_and_who_takes_one_keeps_it() -> None:
    async def scene() -> None:
        server = Server()
        limiter, sight = process(server, namespace=2)
        old, taken = flow(max_runs=1), replace(flow(max_runs=1), name="taken")
        for asked in (request("old", workflow=old), request("taken", workflow=taken)):
            assert await limiter.admit(asked.run_id, asked.workflow) is None
        await limiter.places.delete_idle()
        assert len(server.made) == 3, "the namespace's own too"
        going = job_record(request("going"))
        sight.see(going)  # counts for the namespace
        await asyncio.sleep(limits.IDLE.total_seconds())
        other, _ = process(server, namespace=2)
        assert await other.admit("run-again", taken) is None, "and our watch has not told of it yet"
        await limiter.places.delete_idle()
        assert server.holders("workflow/etl") == {}
        assert set(server.holders("workflow/taken")) == {"run-again"}
        assert len(server.made) == 2

    in_fake_time(scene())


class Crowd(Server):
    """Counts what is asked, and keeps Jobs too."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = 0
        self.begun: list[str] = []
        self.closed = 0.0
        """Seconds for which Jobs wait at the door."""

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> ConfigMap:
        self.gets += 1
        return await super().get(kind, namespace, name)

    async def page(self, *_: Any, **__: Any) -> tuple[list[Any], str]:
        return [], ""

    async def create(self, kind: Kind[Any], namespace: str, tree: Manifest) -> Any:
        if kind.plural == "configmaps":
            return await super().create(kind, namespace, tree)
        await asyncio.sleep(max(0.01, self.closed - asyncio.get_running_loop().time()))
        self.begun.append(tree["metadata"]["annotations"][names.KEY])
        return msgspec.convert(served(tree, tree["metadata"]["name"], 1), Job)


def door(server: Server, limiter: Limiter, sight: Sight) -> Admission:
    """Where one process lets runs in."""
    cluster = cast(Cluster, server)
    return Admission(cluster, "n", sight, Ledger(cluster, LoopClock(), "n", sight), limiter, sight.see, None)


def test_of_three_hundred_that_wait_for_a_place_that_a_crash_left_one_asks_and_the_first_comes_first() -> None:
    async def scene() -> None:
        server = Crowd()
        server.hold("namespace", ghost=Place(run="ghost", at=LoopClock().now()))
        limiter, sight = process(server, namespace=1)
        admission = door(server, limiter, sight)
        waiting = [asyncio.create_task(admission.admit(request(str(number)))) for number in range(300)]
        await asyncio.sleep(60)
        assert server.gets <= 10
        assert server.lists <= 20
        assert limiter.looks <= 1000
        await asyncio.sleep(limits.UNUSED.total_seconds() - 60 + PATIENCE + 1)
        assert server.begun == ["0"]
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    in_fake_time(scene())


def test_a_place_that_another_process_gives_back_is_taken_at_once() -> None:
    async def scene() -> None:
        server = Crowd()
        server.hold("namespace", other=Place(run="other", at=LoopClock().now()))
        limiter, sight = process(server, namespace=1)
        waiting = asyncio.create_task(door(server, limiter, sight).admit(request("k")))
        await asyncio.sleep(1)
        assert not waiting.done()
        server.made = {name: msgspec.structs.replace(changed(each, version=9), data={}) for name, each in server.made.items()}
        for each in server.made.values():
            sight.see(each)
        limiter.settle()
        await asyncio.wait_for(waiting, 1)

    in_fake_time(scene())


def test_a_launch_that_waits_at_the_door_takes_its_place_anew_before_that_is_anybodys() -> None:
    async def scene() -> None:
        server = Crowd()
        server.closed = asyncio.get_running_loop().time() + 290
        limiter, sight = process(server, namespace=1)
        launch = asyncio.create_task(door(server, limiter, sight).admit(request("slow")))
        other, _ = process(server, namespace=1)
        for _ in range(28):
            await asyncio.sleep(10)
            assert isinstance(await other.admit("run-o", flow()), Full), "though nobody sees a run for longer than a place counts"
        assert server.begun == []
        await launch
        assert server.begun == ["slow"]

    in_fake_time(scene())


def test_a_leader_takes_no_places_until_another_process_does_and_none_again_an_hour_later() -> None:
    async def scene() -> None:
        server = Server()
        leader, sight = process(server, alone=True, namespace=3)

        def told() -> None:
            for places in server.made.values():
                sight.see(places)

        assert await leader.admit("run-a", flow()) is None
        assert server.made == {}
        person, _ = process(server, namespace=3)
        assert await person.admit("run-p", flow()) is None
        told()
        assert await leader.admit("run-b", flow()) is None
        assert set(server.holders("namespace")) == {"run-p", "run-b"}
        await asyncio.sleep(SHARED.total_seconds() - 60)
        assert await leader.admit("run-c", flow()) is None
        assert "run-c" in server.holders("namespace"), "its own places do not count as another's"
        await asyncio.sleep(60)
        assert await leader.admit("run-d", flow()) is None
        assert "run-d" not in server.holders("namespace")

    in_fake_time(scene())


def test_of_two_services_that_lead_both_take_places() -> None:
    async def scene() -> None:
        server = Server()
        one, sight = process(server, alone=True, service="one", namespace=1)
        theirs = job_record(replace(request("theirs"), service="two"), "theirs")
        sight.see(theirs)
        assert isinstance(await one.admit("run-a", flow()), Full)
        sight.see(msgspec.structs.replace(changed(theirs, version=2), status=msgspec.convert(COMPLETE, JobStatus)))
        assert await one.admit("run-a", flow()) is None
        assert server.made == {}, "while the other has nothing open"
        sight.see(job_record(replace(request("more"), service="two"), "more"))
        other, _ = process(server, service="two", namespace=5)
        assert await other.admit("run-o", flow()) is None
        sight.see(server.made[Claim(scope="namespace", limit=1, holder="").object_name])
        sight.drop(sight.runs[request("more").run_id])
        assert isinstance(await one.admit("run-b", flow()), Full), "and it goes on to for a while"

    in_fake_time(scene())


def test_who_only_looks_why_a_run_waits_takes_no_place() -> None:
    async def scene() -> None:
        server = Server()
        server.hold("namespace", other=Place(run="other", at=LoopClock().now()))
        before = server.made.copy()
        person, sight = process(server, alone=True, namespace=2)
        for places in server.made.values():
            sight.see(places)
        assert await person.look("run-a", flow()) is None
        assert server.made == before

    in_fake_time(scene())
