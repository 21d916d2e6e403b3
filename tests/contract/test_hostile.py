"""One object, one request, one file that is there already: none ends the local cluster, or tells a secret. Each case was once one that did, or could have."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.local import daemon
from jobyard.local.private import FolderNotPrivate
from jobyard.local.store import Store
from jobyard.model.errors import Rejected
from jobyard.model.objects import JOBS, PODS
from tests.conftest import LOCAL, ClusterUnderTest
from tests.fuzz.objects import JSON, MERGE
from tests.fuzz.verdict import SIGNS
from tests.manifests import Tree, job
from tests.waiting import BOUND, until, until_ended, until_gone, until_pod

LARGEST = 2**31 - 1


@pytest.fixture
def under_test(local_data: Path) -> ClusterUnderTest:
    """The local cluster alone: the other one is Kubernetes' own."""
    return ClusterUnderTest(name=LOCAL, kubeconfig=local_data / "local" / "kubeconfig")


@pytest.fixture(autouse=True)
def log(local_data: Path) -> Iterator[Path]:
    """The cluster's log, which may say of none of these cases that something was raised."""
    log = local_data / "local" / "log"
    before = log.stat().st_size
    yield log
    said = log.read_bytes()[before:].decode(errors="replace")
    assert not [sign for sign in SIGNS if sign in said], said


async def create(cluster: HttpCluster, namespace: str, tree: Tree) -> Any:
    api, plural = {"Job": ("apis/batch/v1", "jobs"), "Pod": ("api/v1", "pods"), "CronJob": ("apis/batch/v1", "cronjobs")}[tree["kind"]]
    body = json.dumps(tree).encode()
    return json.loads(await cluster.call("POST", f"/{api}/namespaces/{namespace}/{plural}", f"create {tree['kind']}", body=body))


async def goes_on(cluster: HttpCluster, namespace: str) -> None:
    """A good Job runs to its end."""
    await cluster.create(JOBS, namespace, job("good"))
    assert (await until_ended(cluster, namespace, "good")).status.succeeded == 1


def pod(**spec: Any) -> Tree:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {**job("x")["spec"]["template"]["spec"], **spec}}


def cron(schedule: str, **spec: Any) -> Tree:
    inside = {"schedule": schedule, "jobTemplate": {"spec": job("x")["spec"]}, **spec}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": inside}


