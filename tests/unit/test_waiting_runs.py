"""Runs that everybody can see to wait for a place: they leave the line when they are served, and when they no longer want one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec
import pytest

from jobyard.contracts import Cluster
from jobyard.engine import home, limits, rounds
from jobyard.engine.act import IN_FLIGHT
from jobyard.engine.driver import Driver, Tools
from jobyard.engine.ledger import Ledger
from jobyard.engine.limiter import Limiter
from jobyard.engine.lines import Ticket
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.errors import Forbidden, NoRoom, NotFound
from jobyard.model.objects import JOBS, ConfigMap, Job, JobStatus, Kind, Manifest, Metadata
from jobyard.model.run import Reason, State
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow
from tests.faketime import in_fake_time
from tests.unit.samples import COMPLETE, NOW, SECOND, changed, flow, job_record, manifest, map_record, request, served

DONE = msgspec.convert(COMPLETE, JobStatus)
TWO = flow(manifest(), manifest(), limits=("gpu",), parallelism=1)


class LoopClock:
    """The time that the event loop makes pass."""

    def now(self) -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())


class Server:
    """Says what an API server says of creates and patches; keeps what was made."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.full = 0
        """How many creates are refused for a full quota."""
        self.hooked = 0
        """How many, then, by an admission hook."""
        self.barred = False
        """We have no right to create Jobs."""
        self.tries = 0
        self.asked = asyncio.Event()
        """How many creates there were."""
        self.notes: list[str | None] = []
        """Why runs wait, as it was written on their records; None where that was taken away."""

    async def create(self, kind: Kind[Any], namespace: str, tree: Manifest) -> Any:
        self.tries += 1
        self.asked.set()
        await asyncio.sleep(0.001)
        if self.barred and kind is JOBS:
            raise Forbidden(action="create Job", status=403, reason="Forbidden", message="no right")
        if self.full:
            self.full -= 1
            raise NoRoom(action="create Job", status=403, reason="Forbidden", message="exceeded quota")
        if self.hooked:
            self.hooked -= 1
            raise Forbidden(action="create Job", status=403, reason="Forbidden", message="the hook says no")
        name = tree["metadata"]["name"]
        self.made[name] = msgspec.convert(served(tree, name, 10), kind.struct)
        return self.made[name]

    async def may(self, verb: str, kind: Kind[Any], namespace: str, *, subresource: str = "") -> bool:
        return not self.barred

    async def patch(self, kind: Kind[Any], namespace: str, name: str, change: Manifest) -> Any:
        metadata = change.get("metadata", {})
        if names.WAITS in (noted := metadata.get("annotations", {})):
            self.notes.append(msgspec.json.decode(noted[names.WAITS])["reason"] if noted[names.WAITS] else None)
        old = self.made[name]
        version = int(old.metadata.resource_version) + 1
        self.made[name] = changed(old, version=version, labels=metadata.get("labels"), annotations=metadata.get("annotations"))
        return self.made[name]

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Any:
        if name not in self.made:
            raise NotFound(action="get", status=404, reason="NotFound", message=name)
        return self.made[name]

    async def list(self, kind: Kind[Any], namespace: str, **_: str) -> list[Any]:
        return []


