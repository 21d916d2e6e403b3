"""What is said of broken Jobs, from a cluster's own words, not from made-up ones. What only a kubelet or a scheduler can show runs there alone."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine.face import look_at_job
from jobyard.model.cause import Diagnosis
from jobyard.model.errors import Conflict, NotFound, Rejected
from jobyard.model.explained import lone
from jobyard.model.objects import EVENTS, JOBS, PODS, Event, Job, Kind, Pod
from jobyard.model.run import StepView
from jobyard.service.reasons import as_text, of_job
from tests.broken import broken_jobs
from tests.broken.kind import Broken
from tests.broken.places import AREAS
from tests.broken.registry import registry
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.manifests import job
from tests.waiting import BOUND, is_running, until_pod

Tree = dict[str, Any]


# --- all kinds of broken Jobs at once ---


@dataclass
class Seen:
    """What the watches of one namespace have told."""

    jobs: dict[str, Job] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)

    def stands(self, name: str) -> StepView | None:
        found = self.jobs.get(name)
        if found is None:
            return None
        pods = [pod for pod in self.pods.values() if any(owner.uid == found.metadata.uid for owner in pod.metadata.owner_references)]
        return lone(found, pods, list(self.events.values()))


@asynccontextmanager
async def watched(cluster: HttpCluster, namespaces: Sequence[str]) -> AsyncIterator[tuple[Mapping[str, Seen], asyncio.Event]]:
    """What there is in the namespaces, kept up to date; and what is set when that changed."""
    seen: defaultdict[str, Seen] = defaultdict(Seen)
    changed = asyncio.Event()

    async def watch(kind: Kind[Any], namespace: str, into: dict[str, Any]) -> None:
        async for change in cluster.watch(kind, namespace):
            if change.type == "SEEN" and change.object is not None:
                into[change.object.metadata.name] = change.object
            elif change.type == "GONE":
                for name in [name for name, each in into.items() if each.metadata.uid == change.uid]:
                    del into[name]
            changed.set()

    async with asyncio.TaskGroup() as tasks:
        watches = [
            tasks.create_task(watch(kind, namespace, into))
            for namespace in namespaces
            for kind, into in ((JOBS, seen[namespace].jobs), (PODS, seen[namespace].pods), (EVENTS, seen[namespace].events))
        ]
        try:
            yield seen, changed
        finally:
            for each in watches:
                each.cancel()


def is_right(kind: Broken, found: StepView, address: str) -> bool:
    """Whether what is said of a Job is what has to be said."""
    answer = of_job(found)
    reason = found.diagnosis.reason if found.diagnosis else found.reason
    same = reason == kind.reason or (kind.reason == "ImagePullBackOff" and reason == "ErrImagePull")
    return same and kind.says.replace("{registry}", address) in answer.sentence and kind.remedy in answer.remedy


async def until_right(cluster: HttpCluster, placed: Mapping[str, Sequence[Broken]], address: str) -> dict[str, str]:
    """Waits until all is said that has to be said of each kind, by namespace; returns what was said of those of which it never was."""
    wrong = {(namespace, kind.name): kind for namespace, kinds in placed.items() for kind in kinds}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BOUND), watched(cluster, list(placed)) as (seen, changed):
            while wrong:
                await changed.wait()
                changed.clear()
                for (namespace, name), kind in list(wrong.items()):
                    stands = seen[namespace].stands(name)
                    if stands is not None and is_right(kind, stands, address):
                        asked = await look_at_job(cluster, namespace, name)
                        if asked is not None and is_right(kind, asked[1], address):
                            del wrong[namespace, name]
    said: dict[str, str] = {}
    for namespace, name in wrong:
        asked = await look_at_job(cluster, namespace, name)
        said[name] = "\n".join(as_text(of_job(asked[1]))) if asked else "there is no such Job"
    return said


@asynccontextmanager
async def areas(cluster: HttpCluster, names: Sequence[str]) -> AsyncIterator[dict[str, str]]:
    """A namespace for each of these sets of rules, by name."""
    made: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for name in names:
            labels, objects = AREAS[name]
            namespace = made[name] = f"t-{uuid.uuid4().hex[:10]}"
            await call(cluster, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace, "labels": labels}})
            stack.push_async_callback(call, cluster, "DELETE", f"/api/v1/namespaces/{namespace}")
            for each in objects:
                await put(cluster, namespace, each)
        if "policy" in made:
            await stack.enter_async_context(a_policy(cluster, made["policy"]))
        yield made


@asynccontextmanager
async def a_policy(cluster: HttpCluster, namespace: str) -> AsyncIterator[None]:
    """An admission policy that refuses every pod of the namespace, once it has effect."""
    name, api = f"owners.{namespace}", "/apis/admissionregistration.k8s.io/v1"
    match = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
    }
    rule = {"expression": "has(object.metadata.labels) && 'owner' in object.metadata.labels", "message": "every Job needs an owner"}
    spec = {"failurePolicy": "Fail", "matchConstraints": match, "validations": [rule]}
    bind = {"policyName": name, "validationActions": ["Deny"]}
    async with AsyncExitStack() as stack:
        for plural, body in (("validatingadmissionpolicies", spec), ("validatingadmissionpolicybindings", bind)):
            await call(cluster, "POST", f"{api}/{plural}", {"metadata": {"name": name}, "spec": body})
            stack.push_async_callback(call, cluster, "DELETE", f"{api}/{plural}/{name}")
        pod = {"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}
        async with asyncio.timeout(BOUND):
            with contextlib.suppress(Rejected):  # it has effect
                while True:
                    await call(cluster, "POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
        yield


async def put(cluster: HttpCluster, namespace: str, tree: Tree) -> None:
    """Creates an object of the core API, unless it is there."""
    with contextlib.suppress(Conflict):
        await call(cluster, "POST", f"/api/v1/namespaces/{namespace}/{tree['kind'].lower()}s", tree)


async def break_it(cluster: HttpCluster, namespace: str, kind: Broken) -> None:
    """Puts a broken Job into the namespace, with what it needs beside it."""
    for each in kind.beside:
        await put(cluster, namespace, each)
        if each["metadata"].get("finalizers"):
            await call(cluster, "DELETE", f"/api/v1/namespaces/{namespace}/{each['kind'].lower()}s/{each['metadata']['name']}")
    await cluster.create(JOBS, namespace, kind.manifest)
    if kind.deleted:
        await cluster.delete(JOBS, namespace, kind.name)


async def let_go(cluster: HttpCluster, namespace: str) -> None:
    """Takes away the finalizers that would keep the namespace."""
    for path in ("api/v1/namespaces/{}/persistentvolumeclaims", "apis/batch/v1/namespaces/{}/jobs"):
        with contextlib.suppress(NotFound):  # the local cluster knows no claims
            for each in (await call(cluster, "GET", f"/{path.format(namespace)}"))["items"]:
                if "example.com/keep" in each["metadata"].get("finalizers", []):
                    name = each["metadata"]["name"]
                    await call(cluster, "PATCH", f"/{path.format(namespace)}/{name}", {"metadata": {"finalizers": None}})


@pytest.mark.timeout(240)
async def test_why_is_right_about_every_kind_of_broken_job(cluster: HttpCluster, namespace: str, under_test: ClusterUnderTest) -> None:
    with registry() as address:
        kinds = [kind for kind in broken_jobs(address) if kind.everywhere or under_test.name == KUBERNETES]
        async with areas(cluster, sorted({kind.area for kind in kinds} - {""})) as made:
            placed: defaultdict[str, list[Broken]] = defaultdict(list)
            for kind in kinds:
                placed[made.get(kind.area, namespace)].append(kind)
            try:
                for where, some in placed.items():
                    for kind in some:
                        await break_it(cluster, where, kind)
                wrong = await until_right(cluster, placed, address)
            finally:
                await let_go(cluster, namespace)
    assert not wrong, f"{len(wrong)} of {len(kinds)} are wrong:\n" + "\n".join(f"{name}: {said}" for name, said in wrong.items())


# --- what needs more than a Job ---


async def diagnosis(cluster: HttpCluster, namespace: str, wanted: Callable[[Diagnosis], bool], name: str = "a") -> Diagnosis:
    """The Job's diagnosis, as soon as it is as wanted: each change of a pod, a Job or an event is a look."""
    last: object = None
    try:
        async with asyncio.timeout(BOUND), watched(cluster, [namespace]) as (_, changed):
            while True:
                await changed.wait()
                changed.clear()
                found = await look_at_job(cluster, namespace, name)
                last = found[1].diagnosis if found else None
                if found and found[1].diagnosis and wanted(found[1].diagnosis):
                    return found[1].diagnosis
    except TimeoutError:
        raise AssertionError(f"not as wanted: {last}") from None


async def call(cluster: HttpCluster, method: str, path: str, body: Tree | None = None) -> Tree:
    """A call that Jobyard itself never makes."""
    media = "application/merge-patch+json" if method == "PATCH" else "application/json"
    answer = await cluster.call(method, path, f"{method} {path}", body=msgspec.json.encode(body) if body else None, media=media)
    result: Tree = msgspec.json.decode(answer)
    return result


@pytest.fixture
def _real(under_test: ClusterUnderTest) -> None:
    if under_test.name != KUBERNETES:
        pytest.skip("only a real node evicts by limits")


@pytest.mark.usefixtures("_real")
async def test_evicted(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "sleep 60"))
    pod = await until_pod(cluster, namespace, "a", is_running)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.metadata.name}}
    await call(cluster, "POST", f"/api/v1/namespaces/{namespace}/pods/{pod.metadata.name}/eviction", eviction)
    found = await diagnosis(cluster, namespace, lambda each: each.reason == "Evicted")
    assert "Was evicted" in found.sentence
