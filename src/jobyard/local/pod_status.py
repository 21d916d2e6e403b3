"""A pod's status from what its containers do: phase and conditions, as a kubelet writes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Tree = dict[str, Any]


def waiting(reason: str, message: str = "") -> Tree:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def container_status(container: Tree, state: Tree, last: Tree, restarts: int, container_id: str, *, is_init: bool = False) -> Tree:
    """One entry of containerStatuses. A container is ready while it runs, an init container once it has succeeded."""
    runs = "running" in state
    ready = (state.get("terminated") or {}).get("exitCode") == 0 if is_init else runs
    return {
        "name": container["name"],
        "state": state,
        "lastState": last,
        "ready": ready,
        "started": runs,
        "restartCount": restarts,
        "image": container["image"],
        "imageID": "",
        **({"containerID": container_id} if container_id else {}),
    }


def phase(pod: Tree, init: Sequence[Tree], main: Sequence[Tree], *, stopping: bool) -> str:
    """Pending until all init containers are done; then Running; Succeeded or Failed once every container has ended for good."""
    policy = pod["spec"].get("restartPolicy", "Always")
    for status in init:
        ended = status["state"].get("terminated")
        if ended and ended["exitCode"] != 0 and (policy == "Never" or stopping):
            return "Failed"
        if not ended or ended["exitCode"] != 0:
            return "Failed" if stopping and not any(each["state"].get("running") for each in (*init, *main)) else "Pending"
    ends = [status["state"].get("terminated") for status in main]
    if all(ends):
        bad = any(end["exitCode"] != 0 for end in ends if end)
        if not bad and policy != "Always":
            return "Succeeded"
        if policy == "Never" or stopping:
            return "Failed" if bad or policy != "Never" else "Succeeded"
    if stopping and not any(status["state"].get("running") for status in main):
        return "Failed"
    if all("waiting" in status["state"] and not status["restartCount"] for status in main):
        return "Pending"
    return "Running"


def _has_sandbox(state: Tree) -> bool:
    """Whether a container got so far that the pod's volumes and network are there."""
    return "waiting" not in state or state["waiting"]["reason"] not in ("ContainerCreating", "PodInitializing")


def conditions(old: Sequence[Tree], phase: str, init: Sequence[Tree], main: Sequence[Tree], stamp: str) -> list[Tree]:
    """The pod's conditions; one that stays as it was keeps its time."""
    done = phase == "Succeeded"
    initialized = all((each["state"].get("terminated") or {}).get("exitCode") == 0 for each in init)
    unready = [each["name"] for each in main if not each["ready"]]
    ready = phase == "Running" and not unready
    why = "PodCompleted" if done else "PodFailed" if phase == "Failed" else "ContainersNotReady"
    message = f"containers with unready status: [{' '.join(unready)}]" if unready and why == "ContainersNotReady" else ""
    not_ready = {"reason": why, **({"message": message} if message else {})}
    incomplete = [each["name"] for each in init if (each["state"].get("terminated") or {}).get("exitCode") != 0]
    not_initialized = {"reason": "ContainersNotInitialized", "message": f"containers with incomplete status: [{' '.join(incomplete)}]"}
    sandbox = phase not in ("Succeeded", "Failed") and any(_has_sandbox(each["state"]) for each in (*init, *main))
    wanted: list[tuple[str, bool, Mapping[str, str]]] = [
        ("PodReadyToStartContainers", sandbox, {}),
        ("Initialized", initialized or done, {"reason": "PodCompleted"} if done else {} if initialized else not_initialized),
        ("Ready", ready, {} if ready else not_ready),
        ("ContainersReady", ready, {} if ready else not_ready),
        ("PodScheduled", True, {}),
    ]
    known = {each["type"]: each for each in old}
    result = [each for each in old if each["type"] not in {name for name, _, _ in wanted}]
    for name, holds, reason in wanted:
        status = "True" if holds else "False"
        before = known.get(name)
        since = before["lastTransitionTime"] if before and before["status"] == status else stamp
        result.append({"type": name, "status": status, "lastProbeTime": None, "lastTransitionTime": since, **reason})
    return result