class Yard:
    """A namespace without watches: what the server answers, and what the test tells, is all that is seen."""

    def __init__(self, gpu: int) -> None:
        self.server, self.sight, clock = Server(), Sight(), LoopClock()
        cluster = cast(Cluster, self.server)
        self.see(ConfigMap(metadata=Metadata(name=limits.LIMITS, uid="limits", resource_version="1"), data={"gpu": str(gpu)}))
        self.limiter = Limiter(cluster, clock, "n", self.sight, leads=lambda: True)
        self.drivers: dict[str, Driver] = {}
        self.tools = Tools(
            cluster=cluster,
            clock=clock,
            namespace="n",
            sight=self.sight,
            ledger=Ledger(cluster, clock, "n", self.sight),
            limiter=self.limiter,
            gives_up=None,
            pods_heard=clock.now,
            unreachable=str,
            looked=lambda _: None,
            told=lambda _: None,
            ended=lambda _: None,
        )

    def see(self, seen: ConfigMap | Job) -> None:
        run = self.sight.see(seen)
        if run is not None and run.uid in self.drivers:
            self.drivers[run.uid].dirty.set()

    def drive(self, key: str, workflow: Workflow = TWO) -> tuple[Driver, asyncio.Task[None]]:
        asked = request(key, workflow=workflow, waits=False)
        record = changed(map_record(asked, key), creation_timestamp=NOW + len(self.drivers) * SECOND)
        self.server.made[record.metadata.name] = record
        run = self.sight.see(record)
        assert run is not None
        driver = self.drivers[key] = Driver(self.tools, run)
        return driver, asyncio.create_task(driver.work())

    async def finish(self, driver: Driver) -> None:
        """Lets a run's Jobs end, one after the other, until it has ended."""
        while not driver.outcome.done():
            for job in list(driver.seen.jobs.values()):
                ended = msgspec.structs.replace(job, status=DONE, metadata=changed(job, version=20).metadata)
                self.see(ended)
            self.limiter.settle()
            await settled()
        assert driver.outcome.result().state is State.SUCCEEDED
        self.limiter.settle()
        await settled()

    async def cancel(self, driver: Driver) -> None:
        change = {"metadata": {"annotations": {names.CANCEL: "now"}}}
        self.see(await self.server.patch(ConfigMap, "n", driver.run.name, change))  # type: ignore[arg-type]
        await settled()
        assert driver.outcome.result().state is State.CANCELLED


async def settled() -> None:
    """Lets everybody go on who waits for no time to pass, or not for long."""
    await asyncio.sleep(0.05)


def lines_of(yard: Yard) -> list[str]:
    return [yard.sight.runs[run].uid for run in yard.limiter._visible.get("gpu", {})]


def test_a_run_that_was_served_leaves_the_line() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        (first, one), (second, two), (third, three) = (yard.drive(key) for key in ("first", "second", "third"))
        await settled()
        assert lines_of(yard) == ["second", "third"]
        await yard.finish(first)
        assert lines_of(yard) == ["third"]
        assert second.seen.jobs, "it was told that there is room"
        await yard.finish(second)
        assert lines_of(yard) == []
        await yard.finish(third)
        assert not yard.limiter._visible
        for task in (one, two, three):
            task.cancel()

    in_fake_time(scene())


def test_a_run_that_is_cancelled_while_it_waits_takes_no_place_with_it() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        (first, one), (second, two), (third, three) = (yard.drive(key) for key in ("first", "second", "third"))
        await settled()
        await yard.cancel(second)
        assert lines_of(yard) == ["third"]
        await yard.finish(first)
        assert third.seen.jobs
        for task in (one, two, three):
            task.cancel()

    in_fake_time(scene())


def test_a_run_that_is_driven_here_no_more_takes_no_place_with_it() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        (_, one), (_, two) = (yard.drive(key) for key in ("first", "second"))
        await settled()
        two.cancel()
        await asyncio.gather(two, return_exceptions=True)
        assert lines_of(yard) == []
        one.cancel()

    in_fake_time(scene())


def test_a_run_whose_first_job_waited_for_a_quota_is_accepted_when_it_is_made() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        yard.server.full = 1
        driver, task = yard.drive("first", flow(manifest()))
        await settled()
        assert not driver.launched.done()
        assert not driver.seen.jobs
        yard.see(yard.server.made[driver.run.name])
        async with asyncio.timeout(timedelta(minutes=1).total_seconds()):
            await asyncio.shield(driver.launched)
        assert driver.seen.jobs
        task.cancel()

    in_fake_time(scene())


