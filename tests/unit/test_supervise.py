"""Triggers that wrap triggers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.contracts import Engine
from jobyard.engine.clock import SystemClock
from jobyard.model.errors import Unavailable
from jobyard.model.run import Outcome, Run, RunRequest, RunView, State, StepView
from jobyard.model.workflow import Workflow
from jobyard.patience import Backoff
from jobyard.supervise import Budget, BudgetWrong, FailureBudget, LeaderOnly, Paused, Report, Restarts, Stage, Supervised, Switch

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK = SystemClock()
QUICK = Restarts(backoff=Backoff(first=0.001, longest=0.005))


class Ended:
    """An engine whose runs have all ended, one way."""

    def __init__(self, state: State = State.SUCCEEDED) -> None:
        self.state = state
        self.submitted: list[str] = []
        self.released: dict[str, datetime | None] = {}

    async def submit(self, request: RunRequest) -> Run:
        self.submitted.append(request.key)
        return self._run(request.key, request.trigger)

    def _run(self, key: str, trigger: str) -> Run:
        return Run(id=key, name=key, uid=key, namespace="n", trigger=trigger, key=key, workflow="w", created=NOW)

    async def outcome(self, run: Run) -> Outcome:
        view = RunView(id=run.id, name=run.name, workflow="w", namespace="n", trigger="t", state=self.state, started=NOW)
        return Outcome(state=self.state, reason="", view=view)

    async def runs(self, trigger: str, namespace: str = "") -> list[Run]:
        mine = [self._run(key, trigger) for key in self.submitted]
        return [replace(run, state=self.state, finished=CLOCK.now()) for run in mine if run.id not in self.released]

    async def release(self, run: Run, until: datetime | None = None) -> None:
        self.released[run.id] = until

    async def begin(self, run: Run) -> None:
        raise NotImplementedError

    async def abandon(self, run: Run) -> None:
        raise NotImplementedError

    async def room(self, workflow: Workflow, namespace: str = "") -> int:
        raise NotImplementedError

    async def try_out(self, request: RunRequest) -> None:
        raise NotImplementedError

    async def find(self, run: str, namespace: str = "") -> Run:
        raise NotImplementedError

    async def last_lines(self, run: Run, step: StepView, count: int) -> list[str]:
        raise NotImplementedError


class Script:
    """A trigger that does one thing after the other, one each time it is started; then it waits."""

    name = "script"

    def __init__(self, *parts: Exception | None) -> None:
        self.parts = list(parts)
        self.starts = 0
        self.waiting = asyncio.Event()
        self.cancelled = 0

    async def run(self, engine: Engine) -> None:
        self.starts += 1
        if self.parts:
            part = self.parts.pop(0)
            if part is not None:
                raise part
            return
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.waiting.clear()
            raise


async def until(report: Report, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await report.changed.wait()


async def test_a_trigger_that_fails_or_ends_is_started_again_and_says_why() -> None:
    script = Script(ValueError("the source is gone"), ExceptionGroup("g", [Unavailable(server="s", what="is away")]), None)
    report = Report("script", CLOCK)
    seen = []
    task = asyncio.create_task(Supervised(script, report, CLOCK, QUICK).run(Ended()))
    async with asyncio.timeout(30):
        while not script.waiting.is_set():
            await report.changed.wait()
            seen.append((report.health.stage, report.health.error))
            await asyncio.sleep(0)
    errors = [error for stage, error in seen if stage is Stage.BACKING_OFF]
    assert errors[0] == "the source is gone"
    assert errors[1].startswith("the cluster at s is away")
    assert "a trigger never should" in errors[2]
    assert (script.starts, report.health.stage, report.health.failures) == (4, Stage.RUNNING, 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert report.health.stage is Stage.ENDED
    assert not report.health.is_well


@given(st.integers(1, 1000), st.floats(0, 1))
def test_the_back_off_has_full_jitter_and_a_bound(failures: int, chance: float) -> None:
    backoff = Restarts().backoff
    assert 0 <= backoff.delay(failures, chance) <= 60
    assert backoff.delay(failures, 1) == min(2 ** min(failures - 1, 20), 60)
    assert backoff.delay(failures, chance, asked=90) == 90


@pytest.mark.parametrize(("wrap", "stage"), [(LeaderOnly, Stage.STANDING_BY), (Paused, Stage.PAUSED)])
async def test_a_gate_starts_and_stops_its_trigger(wrap: type[LeaderOnly] | type[Paused], stage: Stage) -> None:
    script, switch, report = Script(), Switch(), Report("script", CLOCK)
    switch.close()
    task = asyncio.create_task(wrap(script, switch, report).run(Ended()))
    await until(report, lambda: report.health.stage is stage)
    assert script.starts == 0
    for times in (1, 2):
        switch.open()
        async with asyncio.timeout(30):
            await script.waiting.wait()
        assert (script.starts, report.health.stage) == (times, Stage.RUNNING)
        switch.close()
        await until(report, lambda: report.health.stage is stage)
        assert script.cancelled == times
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_gate_hands_on_a_failure() -> None:
    report = Report("script", CLOCK)
    with pytest.raises(ValueError, match="bad"):
        await Paused(Script(ValueError("bad")), Switch(), report).run(Ended())


def test_a_budget_rests_until_it_has_room_again() -> None:
    budget = Budget(failures=3, within=timedelta(minutes=10))
    times = [NOW + timedelta(minutes=minute) for minute in (0, 4, 8)]
    assert budget.rest(times[:2], times[1]) is None
    assert budget.rest(times, times[2]) == NOW + timedelta(minutes=10)
    assert budget.rest(times, NOW + timedelta(minutes=10)) is None


@pytest.mark.parametrize(("failures", "within"), [(0, timedelta(hours=1)), (-1, timedelta(hours=1)), (1, timedelta(0))])
def test_a_budget_that_nothing_could_keep_to_is_refused(failures: int, within: timedelta) -> None:
    with pytest.raises(BudgetWrong, match="expected at least 1"):
        Budget(failures=failures, within=within)


async def test_what_failed_is_read_from_the_cluster_and_kept_while_it_counts() -> None:
    """A process that has just started knows what failed before, when it did, and keeps such a run until it counts no more."""
    engine = Ended(State.FAILED)
    engine.submitted = ["a", "b", "c"]
    report, budget = Report("feeder", CLOCK), Budget(failures=3, within=timedelta(hours=1))
    task = asyncio.create_task(FailureBudget(Feeder(), budget, report, CLOCK).run(engine))
    await until(report, lambda: report.health.stage is Stage.PAUSED)
    assert engine.submitted == ["a", "b", "c"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    class Releases:
        name = "feeder"

        async def run(self, engine: Engine) -> None:
            for run in await engine.runs("feeder"):
                await engine.release(run)

    await FailureBudget(Releases(), budget, report, CLOCK).run(engine)
    assert all(kept is not None and timedelta(minutes=59) < kept - CLOCK.now() <= timedelta(hours=1) for kept in engine.released.values())
    engine.released, engine.state = {}, State.SUCCEEDED
    await FailureBudget(Releases(), budget, report, CLOCK).run(engine)
    assert engine.released == {"a": None, "b": None, "c": None}


class Closed(Ended):
    """An engine that has just started: it knows of a namespace once that was asked for."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.opened: set[str] = set()

    async def runs(self, trigger: str, namespace: str = "") -> list[Run]:
        self.opened |= {namespace} - {""}
        return [run for run in await super().runs(trigger) if run.namespace in self.opened]


