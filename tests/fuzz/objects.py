"""Hostile objects, each known by its seed: mutated ones of every kind that Jobyard meets, mutated copies of its own, and what is done to them. Pure.

What is hostile is what an object says, not how much room it takes: a node that is full is full for everybody, on every cluster. So
pods end soon, and Jobs want few of them, unless they are suspended.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobyard.model import names
from tests import mutants
from tests.good_jobs import GOOD
from tests.manifests import Tree, job

MERGE, JSON = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to the API. `path` begins behind the server."""

    method: str
    path: str
    body: bytes = b""
    media: str = "application/json"
    params: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {dict(self.params) or ''} {self.media if self.body else ''} {self.body[:300]!r}"


@dataclass(frozen=True, kw_only=True)
class Sort:
    """A kind of object: where it lives, and a good one."""

    kind: str
    api: str
    plural: str
    good: Callable[[random.Random], Tree]

    def path(self, namespace: str, name: str = "", sub: str = "") -> str:
        return "/" + "/".join(filter(None, (self.api, "namespaces", namespace, self.plural, name, sub)))


RUNS = (
    job("plain"),
    job("fails", "echo out; echo err >&2; exit 3", backoffLimit=2),
    job("indexed", "test $JOB_COMPLETION_INDEX = 1", completionMode="Indexed", completions=3, parallelism=3, backoffLimitPerIndex=1),
    job(
        "mounts",
        "cat /a/k /b/* > /dev/termination-log",
        container={"volumeMounts": [{"name": "a", "mountPath": "/a", "subPath": "x"}, {"name": "b", "mountPath": "/b"}]},
        pod={
            "volumes": [
                {"name": "a", "emptyDir": {}},
                {"name": "b", "configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "c"}]}},
            ]
        },
    ),
    job(
        "env",
        "env",
        container={
            "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}],
            "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
        },
        pod={"initContainers": [{"name": "first", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "true"]}]},
        ttlSecondsAfterFinished=5,
        activeDeadlineSeconds=30,
    ),
)
"""Jobs that run on every cluster, to their end."""


def _good_job(chance: random.Random) -> Tree:
    return copy.deepcopy(chance.choice((*GOOD, *RUNS, *RUNS)))