def test_who_waits_does_not_go_before_one_that_runs_already_though_it_is_older() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        asked = request("runs", workflow=flow(limits=("gpu",)))
        ticket = Ticket(run=asked.run_id, workflow=asked.workflow)
        await yard.limiter.enter(ticket)  # and while its Job is being made, another record appears
        driver, task = yard.drive("older")
        await asyncio.sleep(6)
        assert not driver.seen.jobs
        running = changed(job_record(asked, "runs"), creation_timestamp=NOW + 60 * SECOND)
        yard.see(running)
        yard.limiter.keep_promise(ticket)
        await asyncio.sleep(6)
        assert not driver.seen.jobs
        yard.see(msgspec.structs.replace(changed(running, version=2), status=DONE))
        yard.limiter.settle()
        await settled()
        assert driver.seen.jobs
        task.cancel()

    in_fake_time(scene())


def test_a_run_that_its_source_neither_begins_nor_forgets_keeps_nobody_waiting() -> None:
    async def scene(what: str) -> None:
        yard = Yard(gpu=1)
        left = request("left", workflow=flow(limits=("gpu",)), held=True)
        record = changed(map_record(left, "left"), annotations={names.HELD: None, what: "true"}, creation_timestamp=yard.tools.clock.now())
        yard.server.made[record.metadata.name] = record
        yard.see(record)
        begun = asyncio.get_running_loop().time()
        ticket = Ticket(run="new", workflow=flow(limits=("gpu",)))
        await yard.limiter.enter(ticket)
        waited = asyncio.get_running_loop().time() - begun
        assert limits.UNUSED.total_seconds() <= waited <= limits.UNUSED.total_seconds() + 10, "its source may be about to let it begin"
        yard.see(changed(record, version=2, annotations={what: None}))
        yard.limiter.keep_promise(ticket)
        assert yard.limiter._active("gpu") == {left.run_id}, "it counts again once it begins"

    for what in (names.HELD, names.INCOMPLETE):
        in_fake_time(scene(what))


def test_a_run_that_goes_on_counts_whatever_somebody_writes_on_its_record() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        driver, task = yard.drive("first")
        await settled()
        assert driver.seen.jobs
        yard.see(changed(driver.seen.record, version=30, annotations={names.HELD: "true"}))
        assert yard.limiter._active("gpu") == {driver.run.id}
        task.cancel()

    in_fake_time(scene())


@pytest.mark.parametrize("gives_up", [None, timedelta(minutes=1)], ids=str)
def test_a_right_that_is_missing_is_waited_for_and_a_command_gives_up(gives_up: timedelta | None) -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        yard.tools = replace(yard.tools, gives_up=gives_up)
        yard.server.barred = True
        driver, working = yard.drive("first")
        await asyncio.sleep(59)
        assert not driver.outcome.done()
        await asyncio.sleep(11)
        if gives_up is not None:
            assert isinstance(driver.outcome.exception(), Forbidden)
            return
        assert not driver.outcome.done()
        yard.server.barred = False
        await asyncio.sleep(10)
        await yard.finish(driver)
        working.cancel()

    in_fake_time(scene())


def test_a_run_that_waits_for_long_says_so_on_its_record_once() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        (first, one), (second, two) = (yard.drive(key) for key in ("first", "second"))
        await asyncio.sleep(4)
        assert yard.server.notes == [], "a moment is not worth a write"
        await asyncio.sleep(60)
        assert yard.server.notes == [Reason.WAITING_FOR_LIMIT]
        assert home.read(second.seen.record, "n").reason == Reason.WAITING_FOR_LIMIT
        await yard.finish(first)
        yard.server.full = 20  # before its second Job is made: a hundred seconds
        await yard.finish(second)
        assert yard.server.notes == [Reason.WAITING_FOR_LIMIT, None, Reason.QUOTA_EXCEEDED, None], "what is over goes with other news"
        assert home.read(second.seen.record, "n").reason == ""
        for task in (one, two):
            task.cancel()

    in_fake_time(scene())


