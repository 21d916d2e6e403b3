"""One process that serves a scenario, and dies at the call that it is told to. Forked from one that has loaded all of it (`nursery`)."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jobyard import external
from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.engine import act, home
from jobyard.engine.engine import ClusterEngine
from jobyard.model import names
from jobyard.model.job import render
from jobyard.model.objects import Manifest
from jobyard.model.run import Run, RunRequest
from tests.crash.place import Place
from tests.crash.scenarios import SCENARIOS
from tests.toy import folder

Side = Literal["before", "after"]


class Killer:
    """Counts the calls, and kills this very process with -9 right before or right after the n-th. 0: never."""

    def __init__(self, side: Side, number: int) -> None:
        self.count = 0
        self._side = side
        self._number = number

    def before(self, call: str) -> None:
        self.count += 1
        if self._side == "before" and self.count == self._number:
            os.kill(os.getpid(), signal.SIGKILL)

    def after(self, call: str, seconds: float) -> None:
        if self._side == "after" and self.count >= self._number > 0:
            os.kill(os.getpid(), signal.SIGKILL)


def break_on_purpose(how: str, source: Path) -> None:
    """A build that breaks a promise: the harness must catch it."""
    if how == "generate-name":  # names that are not derived from the key

        @functools.cache
        def random_name(run: str, role: str, step: str, attempt: int) -> str:
            return f"{names.slug(step, 40)}-{uuid.uuid4().hex[:8]}"

        names.job_name = random_name
    elif how == "keep-ttl":  # a Job may go before its run is released

        def keep_ttl(manifest: Manifest, **told: Any) -> Manifest:
            job = render(manifest, **told)
            ttl = job["metadata"]["annotations"].pop(names.TTL, None)
            return {**job, "spec": {**job["spec"], "ttlSecondsAfterFinished": int(ttl)}} if ttl else job

        vars(act)["render"] = vars(home)["render"] = keep_ttl
    elif how == "let-go-first":  # the source lets go before the run's record is there
        submit = ClusterEngine.submit

        async def late(self: ClusterEngine, request: RunRequest) -> Run:
            for file in source.glob(f"*/{request.key}"):
                folder.move(file, None)
            return await submit(self, request)

        ClusterEngine.submit = late  # type: ignore[method-assign]


async def serve(scenario: str, kubeconfig: str, namespace: str, source: Path, process: int) -> None:
    wanted = SCENARIOS[scenario]
    async with open_cluster(connect(kubeconfig=kubeconfig)) as cluster, wanted.opened(cluster, namespace, source, process) as engine:
        await wanted.serve(Place(engine=engine, cluster=cluster, namespace=namespace, folder=source, process=process))


def main(told: Mapping[str, Any], out: Path) -> None:
    """Serves as it is told. How many calls were made is written to `out`, and what goes wrong beside it."""
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "HOME": "/tmp"})
    with out.with_suffix(".err").open("wb") as errors:
        os.dup2(errors.fileno(), 2)
    break_on_purpose(told["broken"], Path(told["folder"]))
    killer = Killer(told["side"], told["number"])
    with external.observe(killer):
        asyncio.run(serve(told["scenario"], told["kubeconfig"], told["namespace"], Path(told["folder"]), told["process"]))
    out.write_text(str(killer.count))
