"""Waiting for a place in a limit: what it costs, in what order, and that nobody's going leaves a place unused."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import cast

import msgspec

from jobyard.contracts import Cluster
from jobyard.engine import home, limits
from jobyard.engine.clock import SystemClock
from jobyard.engine.limiter import Limiter
from jobyard.engine.lines import PATIENCE, Ticket
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import Sight
from jobyard.model.objects import ConfigMap, Job, JobStatus, Metadata
from jobyard.model.workflow import Workflow
from tests.faketime import in_fake_time
from tests.unit.samples import COMPLETE, changed, flow, job_record, manifest, map_record, request

DONE = msgspec.convert(COMPLETE, JobStatus)
GPU = flow(limits=("gpu",))


class Yard:
    """A namespace whose runs begin when they are let in, and end when the test says so. No cluster: nothing here asks one."""

    def __init__(self, **numbers: int) -> None:
        self.sight = Sight()
        data = {name: str(number) for name, number in numbers.items()}
        self.sight.see(ConfigMap(metadata=Metadata(name=limits.LIMITS, uid="limits", resource_version="1"), data=data))
        self.limiter = Limiter(cast(Cluster, None), SystemClock(), "n", self.sight, leads=lambda: True)
        self.running: deque[Job] = deque()
        self.began = asyncio.Event()
        self.most = 0

    async def start(self, key: str, workflow: Workflow = GPU) -> None:
        """What a submit does: waits for room, makes the Job, sees it."""
        asked = request(key, workflow=workflow)
        ticket = Ticket(run=asked.run_id, workflow=workflow)
        await self.limiter.enter(ticket)
        await asyncio.sleep(0)  # the create is under way
        made = job_record(asked, key)
        self.sight.see(made)
        self.limiter.keep_promise(ticket)
        self.running.append(made)
        self.most = max(self.most, len(self.running))
        self.began.set()

    def end(self) -> str:
        """The oldest of those that run ends; says its key."""
        job = self.running.popleft()
        self.sight.see(msgspec.structs.replace(changed(job, version=2), status=DONE))
        self.limiter.settle()
        return job.metadata.uid

    def submit(self, key: str, workflow: Workflow = GPU) -> asyncio.Task[None]:
        return asyncio.create_task(self.start(key, workflow))

    async def end_all(self, count: int) -> list[str]:
        """Lets so many runs end, each as soon as there is one."""
        done = []
        async with asyncio.timeout(PATIENCE - 1):
            for _ in range(count):
                if not self.running:
                    self.began.clear()
                    await self.began.wait()
                done.append(self.end())
        return done


async def turns(count: int = 10) -> None:
    """Lets whoever can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_five_thousand_that_wait_for_ten_places_look_three_times_a_place_at_most() -> None:
    async def scene() -> None:
        yard = Yard(gpu=10)
        tasks = [yard.submit(str(number)) for number in range(5000)]
        await turns()
        assert len(yard.running) == 10
        assert await yard.end_all(5000) == [str(number) for number in range(5000)], "first come, first served"
        await asyncio.gather(*tasks)
        assert yard.most == 10
        assert yard.limiter.looks <= 3 * 5000
        assert not yard.limiter.lines._lines
        assert not yard.limiter._promised

    in_fake_time(scene())


def test_who_needs_no_limit_that_is_full_passes_at_once() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        waiting = [yard.submit(f"gpu {number}") for number in range(5)]
        await turns()
        for workflow in (flow(), flow(limits=("nobody has set this",)), flow(max_runs=2)):
            await asyncio.wait_for(yard.start(f"free {workflow.max_runs} {workflow.limits}", workflow), 1)
        assert not any(task.done() for task in waiting[1:])
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    in_fake_time(scene())


def test_a_limit_of_the_workflow_itself_is_waited_for_too() -> None:
    async def scene() -> None:
        yard = Yard()
        tasks = [yard.submit(str(number), flow(max_runs=1)) for number in range(3)]
        assert await yard.end_all(3) == ["0", "1", "2"]
        await asyncio.gather(*tasks)
        assert yard.most == 1

    in_fake_time(scene())


def test_who_leaves_passes_its_turn_on() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        tasks = [yard.submit(str(number)) for number in range(4)]
        await turns()
        tasks[1].cancel()  # while it waits
        await turns()
        yard.end()
        tasks[2].cancel()  # it was offered the place, and has not looked yet
        await asyncio.wait_for(tasks[3], 1)
        assert [job.metadata.uid for job in yard.running] == ["3"]

    in_fake_time(scene())


def test_two_that_wait_with_the_same_run_are_two_and_one_going_leaves_the_other_in_line() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        first = yard.submit("first")
        await turns()
        one, other = yard.submit("twice"), yard.submit("twice")
        await turns()
        one.cancel()
        await turns()
        yard.end()
        await asyncio.wait_for(asyncio.gather(first, other), 1)

    in_fake_time(scene())


