"""What the API does with pods beyond other objects: logs and eviction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from jobyard.local import status, times
from jobyard.local.deletion import options_of_eviction
from jobyard.local.kubelet import Kubelet
from jobyard.local.logs import LogQuery, select, strip
from jobyard.local.objects import Objects
from jobyard.local.requests import Answer, Request, Target
from jobyard.local.resources import PODS
from jobyard.local.status import ApiError
from jobyard.schema.values import is_time

Tree = dict[str, Any]


class PodApi:
    """The subresources of pods that are no part of the object."""

    def __init__(self, objects: Objects, kubelet: Kubelet) -> None:
        self._objects = objects
        self._kubelet = kubelet

    def evict(self, request: Request, what: Target) -> Answer:
        """Deletes a pod after noting why on it, which is what a Job's pod failure policy looks at."""
        pod = self._objects.get(PODS, what.namespace, what.name)
        options = options_of_eviction(request)
        status.check_preconditions(PODS, pod, options.preconditions)
        if not options.dry_run:
            if pod["status"].get("phase") not in ("Succeeded", "Failed") and not pod["metadata"].get("deletionTimestamp"):
                condition = {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting",
                    "lastProbeTime": None,
                    "lastTransitionTime": times.stamp(),
                }
                kept = [each for each in pod["status"].get("conditions") or [] if each["type"] != "DisruptionTarget"]
                pod = self._objects.set_status(PODS, pod, {**pod["status"], "conditions": [*kept, condition]})
            self._objects.delete(PODS, pod, grace=options.grace_period_seconds)
        return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    def log(self, request: Request, what: Target) -> Answer:
        """A container's log, or what of it was asked for."""
        pod = self._objects.get(PODS, what.namespace, what.name)
        names = [each["name"] for each in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]]
        main = pod["spec"]["containers"]
        wanted = request.query.get("container") or (main[0]["name"] if len(main) == 1 else "")
        if not wanted:
            raise ApiError(400, f"a container name must be specified for pod {what.name}, choose one of: [{' '.join(names)}]")
        if wanted not in names:
            raise ApiError(400, f"container {wanted} is not valid for pod {what.name}")
        waits = _why_no_log(pod, wanted)
        if waits:
            raise ApiError(400, f'container "{wanted}" in pod "{what.name}" is waiting to start: {waits}')
        path = self._kubelet.log(pod, wanted, request.flag("previous"))
        wish = _log_query(request)
        lines, position = select(path, wish)
        if not request.flag("follow"):
            text = b"".join(lines)
            return Answer(text[: wish.limit_bytes] if wish.limit_bytes else text, media="text/plain")
        return Answer(chunks=self._follow(pod, wanted, lines, position, wish.timestamps), media="text/plain")

    async def _follow(self, pod: Tree, container: str, lines: list[bytes], position: int, timestamps: bool) -> AsyncIterator[bytes]:
        if lines:
            yield b"".join(lines)
        worker = self._kubelet.worker(pod)
        log = worker.logs.get(container) if worker else None
        if log is None:
            return
        rest = b""
        async for chunk in log.follow(position):
            *whole, rest = (rest + chunk).split(b"\n")
            yield b"".join(strip(line + b"\n", timestamps) for line in whole)


def _why_no_log(pod: Tree, container: str) -> str:
    if pod["status"].get("phase") in ("Succeeded", "Failed"):
        return ""
    statuses = [*(pod["status"].get("initContainerStatuses") or []), *(pod["status"].get("containerStatuses") or [])]
    known = next((each for each in statuses if each["name"] == container), None)
    if known is None:
        return "ContainerCreating"
    waiting = (known.get("state") or {}).get("waiting")
    return str(waiting.get("reason") or "ContainerCreating") if waiting and not known["restartCount"] else ""


def _log_query(request: Request) -> LogQuery:
    seconds, since = request.number("sinceSeconds", 1), request.query.get("sinceTime")
    if since and not is_time(since):
        raise ApiError(400, f'invalid log options: sinceTime "{since[:40]}" is no time, as 2026-11-24T17:00:00Z')
    start = times.after(times.now(), -seconds) if seconds else times.parse(since) if since else None
    return LogQuery(
        tail=request.number("tailLines", 0),
        since=start,
        limit_bytes=request.number("limitBytes", 1),
        timestamps=request.flag("timestamps"),
    )
