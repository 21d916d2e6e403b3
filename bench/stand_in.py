"""Ends Jobs by their status alone, as a controller of its own: `python -m bench.stand_in KUBECONFIG NAMESPACE [SECONDS]`.

A node starts about four pods a second, and the API server takes hundreds of Jobs. Jobs that say `managedBy: CONTROLLER` are left alone by
Kubernetes' own controller and have no pods; here they are complete SECONDS after they were seen. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from bench.raw import Raw, open_raw

CONTROLLER = "bench.jobyard.dev/stand-in"
IN_FLIGHT = 32
TRIES = 60


def complete(job: dict[str, Any]) -> dict[str, Any]:
    """The status of a Job that is complete, as a strict API server takes it. It counts no pods: there were none to be looked for."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    since = max(now, job["metadata"]["creationTimestamp"])
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": since} for kind in ("SuccessCriteriaMet", "Complete")]
    return {"status": {"startTime": since, "completionTime": since, "conditions": conditions}}


def is_due(job: dict[str, Any]) -> bool:
    spec, status = job["spec"], job.get("status", {})
    return spec.get("managedBy") == CONTROLLER and not spec.get("suspend") and not status.get("conditions")


async def serve(raw: Raw, seconds: float) -> None:
    room = asyncio.Semaphore(IN_FLIGHT)
    begun: set[str] = set()
    """By uid, also those that are through: a watch that begins anew may tell of them as they were before."""

    async def end(job: dict[str, Any]) -> None:
        await asyncio.sleep(seconds)
        for _ in range(TRIES):
            try:
                async with room:
                    await raw.patch("jobs", f"{job['metadata']['name']}/status", complete(job))
                return
            except httpx2.TransportError:
                await asyncio.sleep(1)
            except httpx2.HTTPStatusError as refused:
                if refused.response.status_code in (404, 409, 422):  # deleted meanwhile, or complete already
                    return
                await asyncio.sleep(1)

    async with asyncio.TaskGroup() as group:
        while True:
            try:
                async for change in raw.watch("jobs"):
                    if change is None:
                        print("ready", flush=True)
                    elif (
                        change["type"] in ("ADDED", "MODIFIED") and is_due(job := change["object"]) and job["metadata"]["uid"] not in begun
                    ):
                        begun.add(job["metadata"]["uid"])
                        group.create_task(end(job))
            except httpx2.HTTPError as error:
                print(f"the stand-in's watch: {error}", file=sys.stderr)
                await asyncio.sleep(1)


async def main(kubeconfig: str, namespace: str, seconds: float) -> None:
    async with open_raw(Path(kubeconfig), namespace) as raw:
        serving = asyncio.create_task(serve(raw, seconds))
        until_left = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(until_left), sys.stdin)
        leaving = asyncio.create_task(until_left.read())
        await asyncio.wait([serving, leaving], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@asynccontextmanager
async def stand_in(kubeconfig: Path, namespace: str, seconds: float = 0.0) -> AsyncIterator[None]:
    """One in a process of its own, so that what it costs is not counted."""
    words = [sys.executable, "-m", "bench.stand_in", str(kubeconfig), namespace, str(seconds)]
    child = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        if await child.stdout.readline() != b"ready\n":
            raise SystemExit("the stand-in did not start")
        yield
    finally:
        child.stdin.close()
        await child.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