def test_a_limit_that_is_raised_lets_in_as_many_more() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        tasks = [yard.submit(str(number)) for number in range(6)]
        await turns()
        raised = ConfigMap(metadata=Metadata(name=limits.LIMITS, uid="limits", resource_version="2"), data={"gpu": "4"})
        yard.sight.see(raised)
        yard.limiter.settle()
        await turns()
        assert len(yard.running) == 4
        yard.sight.forget("limits")
        yard.limiter.settle()
        await asyncio.wait_for(asyncio.gather(*tasks), 1)

    in_fake_time(scene())


def test_the_first_in_line_looks_again_by_itself_after_a_while() -> None:
    async def scene() -> None:
        yard = Yard(gpu=1)
        await yard.start("first")
        waiting = yard.submit("second")
        await turns()
        begun = asyncio.get_running_loop().time()
        job = yard.running.popleft()
        yard.sight.see(msgspec.structs.replace(changed(job, version=2), status=DONE))  # and nobody settles
        await waiting
        assert asyncio.get_running_loop().time() - begun == PATIENCE

    in_fake_time(scene())


def test_nothing_is_kept_of_a_workflow_whose_runs_are_over() -> None:
    async def scene() -> None:
        yard = Yard()
        for number in range(5):
            one = replace(flow(max_runs=1), name=f"etl-{number}")
            runs = [yard.submit(f"{number} {each}", one) for each in range(2)]
            assert len(await yard.end_all(2)) == 2
            await asyncio.gather(*runs)
        limiter = yard.limiter
        kept = (limiter._workflows, limiter._promised, limiter._visible, limiter._waiting, limiter.lines._lines, limiter.lines._again)
        assert not any(kept)

    in_fake_time(scene())


A, B, BOTH = flow(limits=("a",)), flow(limits=("b",)), flow(limits=("a", "b"))


def wait_for_gpu(yard: Yard, key: str) -> RunSight:
    """A run that everybody can see, and that stands in line for a place of a limit that has none."""
    asked = request(key, workflow=flow(manifest(), manifest(), limits=("gpu",)), trigger="cli", waits=False)
    seen = yard.sight.see(map_record(asked, key))
    assert seen is not None
    yard.limiter.line_up(seen, {"gpu"}, lambda: None)
    return seen


def test_who_lacks_one_place_keeps_nobody_back_who_needs_another() -> None:
    async def scene() -> None:
        yard = Yard(namespace=1, gpu=0)
        for number in range(3):
            wait_for_gpu(yard, f"seen {number}")
        in_its_source = yard.submit("gpu")
        await turns()
        await asyncio.wait_for(yard.submit("plain", flow()), 1)
        assert yard.end() == "plain"
        person = request("visible", workflow=flow(manifest(), manifest()), waits=False)
        assert yard.sight.see(map_record(person, "visible"))
        assert await yard.limiter.admit(person.run_id, person.workflow) is None
        in_its_source.cancel()
        await asyncio.gather(in_its_source, return_exceptions=True)

    in_fake_time(scene())


def test_a_run_that_another_process_lets_wait_keeps_nobody_back_until_it_begins() -> None:
    async def scene() -> None:
        yard = Yard(namespace=1)
        asked = request("theirs", workflow=flow(manifest(), manifest()), waits=False)
        record = map_record(asked, "theirs")
        yard.sight.see(record)
        waiting = yard.submit("ours", flow())
        await turns()
        assert not waiting.done(), "it may be about to begin"
        yard.sight.see(changed(record, version=2, annotations=home.note_waiting("WaitingForLimit", "full")["metadata"]["annotations"]))
        await asyncio.wait_for(waiting, PATIENCE + 1)

    in_fake_time(scene())


def test_who_needs_two_limits_is_not_passed_for_ever_by_those_who_need_one() -> None:
    async def scene() -> None:
        yard = Yard(a=1, b=1)
        tasks = [yard.submit("a", A), yard.submit("b", B)]
        await turns()
        tasks.append(yard.submit("both", BOTH))
        await turns()
        tasks += [yard.submit(f"{number}", A if number % 2 else B) for number in range(20)]
        await turns()
        ended = []
        while "both" not in ended:
            ended.append(yard.end())
            await turns(20)
        assert len(ended) <= 8
        assert yard.most == 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    in_fake_time(scene())


def test_who_needs_two_limits_where_everybody_sees_it_stands_in_line_for_both_once_it_comes_back() -> None:
    async def scene() -> None:
        yard = Yard(a=1, b=1)
        asked = request("both", workflow=flow(manifest(), manifest(), limits=("a", "b")), waits=False)
        seen = yard.sight.see(map_record(asked, "both"))
        assert seen is not None
        for lacks, counts in (({"a"}, {"a"}), ({"b"}, {"b"}), ({"a"}, {"a", "b"}), ({"b"}, {"a", "b"})):
            yard.limiter.line_up(seen, lacks, lambda: None)
            assert {scope for scope in "ab" if yard.limiter._active(scope)} == counts
        yard.limiter.line_up(seen, (), lambda: None)
        assert not yard.limiter._visible
        assert not yard.limiter._waiting

    in_fake_time(scene())
