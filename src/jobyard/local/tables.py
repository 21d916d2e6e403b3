"""What `kubectl get` shows of each kind: the server makes the table, as Kubernetes does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from jobyard.local import services, times
from jobyard.local.job_sync import condition
from jobyard.local.resources import (
    CONFIG_MAPS,
    CRON_JOBS,
    EVENTS,
    JOBS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)

Tree = dict[str, Any]
Cells = Callable[[Tree, datetime], list[Any]]


def wanted(accept: str) -> bool:
    """Whether a client asks for a table before anything else."""
    return "as=Table" in accept.split(",")[0]


def table(resource: Resource, items: Sequence[Tree], metadata: Tree, now: datetime) -> Tree:
    """The objects as a Table: a row each, with the object's metadata beside it."""
    names, cells = _COLUMNS.get(resource, (("Name", "Age"), lambda tree, at: [_name(tree), _age(tree, at)]))
    columns = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else "", "description": "", "priority": 0} for name in names
    ]
    rows = [{"cells": cells(tree, now), "object": _partial(tree)} for tree in items]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows}


def _partial(tree: Tree) -> Tree:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": tree["metadata"]}


def duration(seconds: float) -> str:
    """A duration as kubectl writes it: `7s`, `3m5s`, `5h20m`, `3d`."""
    whole = max(int(seconds), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


def _name(tree: Tree) -> str:
    return str(tree["metadata"]["name"])


def _age(tree: Tree, now: datetime) -> str:
    return duration((now - times.parse(tree["metadata"]["creationTimestamp"])).total_seconds())


def _job(tree: Tree, now: datetime) -> list[Any]:
    spec, status = tree["spec"], tree.get("status") or {}
    done = status.get("succeeded", 0)
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    else:
        completions = f"{done}/1 of {spec['parallelism']}" if spec.get("parallelism", 1) > 1 else f"{done}/1"
    lasted = ""
    if status.get("startTime"):
        end = times.parse(status["completionTime"]) if status.get("completionTime") else now
        lasted = duration((end - times.parse(status["startTime"])).total_seconds())
    return [_name(tree), _job_status(tree), completions, lasted, _age(tree, now)]


def _job_status(tree: Tree) -> str:
    for kind in ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"):
        found = condition(tree.get("status") or {}, kind)
        if found and found["status"] == "True":
            return kind
    return "Terminating" if tree["metadata"].get("deletionTimestamp") else "Running"


def _cron_job(tree: Tree, now: datetime) -> list[Any]:
    spec, status = tree["spec"], tree.get("status") or {}
    last = status.get("lastScheduleTime")
    ago = duration((now - times.parse(last)).total_seconds()) if last else "<none>"
    zone, suspended = spec.get("timeZone") or "<none>", "True" if spec.get("suspend") else "False"
    return [_name(tree), spec["schedule"], zone, suspended, str(len(status.get("active") or [])), ago, _age(tree, now)]


def _pod(tree: Tree, now: datetime) -> list[Any]:
    status = tree.get("status") or {}
    statuses = status.get("containerStatuses") or []
    ready = f"{sum(each['ready'] for each in statuses)}/{len(tree['spec']['containers'])}"
    reason = status.get("reason") or status.get("phase") or "Unknown"
    for each in [*(status.get("initContainerStatuses") or []), *statuses]:
        state = each.get("state") or {}
        ended = state.get("terminated")
        if state.get("waiting"):
            reason = state["waiting"].get("reason") or reason
        elif ended and (ended["exitCode"] or each in statuses):
            reason = ended.get("reason") or f"ExitCode:{ended['exitCode']}"
    if tree["metadata"].get("deletionTimestamp"):
        reason = "Terminating"
    return [_name(tree), ready, reason, str(sum(each["restartCount"] for each in statuses)), _age(tree, now)]


def _event(tree: Tree, now: datetime) -> list[Any]:
    about = tree["involvedObject"]
    seen = tree.get("lastTimestamp") or tree["metadata"]["creationTimestamp"]
    ago = duration((now - times.parse(seen)).total_seconds())
    return [
        ago,
        tree.get("type", ""),
        tree.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        tree.get("message", ""),
    ]


def _phase(tree: Tree, now: datetime) -> list[Any]:
    return [_name(tree), (tree.get("status") or {}).get("phase", ""), _age(tree, now)]


_COLUMNS: dict[Resource, tuple[tuple[str, ...], Cells]] = {
    JOBS: (("Name", "Status", "Completions", "Duration", "Age"), _job),
    CRON_JOBS: (("Name", "Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age"), _cron_job),
    PODS: (("Name", "Ready", "Status", "Restarts", "Age"), _pod),
    EVENTS: (("Last Seen", "Type", "Reason", "Object", "Message"), _event),
    NAMESPACES: (("Name", "Status", "Age"), _phase),
    CONFIG_MAPS: (
        ("Name", "Data", "Age"),
        lambda tree, now: [_name(tree), str(len(tree.get("data") or {}) + len(tree.get("binaryData") or {})), _age(tree, now)],
    ),
    SECRETS: (
        ("Name", "Type", "Data", "Age"),
        lambda tree, now: [_name(tree), tree.get("type", ""), str(len(tree.get("data") or {})), _age(tree, now)],
    ),
    SERVICE_ACCOUNTS: (("Name", "Secrets", "Age"), lambda tree, now: [_name(tree), "0", _age(tree, now)]),
    SERVICES: (
        ("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"),
        lambda tree, now: [_name(tree), *services.cells(tree), _age(tree, now)],
    ),
    LEASES: (
        ("Name", "Holder", "Age"),
        lambda tree, now: [_name(tree), (tree.get("spec") or {}).get("holderIdentity", ""), _age(tree, now)],
    ),
    NODES: (
        ("Name", "Status", "Roles", "Age", "Version"),
        lambda tree, now: [
            _name(tree),
            "Ready",
            "<none>",
            _age(tree, now),
            ((tree.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion", ""),
        ],
    ),
}