async def test_what_failed_in_a_namespace_that_is_not_open_yet_counts_too() -> None:
    engine = Closed(State.FAILED)
    engine.submitted = ["a", "b", "c"]
    report, budget = Report("feeder", CLOCK), Budget(failures=3, within=timedelta(hours=1))

    class Elsewhere:
        name = "feeder"

        async def run(self, engine: Engine) -> None:
            await engine.submit(RunRequest(trigger="feeder", key="d", workflow=Workflow(name="w", steps=()), namespace="n"))

    task = asyncio.create_task(FailureBudget(Elsewhere(), budget, report, CLOCK).run(engine))
    await until(report, lambda: report.health.stage is Stage.PAUSED)
    assert engine.submitted == ["a", "b", "c"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    engine.opened.clear()

    class Hands:
        name = "feeder"

        async def run(self, handed: Engine) -> None:
            await handed.release(engine._run("a", "feeder"))

    await FailureBudget(Hands(), budget, report, CLOCK).run(engine)
    assert engine.released["a"] is not None, "it still counts"


class Feeder:
    """A trigger that submits one run after the other."""

    name = "feeder"

    async def run(self, engine: Engine) -> None:
        for number in range(1000):
            await engine.outcome(await engine.submit(RunRequest(trigger="feeder", key=str(number), workflow=Workflow(name="w", steps=()))))


async def test_a_used_up_budget_lets_submit_wait_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    report, engine = Report("feeder", CLOCK), Ended(State.FAILED)
    budget = Budget(failures=3, within=timedelta(hours=1))
    task = asyncio.create_task(FailureBudget(Feeder(), budget, report, CLOCK).run(engine))
    await until(report, lambda: report.health.stage is Stage.PAUSED)
    assert engine.submitted == ["0", "1", "2"]
    assert "3 of its runs failed within 1h" in report.health.error
    assert [each.getMessage() for each in caplog.records if "rests" in each.getMessage()] == [
        "trigger feeder rests: 3 of its runs failed within 1h. It goes on in 1h00m; what comes stays in its source"
    ]
    assert report.health.until is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_failure_is_news_again_after_it_went_well_in_between(caplog: pytest.LogCaptureFixture) -> None:
    restarts = Restarts(backoff=QUICK.backoff, steady=timedelta(hours=1))
    now = NOW

    class Clock:
        def now(self) -> datetime:
            return now

    class Ages(Script):
        async def run(self, engine: Engine) -> None:
            nonlocal now
            now += timedelta(hours=2 if self.starts == 2 else 0)
            await super().run(engine)

    script = Ages(*(ValueError("the source is gone") for _ in range(4)))
    report = Report("script", Clock())
    with caplog.at_level("WARNING"):
        task = asyncio.create_task(Supervised(script, report, Clock(), restarts).run(Ended()))
        await until(report, script.waiting.is_set)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [record.getMessage() for record in caplog.records if "the source is gone" in record.getMessage()] == [
        "trigger script failed: the source is gone. It is tried again, less and less often"
    ] * 2
    assert report.health.failures == 2


async def test_a_cancellation_that_comes_out_of_a_trigger_is_a_failure() -> None:
    script = Script(asyncio.CancelledError())  # type: ignore[arg-type]
    report = Report("script", CLOCK)
    task = asyncio.create_task(Supervised(script, report, CLOCK, QUICK).run(Ended()))
    await until(report, script.waiting.is_set)
    assert report.restarts == 1
    assert report.health.error == "something that it waited for was cancelled"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_budget_that_is_used_up_keeps_nobody_from_a_run_that_is_there() -> None:
    class Known(Ended):
        async def runs(self, trigger: str, namespace: str = "") -> list[Run]:
            return [replace(run, id=request("one").run_id) for run in await super().runs(trigger, namespace)]

    def request(key: str) -> RunRequest:
        return RunRequest(trigger="t", key=key, workflow=Workflow(name="w", steps=()))

    engine, begun = Known(State.FAILED), list[str]()

    class Twice:
        name = "t"

        async def run(self, engine: Engine) -> None:
            for key in ("one", "one", "two"):
                await engine.submit(request(key))
                begun.append(key)

    report = Report("t", CLOCK)
    budget = Budget(failures=1, within=timedelta(hours=1))
    task = asyncio.create_task(FailureBudget(Twice(), budget, report, CLOCK).run(engine))
    await until(report, lambda: report.health.stage is Stage.PAUSED)
    assert begun == ["one", "one"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
