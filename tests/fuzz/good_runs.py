"""Good work that goes on beside what is hostile, and how long it takes."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.namespace import Options
from jobyard.model.errors import JobyardError
from jobyard.model.run import Run, RunRequest, State
from jobyard.model.workflow import Workflow
from tests.flows import read
from tests.manifests import step, workflow
from tests.waiting import BOUND

_GIVES = """echo '{"rows": 3}' > /dev/termination-log; sleep 1"""


@dataclass
class GoodRuns:
    """An engine that drives all of a namespace, and good runs of its own."""

    engine: ClusterEngine
    driving: asyncio.Task[None]
    flows: tuple[Workflow, ...]
    decoy: Workflow
    words: list[str] = field(default_factory=list)
    """What went wrong with them."""

    async def batch(self) -> float:
        """Runs all flows at once; the seconds until the last has ended."""
        begun = time.monotonic()
        runs = [await self.engine.submit(_request(flow)) for flow in self.flows]
        await asyncio.gather(*(self._end(run) for run in runs))
        return time.monotonic() - begun

    async def _end(self, run: Run) -> None:
        try:
            async with asyncio.timeout(BOUND):
                outcome = await self.engine.outcome(run)
        except (TimeoutError, JobyardError) as error:
            self.words.append(f"good work lost: {run.name} has no outcome ({type(error).__name__} {error})")
            return
        if outcome.state is not State.SUCCEEDED:
            self.words.append(f"good work lost: {run.name} ended as {outcome.state} {outcome.reason}")

    async def lay_out_decoy(self) -> Run:
        """A run that goes on, to be copied."""
        return await self.engine.submit(_request(self.decoy))


def _request(flow: Workflow) -> RunRequest:
    return RunRequest(trigger="cli", key=uuid.uuid4().hex, workflow=flow, waits=False, key_names_workflow=True)


@asynccontextmanager
async def good_runs(cluster: HttpCluster, namespace: str, folder: Path) -> AsyncIterator[GoodRuns]:
    """Good runs of a namespace; afterwards `words` says whether the engine lived, and what it traced back."""
    alone = read(workflow("alone", step("a", "sleep 1")), folder)
    chain = read(workflow("chain", step("a", _GIVES), step("b", "sleep 1; test {{ steps.a.outputs.rows }} = 3", "a")), folder)
    decoy = read(workflow("decoy", step("a", _GIVES), step("b", "sleep 600", "a")), folder)
    with _listening() as raised:
        async with open_engine(cluster, SystemClock(), namespace, Options()) as engine:
            driving = asyncio.create_task(engine.adopt())
            good = GoodRuns(engine=engine, driving=driving, flows=(alone, alone, chain, chain), decoy=decoy)
            try:
                yield good
                if driving.done():
                    good.words.append(f"the engine ended: {driving.exception()!r}")
            finally:
                driving.cancel()
                await asyncio.gather(driving, return_exceptions=True)
                good.words += [f"the engine traced back: {each}" for each in raised]


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What is logged with a traceback meanwhile, and what no task was there to take."""
    raised: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                raised.append(f"{record.getMessage()} {record.exc_info[1]!r}")

    listener = Listener()
    loggers = [logging.getLogger(name) for name in ("jobyard", "asyncio")]
    for logger in loggers:
        logger.addHandler(listener)
    try:
        yield raised
    finally:
        for logger in loggers:
            logger.removeHandler(listener)