INDEXED: Tree = {"completionMode": "Indexed", "completions": LARGEST}
CPU = {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}], "resources": {"limits": {"cpu": "1e400"}}}
DOUBLED = [{"name": "A0", "value": "x" * 1000}, *({"name": f"A{n + 1}", "value": f"$(A{n})$(A{n})"} for n in range(40))]


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(job("h", activeDeadlineSeconds=10**15), id="a-deadline-beyond-time"),
        pytest.param(job("h", pod={"terminationGracePeriodSeconds": 10**12}), id="a-grace-beyond-time"),
        pytest.param(job("h", pod={"terminationGracePeriodSeconds": -5}), id="a-negative-grace"),
        pytest.param(job("h", container=CPU), id="an-endless-amount"),
        pytest.param(job("h", "sleep 5", parallelism=LARGEST, completions=LARGEST), id="milliards-of-pods"),
        pytest.param(job("h", **INDEXED, successPolicy={"rules": [{"succeededIndexes": f"0-{LARGEST - 1}"}]}), id="milliards-of-indexes"),
        pytest.param(job("h", "sleep 5", pod={"nodeName": "elsewhere"}), id="another-node"),
        pytest.param(job("h", container={"env": DOUBLED}), id="variables-that-double"),
        pytest.param(job("h", container={"terminationMessagePath": "here"}), id="a-relative-path-for-a-message"),
        pytest.param(job("h", container={"command": ["x" * 100_000]}), id="an-endless-command"),
        pytest.param(job("h", container={"command": ["a\0b"], "workingDir": "a\0b"}), id="a-zero-in-a-command"),
        pytest.param(job("h", container={"env": [{"name": "A", "value": "a\0b"}]}), id="a-zero-in-a-variable"),
        pytest.param(job("h", "head -c 50000000 /dev/zero > /dev/termination-log"), id="an-endless-message"),
        pytest.param(pod(volumes=[{"name": "a", "hostPath": {"path": "a\0b"}}]), id="a-zero-in-a-path"),
        pytest.param(pod(activeDeadlineSeconds=LARGEST), id="a-pod-s-longest-deadline"),
        pytest.param(cron("* * * * *", startingDeadlineSeconds=10**15), id="a-starting-deadline-beyond-time"),
        pytest.param(cron("0 0 29 2 *"), id="a-leap-day"),
    ],
)
async def test_an_object_that_kubernetes_takes_ends_nothing_but_itself(cluster: HttpCluster, namespace: str, tree: Tree) -> None:
    made = await create(cluster, namespace, tree)
    await goes_on(cluster, namespace)
    plural = f"{tree['kind'].lower()}s"
    api = "api/v1" if plural == "pods" else "apis/batch/v1"
    name = made["metadata"]["name"]
    for accept in ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"):
        await cluster.call("GET", f"/{api}/namespaces/{namespace}/{plural}/{name}", "see it", accept=accept)
    await cluster.call("DELETE", f"/{api}/namespaces/{namespace}/{plural}/{name}", "delete it", body=b'{"propagationPolicy": "Background"}')


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (job("h", ttlSecondsAfterFinished=10**14), "cannot unmarshal number"),
        (job("h", parallelism=2**31), "cannot unmarshal number"),
        (job("h", parallelism=1.0), "cannot unmarshal number"),
        (job("h", activeDeadlineSeconds=-1), "must be greater than or equal to 0"),
        (job("h", completionMode="Indexed", completions=1, parallelism=10**6), "must be less than or equal to 100000"),
        (job("h", manualSelector=True), "spec.selector: Required value"),
        (job("h", container={"resources": {"limits": {"cpu": "lots"}}}), "quantities must match"),
        (job("h", pod={"volumes": [{"name": "../../evil", "emptyDir": {}}]}), r"volumes\[0\].name: Invalid value"),
        (job("h", pod={"volumes": [{"emptyDir": {}}]}), r"volumes\[0\].name: Required value"),
        (
            job("h", pod={"volumes": [{"name": "a", "configMap": {"name": "c", "items": [{"key": "k", "path": "../k"}]}}]}),
            "must not contain",
        ),
        (job("h", pod={"volumes": [{"name": "a", "configMap": {"name": "c", "defaultMode": 0o7777}}]}), "must be between 0 and 511"),
        (
            job("h", container={"volumeMounts": [{"name": "a", "mountPath": "/a", "subPath": "../b"}]}, pod={"volumes": [{"name": "a"}]}),
            "must not contain",
        ),
        (job("../h"), "RFC 1123"),
        (pod(hostname="../h"), "RFC 1123"),
        (pod(activeDeadlineSeconds=2**31), "must be between 1 and"),
        (cron("* * * * *", timeZone="../UTC"), "unknown time zone"),
        (cron("* * * * *", timeZone="Europe"), "unknown time zone"),
        (cron("² * * * *"), "spec.schedule: Invalid value"),
    ],
)
async def test_what_is_out_of_range_is_refused_as_kubernetes_does(cluster: HttpCluster, namespace: str, tree: Tree, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        await create(cluster, namespace, tree)


@pytest.mark.parametrize(
    "status",
    [
        {"startTime": "9999-12-31T23:59:59Z", "failed": LARGEST},
        {"startTime": "0001-01-01T00:00:00+14:00"},
        {"conditions": [{}, None]},
        {"completedIndexes": f"0-{LARGEST - 1}", "failedIndexes": None},
    ],
)
async def test_a_status_that_a_client_writes_ends_nothing(cluster: HttpCluster, namespace: str, status: Tree) -> None:
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/h/status"
    await create(cluster, namespace, job("h", "sleep 60", activeDeadlineSeconds=1000, **INDEXED))
    await cluster.call("PATCH", path, "write its status", body=json.dumps({"status": status}).encode(), media=MERGE)
    await goes_on(cluster, namespace)


async def test_a_pod_s_status_and_counts_that_a_client_writes_end_nothing(cluster: HttpCluster, namespace: str) -> None:
    await create(cluster, namespace, job("h", "exit 1", backoffLimit=1))
    made = await until_pod(cluster, namespace, "h", lambda each: bool(each.metadata.uid))
    path = f"/api/v1/namespaces/{namespace}/pods/{made.metadata.name}"
    notes = {"batch.kubernetes.io/job-completion-index": "²", "batch.kubernetes.io/job-index-failure-count": "9" * 5000}
    for sub, change in (
        ("", {"metadata": {"annotations": notes, "ownerReferences": [{}]}}),
        ("", {"metadata": {"annotations": notes}}),
        ("/status", {"status": {"containerStatuses": [{}], "conditions": [{"lastTransitionTime": "9999-12-31T23:59:59-14:00"}]}}),
        (
            "/status",
            {"status": {"containerStatuses": [{"state": {"terminated": {"finishedAt": "9999-12-31T23:59:59Z"}}}], "phase": "Failed"}},
        ),
    ):
        try:
            await cluster.call("PATCH", path + sub, "harm it", body=json.dumps(change).encode(), media=MERGE)
        except Rejected as refused:
            assert refused.status in (404, 422)  # noqa: PT017
    await cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods", "see them", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    await goes_on(cluster, namespace)


async def test_a_grace_beyond_time_is_a_deletion_that_waits(cluster: HttpCluster, namespace: str) -> None:
    await create(cluster, namespace, pod(terminationGracePeriodSeconds=10**12, containers=[_sleeper("trap : TERM; sleep 60 & wait; wait")]))
    await until(cluster, PODS, namespace, "p", lambda each: each.status.phase == "Running")
    path = f"/api/v1/namespaces/{namespace}/pods/p"
    left = json.loads(await cluster.call("DELETE", path, "delete it"))
    assert left["metadata"]["deletionTimestamp"] == "9999-12-31T23:59:59Z"
    await cluster.call("DELETE", path, "delete it now", body=b'{"gracePeriodSeconds": 0}')
    await until_gone(cluster, PODS, namespace, "p")


def _sleeper(script: str) -> Tree:
    return {"name": "main", "image": "busybox", "command": ["sh", "-c", script]}


async def test_a_job_that_wants_milliards_of_pods_keeps_few_waiting(cluster: HttpCluster, namespace: str) -> None:
    await create(cluster, namespace, job("h", "sleep 60", parallelism=LARGEST, completions=LARGEST))
    await until(cluster, JOBS, namespace, "h", lambda each: (each.status.active or 0) > 100)
    assert len(await cluster.list(PODS, namespace)) <= 200 + 8 * (os.cpu_count() or 1)
    await cluster.delete(JOBS, namespace, "h")
    await goes_on(cluster, namespace)


async def test_a_log_keeps_what_ends_no_line(cluster: HttpCluster, namespace: str) -> None:
    await create(cluster, namespace, job("h", r"printf 'a\rb\nc\013d\n'"))
    await until_ended(cluster, namespace, "h")
    (made,) = await cluster.list(PODS, namespace)
    assert [line async for line in cluster.logs(namespace, made.metadata.name)] == ["a\rb", "c\vd"]


# --- requests ---


async def ask(local_data: Path, text: str, body: bytes = b"", media: str = "application/json") -> int:
    """The status that a raw request is answered; TOKEN stands for the token's place."""
    server = urlsplit(json.loads((local_data / "local" / "kubeconfig").read_text())["clusters"][0]["cluster"]["server"])
    head = f"{text.replace('TOKEN', server.path[1:])} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {media}\r\n"
    async with asyncio.timeout(BOUND):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status = int((await reader.readline()).split()[1])
        writer.close()
    return status


@pytest.mark.parametrize(
    ("request_line", "body", "media", "status"),
    [
        ("OPTIONS *", b"", "", 400),
        ("GET /TOKEN/api/v1/pods?limit=x", b"", "", 400),
        ("GET /TOKEN/api/v1/pods?limit=%C2%B2", b"", "", 400),
        ("GET /TOKEN/api/v1/pods?%ff=%ff", b"", "", 200),
        ("GET /TOKEN/api/v1/pods?watch=1&timeoutSeconds=nan", b"", "", 400),
        ("GET /TOKEN/api/v1/pods?watch=1&resourceVersion=%C2%B2", b"", "", 400),
        (f"GET /TOKEN/api/v1/pods?labelSelector={'a,' * 20_000}", b"", "", 414),
        ("GET /TOKEN/api/v1/namespaces/NS/pods/known/log?tailLines=-1", b"", "", 400),
        (f"GET /TOKEN/api/v1/namespaces/NS/pods/known/log?sinceSeconds={10**18}", b"", "", 200),
        ("GET /TOKEN/api/v1/namespaces/NS/pods/known/log?sinceTime=2026-01-01", b"", "", 400),
        ("POST /TOKEN/api/v1/namespaces/NS/configmaps", b"[" * 1_000_000, "application/json", 400),
        ("POST /TOKEN/api/v1/namespaces/NS/configmaps", b"- " * 200_000, "application/yaml", 400),
        ("POST /TOKEN/api/v1/namespaces/NS/configmaps", b"a: &a [x]\nb: [*a]\n", "application/yaml", 400),
        (
            "POST /TOKEN/api/v1/namespaces/NS/configmaps",
            b"k8s\0" + b"\x0a\x04\x0a\x02v1" + b"\xff" * 20,
            "application/vnd.kubernetes.protobuf",
            400,
        ),
        ("DELETE /TOKEN/api/v1/namespaces/NS/pods/known?gracePeriodSeconds=x", b"", "", 400),
        ("DELETE /TOKEN/api/v1/namespaces/NS/pods/known", b'{"gracePeriodSeconds": "x"}', "application/json", 400),
        ("DELETE /TOKEN/api/v1/namespaces/NS/pods/known", b'{"preconditions": []}', "application/json", 400),
        ("DELETE /TOKEN/api/v1/namespaces/NS/pods/known/status", b"", "", 405),
        ("PUT /TOKEN/api/v1/namespaces/NS/pods/known/log", b"{}", "application/json", 405),
        ("DELETE /TOKEN/api/v1/namespaces", b"", "", 405),
        ("DELETE /TOKEN/api/v1/namespaces/default", b"", "", 403),
        ("DELETE /TOKEN/api/v1/nodes/local", b"", "", 403),
        ("DELETE /TOKEN/api/v1/pods", b"", "", 405),
        ("PATCH /TOKEN/api/v1/namespaces/NS/pods/known", b'[{"op": "test", "path": 5}]', JSON, 400),
        (
            "PATCH /TOKEN/api/v1/namespaces/NS/pods/known",
            json.dumps([{"op": "copy", "from": "", "path": f"/spec/a{n}"} for n in range(60)]).encode(),
            JSON,
            413,
        ),
        (
            "PATCH /TOKEN/api/v1/namespaces/NS/pods/known",
            json.dumps([{"op": "add", "path": "/spec" + "/a" * n, "value": {}} for n in range(300)]).encode(),
            JSON,
            422,
        ),
        ("PATCH /TOKEN/api/v1/namespaces/NS/pods/known", b'{"spec": {"nodeName": "x", "containers": null}}', MERGE, 422),
    ],
)
async def test_a_request_that_is_wrong_is_told_so(
    cluster: HttpCluster, namespace: str, local_data: Path, request_line: str, body: bytes, media: str, status: int
) -> None:
    await create(cluster, namespace, {**pod(containers=[_sleeper("sleep 60")]), "metadata": {"name": "known"}})
    await until(cluster, PODS, namespace, "known", lambda each: each.status.phase == "Running")
    assert await ask(local_data, request_line.replace("NS", namespace), body, media) == status


async def test_owners_of_fields_that_are_none_are_passed_over(cluster: HttpCluster, namespace: str) -> None:
    where = f"/api/v1/namespaces/{namespace}/configmaps/c"
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}

    async def put(method: str, body: Any, media: str, **params: str) -> Any:
        return json.loads(await cluster.call(method, where, "change it", body=json.dumps(body).encode(), media=media, params=params))

    await put("PATCH", wanted, "application/apply-patch+yaml", fieldManager="x")
    sets: tuple[Tree, ...] = ({"f:data": {"k:[1]": {}}}, {"f:data": {"k:{": {}}}, {"x": {}})
    for fields in sets:
        entry = {"manager": "x", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}
        kept = await put("PATCH", {"metadata": {"managedFields": [entry]}}, MERGE)
        assert kept["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {"f:a": {}}}
    again = await put("PATCH", {**wanted, "data": {"b": "2"}}, "application/apply-patch+yaml", fieldManager="x")
    assert again["data"] == {"b": "2"}
    nothing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    for body in (nothing, nothing, {**nothing, "data": None}):
        left = await put("PATCH", body, "application/apply-patch+yaml", fieldManager="y", force="true")
    assert left["data"] == {"b": "2"}


# --- what lies on the disk ---


def open_to_others(folder: Path) -> list[str]:
    """What of a folder another user could read, list or enter: nothing below what is shut counts."""
    found = []
    for path in (folder, *folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else (folder,):
        if path.is_symlink() or not stat.S_IMODE(path.lstat().st_mode) & 0o077:
            continue
        found.append(str(path))
        if path != folder and path.is_dir():
            found += open_to_others(path)
    return found


async def test_a_folder_that_is_there_already_becomes_our_own_and_so_does_all_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    (folder / "cluster.sqlite-wal").write_bytes(b"")
    (folder / "cluster.sqlite-wal").chmod(0o644)
    before = os.umask(0o022)
    try:
        daemon.start(folder)
    finally:
        os.umask(before)
    try:
        async with open_cluster(connect(kubeconfig=str(folder / "kubeconfig"))) as cluster:
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "hunter2"}}
            await cluster.call("POST", "/api/v1/namespaces/default/secrets", "create it", body=json.dumps(secret).encode())
            of = {"volumes": [{"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}}, {"name": "e", "emptyDir": {}}]}
            await cluster.create(JOBS, "default", job("j", "umask > /dev/termination-log; sleep 60", pod=of))
            made = await until_pod(cluster, "default", "j", lambda each: each.status.phase == "Running")
            files = folder / "pods" / made.metadata.uid / "volumes"
            assert (files / "s" / "k").read_text() == "hunter2"
            assert open_to_others(folder) == []
            assert stat.S_IMODE((files / "s" / "k").stat().st_mode) == 0o400
            assert stat.S_IMODE((files / "e").stat().st_mode) == 0o777, "for whoever the container runs as"
            message = folder / "pods" / made.metadata.uid / "messages" / "main-0"
            assert message.read_text().strip() in ("", "0022"), "containers keep the umask of who started the cluster"
    finally:
        daemon.stop(folder)


def test_a_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "local").symlink_to(tmp_path / "evil")
    with pytest.raises(FolderNotPrivate, match="it is a link"):
        daemon.start(tmp_path / "local")
    assert list((tmp_path / "evil").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_somebody_else_s_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(FolderNotPrivate, match="belongs to another user"):
        daemon.start(folder)


async def test_an_object_that_is_damaged_on_the_disk_keeps_nothing_else_from_starting(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    folder.mkdir(mode=0o700)
    store = Store(folder / "cluster.sqlite")
    metadata = {"namespace": "default", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    store.put("jobs.batch", {"kind": "Job", "apiVersion": "batch/v1", "metadata": {**metadata, "name": "damaged"}, "spec": {}})
    store.put(
        "pods", {"kind": "Pod", "apiVersion": "v1", "metadata": {**metadata, "name": "damaged", "uid": "v"}, "spec": {}, "status": {}}
    )
    store.close()
    daemon.start(folder)
    try:
        async with open_cluster(connect(kubeconfig=str(folder / "kubeconfig"))) as cluster:
            await goes_on(cluster, "default")
        said = (folder / "log").read_text()
        assert "JobController looks at jobs.batch/default/damaged again in 1 s: KeyError" in said
        assert "Traceback" not in said
    finally:
        daemon.stop(folder)