def _good_pod(chance: random.Random) -> Tree:
    template = _good_job(chance)["spec"]["template"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", **(template.get("metadata") or {})}, "spec": template["spec"]}


def _good_cron_job(chance: random.Random) -> Tree:
    spec = {"schedule": chance.choice(("* * * * *", "0 0 29 2 *", "@daily")), "jobTemplate": {"spec": _good_job(chance)["spec"]}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": {"timeZone": "Europe/Berlin", **spec}}


def _good_config_map(chance: random.Random) -> Tree:
    data: Tree = {"data": {"b.txt": "x", "k": "1"}, "binaryData": {"z": "AAEC"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": chance.choice(("settings", "x"))}, **data}


def _good_secret(chance: random.Random) -> Tree:
    data: Tree = {"type": "Opaque", "data": {"c": "aHVudGVyMg=="}, "stringData": {"k": "v"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": chance.choice(("passwords", "x"))}, **data}


def _good_event(chance: random.Random) -> Tree:
    about = {"kind": chance.choice(("Job", "Pod")), "name": "x", "uid": "1", "apiVersion": "v1"}
    said: Tree = {"type": "Warning", "reason": "FailedMount", "message": "no such volume", "count": 3, "source": {"component": "kubelet"}}
    moments = {"firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"}
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": about, **said, **moments}


def _good_lease(_: random.Random) -> Tree:
    spec: Tree = {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 1}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": spec}


def _good_account(_: random.Random) -> Tree:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}, "secrets": [{"name": "x"}]}


def _good_service(chance: random.Random) -> Tree:
    spec: Tree = {
        "clusterIP": chance.choice(("None", "")),
        "selector": {"a": "b"},
        "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": chance.choice(("db", "x"))}, "spec": spec}


SORTS = {
    sort.plural: sort
    for sort in (
        Sort(kind="batch/v1/Job", api="apis/batch/v1", plural="jobs", good=_good_job),
        Sort(kind="v1/Pod", api="api/v1", plural="pods", good=_good_pod),
        Sort(kind="batch/v1/CronJob", api="apis/batch/v1", plural="cronjobs", good=_good_cron_job),
        Sort(kind="v1/ConfigMap", api="api/v1", plural="configmaps", good=_good_config_map),
        Sort(kind="v1/Secret", api="api/v1", plural="secrets", good=_good_secret),
        Sort(kind="v1/Event", api="api/v1", plural="events", good=_good_event),
        Sort(kind="coordination.k8s.io/v1/Lease", api="apis/coordination.k8s.io/v1", plural="leases", good=_good_lease),
        Sort(kind="v1/ServiceAccount", api="api/v1", plural="serviceaccounts", good=_good_account),
        Sort(kind="v1/Service", api="api/v1", plural="services", good=_good_service),
    )
}
_OFTEN = (
    "jobs",
    "jobs",
    "jobs",
    "pods",
    "pods",
    "pods",
    "cronjobs",
    "configmaps",
    "secrets",
    "events",
    "leases",
    "serviceaccounts",
    "services",
)

NUMBERS: tuple[Any, ...] = (-1, 0, 1, 2**31 - 1, 2**31, 10**12, 10**14, 10**15, 2**63 - 1, -(2**63), 2**63, 10**30, 1.0, 1.5, 1e300, True)
TEXTS: tuple[str, ...] = (
    *(
        "",
        " ",
        "²",
        "٣",
        "-0",
        "1_000",
        "0x10",
        "1e400",
        "1e-400",
        "9" * 5000,
        "NaN",
        "inf",
        "null",
        "\u0000",
        "a\u0000b",
        "\n",
        "\u202e",
        "\ud7ff",
    ),
    *("../../evil", "..", ".", "/", "//", "a/../../b", "/etc/passwd", "~", "$(PATH)", "$(A)$(B)", "%2e%2e%2f", "x" * 300, "x" * 100_000),
    *(
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "2026-02-30T00:00:00Z",
        "now",
    ),
    *(
        "0-2147483646",
        "5-1",
        "0,0,0",
        "-",
        "1-",
        "* * * * * *",
        "*/0 * * * *",
        "@every 1ns",
        "TZ=UTC * * * * *",
        "Europe",
        "../UTC",
        "Local",
    ),
    *(
        "{{ params.x }}",
        "{{ steps.a.outputs.b }}",
        "{" * 1000,
        "[" * 5000,
        '{"a":' * 2000,
        "***",
        "true",
        "git",
        "cli",
        "step",
        "run",
        "record",
    ),
)
_SMALL = 3
"""Pods that a Job may want at once, and in all."""


def poison(tree: Any, chance: random.Random) -> None:
    """Puts something extreme in some place of an object: a number, a text, a depth, a length."""
    places = list(_places(tree))
    if not places:
        return
    holder, key = chance.choice(places)
    fits = "number" if isinstance(holder[key], int | float) else "text" if isinstance(holder[key], str) else "gone"
    match chance.choice((*(fits,) * 8, "number", "text", "deep", "long", "gone", "twice")):
        case "number":
            holder[key] = chance.choice(NUMBERS)
        case "text":
            holder[key] = chance.choice(TEXTS)
        case "deep":
            # Deeper than anybody may go; not so deep that three of them in each other could not be copied (tests/hostile has 200,000).
            holder[key] = _deep(chance.choice((50, 101, 120)), chance.choice(("list", "map")))
        case "long":
            holder[key] = [copy.deepcopy(holder[key])] * chance.choice((2, 300))
        case "gone":
            holder[key] = None
        case _ if isinstance(holder, dict):
            holder[chance.choice(TEXTS)] = copy.deepcopy(holder[key])


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """What holds a value, and under which key, of every value."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()):
        yield tree, key
        yield from _places(value)


def _deep(depth: int, how: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if how == "list" else {"a": value}
    return value


# --- one seed ---


def calls(seed: int, namespace: str, ours: Sequence[tuple[str, Tree]] = (), *, thrifty: bool = False) -> list[Call]:
    """What the seed does: it puts an object, then does things to it. `ours`: objects of Jobyard's own that it may copy, and their plural.

    `thrifty`: most of what would run does not: a real node starts three pods a second.
    """
    chance = random.Random(seed)
    sort = SORTS[chance.choice(_OFTEN)]
    tree = sort.good(chance)
    if ours and chance.random() < 0.4:
        plural, known = chance.choice(ours)
        sort, tree = SORTS[plural], _copied(known, chance)
    good = copy.deepcopy(tree)
    for _ in range(chance.choice((0, 0, 1, 1, 2))):
        mutants.mutate(tree, chance, sort.kind)
    for _ in range(chance.choice((0, 1, 1, 2))):
        poison(tree, chance)
    name = f"h{seed}"
    if chance.random() < 0.9 or not isinstance(tree.get("metadata"), dict):
        tree["metadata"] = {**(tree["metadata"] if isinstance(tree.get("metadata"), dict) else {}), "name": name}
    runs = not thrifty or seed % 4 == 0
    tame(tree, runs=runs)
    good["metadata"] = {**good["metadata"], "name": name}
    tame(good, runs=runs)
    # The good one comes after: where the hostile one was refused, there is something all the same that harm can be done to.
    made = [Call(method="POST", path=sort.path(namespace), body=_encoded(each), params=_params(chance)) for each in (tree, good)]
    return [*made, *(_deed(sort, namespace, name, good, chance) for _ in range(chance.choice((0, 1, 2, 4))))]


def _encoded(tree: Any) -> bytes:
    return json.dumps(tree, allow_nan=False).encode()


def _params(chance: random.Random) -> dict[str, str]:
    return chance.choice(({}, {}, {}, {"fieldValidation": "Strict"}, {"dryRun": "All"}, {"fieldManager": "x"}))


def tame(tree: Tree, *, runs: bool = True) -> None:
    """Sees to it that what runs is little, and ends: that it takes room is not what is tried. What is not to run waits."""
    if not runs and isinstance(spec := tree.get("spec"), dict):
        spec |= {"schedulingGates": [{"name": "example.com/wait"}]} if tree.get("kind") == "Pod" else {"suspend": True}
    for spec in _job_specs(tree):
        if spec.get("suspend") is True:
            continue
        for key in ("parallelism", "completions"):
            value = spec.get(key)
            if isinstance(value, int) and value > _SMALL:
                spec[key] = _SMALL
    for spec in _pod_specs(tree):
        for container in spec.get("containers") or []:
            if isinstance(container, dict) and container.get("image") and container.get("command") is None:
                container["command"] = ["sh", "-c", "true"]
        spec["automountServiceAccountToken"] = False


def _job_specs(tree: Tree) -> Iterator[Tree]:
    spec = tree.get("spec")
    inside = spec.get("jobTemplate") if isinstance(spec, dict) else None
    for each in (spec, inside.get("spec") if isinstance(inside, dict) else None):
        if isinstance(each, dict):
            yield each


def _pod_specs(tree: Tree) -> Iterator[Tree]:
    for spec in _job_specs(tree):
        template = spec.get("template")
        for each in (spec if "containers" in spec else None, template.get("spec") if isinstance(template, dict) else None):
            if isinstance(each, dict) and isinstance(each.get("containers"), list):
                yield each


# --- copies of our own ---

_OURS = tuple(sorted(value for value in vars(names).values() if isinstance(value, str) and value.startswith("jobyard.dev/")))
"""All labels and annotations that we know."""


def _copied(tree: Tree, chance: random.Random) -> Tree:
    """A copy of an object of ours, as somebody might make it by hand, and worse."""
    made = copy.deepcopy(tree)
    metadata = made["metadata"]
    for key in ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields", "selfLink"):
        metadata.pop(key, None)
    if chance.random() < 0.5:
        made.pop("status", None)
    if chance.random() < 0.4:
        metadata.pop("ownerReferences", None)
    spec = made.get("spec")
    if isinstance(spec, dict) and chance.random() < 0.8:  # what the server has put there, and would refuse
        spec.pop("selector", None)
        spec.pop("nodeName", None)
        template = spec.get("template") or {}
        for label in ("controller-uid", "job-name"):
            ((template.get("metadata") or {}).get("labels") or {}).pop(label, None)
            ((template.get("metadata") or {}).get("labels") or {}).pop(f"batch.kubernetes.io/{label}", None)
    for _ in range(chance.choice((0, 1, 2, 3))):
        where = chance.choice(("labels", "annotations", "annotations"))
        there = metadata.setdefault(where, {})
        own = [key for key in there if key.startswith("jobyard.dev/")]
        fit = [text for text in TEXTS if len(text) < 64 and text.isalnum() and text.isascii()] if where == "labels" else TEXTS
        there[chance.choice((*own, *_OURS))] = chance.choice(fit)
    data = made.get("data")
    if isinstance(data, dict) and data and chance.random() < 0.5:
        data[chance.choice(sorted(data))] = chance.choice(TEXTS)
    return made


# --- what is done to an object ---

_STATUSES: tuple[Any, ...] = (
    *({}, None, [], {"conditions": [{}]}, {"conditions": [None]}, {"phase": "Succeeded"}, {"phase": "²"}),
    {"completedIndexes": "0-2147483646", "failedIndexes": "²"},
    {"startTime": "9999-12-31T23:59:59Z", "completionTime": "0001-01-01T00:00:00Z", "conditions": [{"type": "Complete", "status": "True"}]},
    {"startTime": "0001-01-01T00:00:00+14:00", "failed": 2**31 - 1, "active": -1},
    {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": "9999-12-31T23:59:59-14:00"}]},
    {"containerStatuses": [{}], "initContainerStatuses": [None]},
    {"containerStatuses": [{"name": "main", "restartCount": 2**31 - 1, "state": {"running": None, "terminated": {"finishedAt": "now"}}}]},
    {
        "phase": "Succeeded",
        "containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": 0, "message": '{"a":' * 500}}}],
    },
    {"active": [{}], "lastScheduleTime": "0001-01-01T00:00:00Z", "lastSuccessfulTime": "9999-12-31T23:59:59Z"},
)
_OPTIONS: tuple[Any, ...] = (
    *(
        {},
        None,
        [],
        "x",
        {"gracePeriodSeconds": 10**15},
        {"gracePeriodSeconds": -1},
        {"gracePeriodSeconds": "x"},
        {"gracePeriodSeconds": 0},
    ),
    *(
        {"propagationPolicy": "Orphan"},
        {"propagationPolicy": "²"},
        {"orphanDependents": True},
        {"preconditions": {"uid": "x"}},
        {"preconditions": []},
    ),
)
_METADATA: tuple[Any, ...] = (
    *({"labels": None}, {"annotations": {"a": 1}}, {"finalizers": ["x/y"]}, {"finalizers": []}, {"ownerReferences": [{}]}, None, []),
    {
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x", "controller": True, "blockOwnerDeletion": True}
        ]
    },
    {"annotations": {"batch.kubernetes.io/job-completion-index": "²", "batch.kubernetes.io/job-index-failure-count": "9" * 5000}},
    {"managedFields": [{"manager": "x", "operation": "Apply", "fieldsV1": {"f:spec": {"k:[1]": {}, "v:": 5}}}]},
    {"managedFields": [{}]},
    {"deletionTimestamp": "9999-12-31T23:59:59Z", "deletionGracePeriodSeconds": 10**15, "uid": "x", "resourceVersion": "x"},
)
_JSON_PATCHES: tuple[Any, ...] = (
    [{"op": "copy", "from": "", "path": f"/metadata/annotations/a{number}"} for number in range(40)],
    [{"op": "add", "path": "/spec" + "/a" * depth, "value": {"a": {}}} for depth in range(0, 300, 50)],
    [{"op": "remove", "path": "/metadata"}],
    [{"op": "replace", "path": "", "value": []}],
    [{"op": "test", "path": 5}],
    [{"op": "move", "from": "/spec", "path": "/spec/a"}],
    [{"op": "add", "path": "/metadata/finalizers/-1", "value": "²"}],
    *(None, {}, [None], [{}], "x"),
)


def _deed(sort: Sort, namespace: str, name: str, tree: Tree, chance: random.Random) -> Call:
    """Something that somebody does to the object of this name."""
    where = sort.path(namespace, name)
    params: dict[str, str] = _params(chance)
    own = {"pods": ("status", "status", "status", "evict", "log"), "jobs": ("status",) * 3, "cronjobs": ("status",) * 2}.get(
        sort.plural, ()
    )
    match chance.choice(("merge", "merge", "strategic", "json", "apply", "put", "delete", "list", *own)):
        case "merge":
            return Call(method="PATCH", path=where, body=_encoded(_change(sort, tree, chance)), media=MERGE, params=params)
        case "strategic":
            change = _change(sort, tree, chance)
            if isinstance(change, dict) and chance.random() < 0.5:
                change = {**change, "$patch": chance.choice(("replace", "delete", 5)), "$deleteFromPrimitiveList/finalizers": 5}
            return Call(method="PATCH", path=where, body=_encoded(change), media=STRATEGIC, params=params)
        case "json":
            return Call(method="PATCH", path=where, body=_encoded(chance.choice(_JSON_PATCHES)), media=JSON, params=params)
        case "apply":
            again = copy.deepcopy(tree)
            poison(again, chance)
            params = {"fieldManager": chance.choice(("x", "y", "")), "force": chance.choice(("true", "false", "²"))}
            return Call(method="PATCH", path=where, body=_encoded(again), media=APPLY, params=params)
        case "put":
            again = copy.deepcopy(tree)
            mutants.mutate(again, chance, sort.kind)
            tame(again)
            return Call(method="PUT", path=where, body=_encoded(again), params=params)
        case "status":
            path = sort.path(namespace, name, "status")
            return Call(method="PATCH", path=path, body=_encoded({"status": chance.choice(_STATUSES)}), media=MERGE, params=params)
        case "delete":
            return Call(method="DELETE", path=where, body=_encoded(chance.choice(_OPTIONS)), params=params)
        case "evict":
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": chance.choice(_OPTIONS)}
            return Call(method="POST", path=SORTS["pods"].path(namespace, name, "eviction"), body=_encoded(body), params=params)
        case "log":
            asked = {
                chance.choice(("tailLines", "sinceSeconds", "limitBytes", "sinceTime", "container")): chance.choice(
                    ("-1", "²", "0", "9" * 30, "x")
                )
            }
            return Call(method="GET", path=SORTS["pods"].path(namespace, name, "log"), params=asked)
    said = chance.choice(("a=b,c in (d),!e", "²", "=", "a in (", "x" * 2000, "metadata.name=x", ",,,"))
    asked = {chance.choice(("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion")): said}
    return Call(method="GET", path=sort.path(namespace), params=asked)


def _change(sort: Sort, tree: Tree, chance: random.Random) -> Any:
    """A part of an object, changed."""
    if chance.random() < 0.5:
        return {"metadata": chance.choice(_METADATA)}
    again = copy.deepcopy(tree)
    mutants.mutate(again, chance, sort.kind)
    poison(again, chance)
    tame(again)
    again.pop("metadata", None)
    return again
