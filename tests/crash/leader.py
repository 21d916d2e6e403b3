"""One of several processes that serve a folder, of which one leads: `python -m tests.crash.leader KUBECONFIG NAMESPACE FOLDER NAME`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.cluster.lease import open_leadership
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.supervise import LeaderOnly, Report, Supervised
from tests.toy.folder import FolderTrigger


async def main(kubeconfig: str, namespace: str, folder: str, name: str) -> None:
    clock = SystemClock()
    async with (
        open_cluster(connect(kubeconfig=kubeconfig)) as cluster,
        open_leadership(cluster, clock, namespace, "jobyard", name) as leadership,
        open_engine(cluster, clock, namespace) as engine,
    ):
        trigger = FolderTrigger(Path(folder))
        report = Report(trigger.name, clock)
        await Supervised(LeaderOnly(trigger, leadership, report), report, clock).run(engine)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