def test_a_run_that_waited_for_a_quota_and_a_right_has_its_three_tries_of_an_admission_hook() -> None:
    async def scene(hooked: int, state: State) -> None:
        yard = Yard(gpu=1)
        yard.server.full, yard.server.hooked = 5, hooked
        driver, task = yard.drive("first", flow(manifest()))
        await asyncio.sleep(30)
        yard.server.barred = True
        await asyncio.sleep(30)
        yard.server.barred = False
        await asyncio.sleep(60)
        if state is State.SUCCEEDED:
            await yard.finish(driver)
        assert driver.outcome.result().state is state
        task.cancel()

    in_fake_time(scene(2, State.SUCCEEDED))
    in_fake_time(scene(3, State.FAILED))


def test_many_that_wait_for_a_quota_ask_no_more_often_than_some_and_all_go_on_when_there_is_room() -> None:
    async def scene(many: int) -> None:
        yard = Yard(gpu=1)
        yard.server.full = 10**9
        driven = [yard.drive(str(number), flow(manifest())) for number in range(many)]
        await asyncio.sleep(30)
        begun = yard.server.tries
        await asyncio.sleep(60)
        assert (yard.server.tries - begun) / 60 < 1.5 * rounds.A_SECOND, "all of them together"
        yard.server.full = 0
        await asyncio.sleep(15)
        assert all(driver.seen.jobs for driver, _ in driven), "one that got through tells others"
        assert not yard.tools.rounds._waiting
        for _, task in driven:
            task.cancel()

    in_fake_time(scene(200))


def test_many_that_wait_for_a_limit_look_by_themselves_no_more_often_than_some() -> None:
    async def scene(many: int) -> None:
        yard = Yard(gpu=1)
        looks = counted(yard)
        tasks = [yard.drive(str(number), flow(manifest(), limits=("gpu",)))[1] for number in range(many)]
        await asyncio.sleep(30)
        begun = len(looks)
        await asyncio.sleep(60)
        assert (len(looks) - begun) / 60 < 1.5 * rounds.A_SECOND
        for task in tasks:
            task.cancel()

    in_fake_time(scene(200))


@pytest.mark.parametrize("what", ["limit", "quota", "right"])
def test_a_run_of_many_jobs_asks_once_for_all_of_them(what: str) -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        wide = Workflow(name="etl", steps=tuple(Step(name=f"s{n}", job=Template(manifest()), limits=("gpu",)) for n in range(100)))
        looks = counted(yard)
        yard.server.full, yard.server.barred = (10**9 if what == "quota" else 0), what == "right"
        _, task = yard.drive("wide", wide)
        await asyncio.sleep(28)
        assert len(looks) <= 6 * IN_FLIGHT, "at each of six looks"
        task.cancel()

    in_fake_time(scene())


def counted(yard: Yard) -> list[str]:
    """Whoever asks for a place, from now on."""
    asked, admit = list[str](), yard.limiter.admit

    async def counting(run: str, *more: Any) -> Any:
        asked.append(run)
        return await admit(run, *more)

    yard.limiter.admit = counting  # type: ignore[method-assign, assignment]
    return asked


def test_steps_that_a_leader_starts_at_once_do_not_pass_a_limit_of_steps_together() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        pair = flow(manifest(), manifest())
        pair = replace(pair, steps=tuple(replace(step, limits=("gpu",)) for step in pair.steps))
        driver, task = yard.drive("pair", pair)
        await settled()
        assert len(driver.seen.jobs) == 1
        task.cancel()

    in_fake_time(scene())


def test_a_run_does_not_go_before_one_whose_job_is_being_made_though_it_is_older() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        younger, one = yard.drive("younger")
        await yard.server.asked.wait()
        older, two = yard.drive("older")
        older.seen.record = changed(older.seen.record, creation_timestamp=NOW - SECOND)
        await settled()
        assert younger.seen.jobs
        assert not older.seen.jobs
        for task in (one, two):
            task.cancel()

    in_fake_time(scene())
