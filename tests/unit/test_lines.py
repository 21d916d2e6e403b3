"""Waiting for a place in a limit: what it costs, in what order, and that nobody's going leaves a place unused."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import cast

import msgspec

from jobyard.contracts import Cluster
from jobyard.engine import limits
from jobyard.engine.clock import SystemClock
from jobyard.engine.limiter import Limiter
from jobyard.engine.lines import PATIENCE, Lines
from jobyard.engine.sight import Sight
from jobyard.model.objects import ConfigMap, Job, JobStatus, Metadata
from jobyard.model.workflow import Workflow
from tests.faketime import in_fake_time
from tests.unit.samples import COMPLETE, changed, flow, job_record, request

DONE = msgspec.convert(COMPLETE, JobStatus)
GPU = flow(limits=("gpu",))


class Yard:
    """A namespace whose runs begin when they are let in, and end when the test says so. No cluster: nothing here asks one."""

    def __init__(self, **numbers: int) -> None:
        self.sight = Sight()
        data = {name: str(number) for name, number in numbers.items()}
        self.sight.see(ConfigMap(metadata=Metadata(name=limits.LIMITS, uid="limits", resource_version="1"), data=data))
        self.limiter = Limiter(cast(Cluster, None), SystemClock(), "n", self.sight, alone=True)
        self.running: deque[Job] = deque()
        self.began = asyncio.Event()
        self.most = 0

    async def start(self, key: str, workflow: Workflow = GPU) -> None:
        """What a submit does: waits for room, makes the Job, sees it."""
        asked = request(key, workflow=workflow)
        await self.limiter.enter(asked.run_id, workflow)
        await asyncio.sleep(0)  # the create is under way
        made = job_record(asked, key)
        self.sight.see(made)
        self.limiter.keep_promise(asked.run_id)
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
        assert not yard.limiter.lines._waiting
        assert not yard.limiter.lines._called
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
        free = {"gpu": 0}
        lines = Lines(lambda scope: free[scope])
        begun = asyncio.get_running_loop().time()
        await lines.wait("gpu", "a")
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
        kept = (limiter._workflows, limiter._promised, limiter._visible, limiter.lines._waiting, limiter.lines._called)
        assert not any(kept)

    in_fake_time(scene())
