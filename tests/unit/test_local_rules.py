"""The local cluster's rules by themselves: the Job controller's decision, patches, selectors, index sets, environments, mounts."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.local import indexes, patches, pod_env, protobuf, selectors, volumes
from jobyard.local.cron_sync import sync as cron_sync
from jobyard.local.defaults import fill
from jobyard.local.job_rules import TRACKED, BackOff, remaining
from jobyard.local.job_sync import Sync, sync
from jobyard.local.requests import decode, target
from jobyard.local.resources import JOBS, PODS
from jobyard.local.status import ApiError
from jobyard.local.store import Expired, Store

Tree = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(status: Tree | None = None, **spec: Any) -> Tree:
    tree = {
        "metadata": {"name": "j", "namespace": "n", "uid": "u"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": []}}, **spec},
    }
    return {**fill(JOBS, tree), "status": status or {}}


def pod(name: str, phase: str = "Running", index: int | None = None, deleting: bool = False, code: int = 1, **notes: str) -> Tree:
    annotations = {
        **({indexes.INDEX: str(index)} if index is not None else {}),
        **{f"batch.kubernetes.io/{key.replace('_', '-')}": value for key, value in notes.items()},
    }
    metadata: Tree = {
        "name": name,
        "namespace": "n",
        "uid": name,
        "finalizers": [TRACKED],
        "annotations": annotations,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    if deleting:
        metadata |= {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}
    state = (
        {"terminated": {"exitCode": 0 if phase == "Succeeded" else code, "finishedAt": "2026-01-01T00:00:00Z"}}
        if phase in ("Succeeded", "Failed")
        else {"running": {}}
    )
    return {
        "metadata": metadata,
        "spec": {"nodeName": "x"},
        "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": state, "restartCount": 0}]},
    }


def look(of: Tree, *pods: Tree, back_off: BackOff | None = None, now: datetime = NOW) -> Sync:
    return sync(of, pods, back_off or BackOff(), now)


def kinds(done: Sync) -> list[str]:
    return [each["type"] for each in done.status.get("conditions", [])]


def test_a_new_job_makes_as_many_pods_as_it_wants_at_once() -> None:
    assert len(look(job()).create) == 1
    assert len(look(job(completions=5, parallelism=2)).create) == 2
    assert len(look(job(completions=5, parallelism=2), pod("a"), pod("b", "Succeeded")).create) == 1
    assert len(look(job(parallelism=3), pod("a", "Succeeded"), pod("b")).create) == 0, "a work queue makes no more once one succeeded"


def test_the_end_comes_with_its_target_first() -> None:
    assert kinds(look(job(), pod("a", "Succeeded"))) == ["SuccessCriteriaMet", "Complete"]
    assert kinds(look(job(backoffLimit=0), pod("a", "Failed"))) == ["FailureTarget", "Failed"]
    waiting = look(job(backoffLimit=0, completions=2, parallelism=2), pod("a", "Failed"), pod("b"))
    assert kinds(waiting) == ["FailureTarget"], "not finished while a pod still ends"
    assert [each["metadata"]["name"] for each in waiting.delete] == ["b"]
    assert waiting.status["failed"] == 2, "who is deleted with a failed Job counts as failed"


def test_pods_are_counted_once_by_their_finalizer() -> None:
    counted = pod("a", "Failed")
    counted["metadata"]["finalizers"] = []
    done = look(job({"failed": 1}), counted, now=NOW + timedelta(minutes=1))
    assert done.status["failed"] == 1
    assert len(done.create) == 1


def test_back_off_doubles_and_is_forgotten_after_a_success() -> None:
    failed = look(job(), pod("a", "Failed"))
    assert (failed.create, failed.again) == ([], NOW + timedelta(seconds=10))
    assert [remaining(n, NOW, NOW).total_seconds() for n in (0, 1, 2, 3, 10)] == [0, 10, 20, 40, 600]
    assert BackOff(3, NOW).after([pod("s", "Succeeded")], []) == BackOff()


def test_a_deadline_is_looked_at_when_it_passes() -> None:
    started = {"startTime": "2026-01-01T00:00:00Z"}
    assert look(job(started, activeDeadlineSeconds=5), pod("a")).again == NOW + timedelta(seconds=5)
    late = look(job(started, activeDeadlineSeconds=5), pod("a"), now=NOW + timedelta(seconds=5))
    assert late.status["conditions"][0]["reason"] == "DeadlineExceeded"


def test_suspending_deletes_pods_and_resuming_resets_the_start() -> None:
    done = look(job({"startTime": "2026-01-01T00:00:00Z"}, suspend=True), pod("a"))
    assert ([each["metadata"]["name"] for each in done.delete], kinds(done)) == (["a"], ["Suspended"])
    assert "startTime" not in done.status
    again = look(job(done.status, suspend=False), now=NOW + timedelta(seconds=9))
    assert again.status["conditions"][0]["status"] == "False"
    assert again.status["startTime"] == "2026-01-01T00:00:09Z"


def test_indexes_are_filled_in_order_and_duplicates_removed() -> None:
    indexed = job(completions=4, parallelism=2, completionMode="Indexed")
    assert [new.index for new in look(indexed).create] == [0, 1]
    done = look(
        indexed, pod("a", "Succeeded", 0), pod("b", index=1), pod("c", "Failed", 3), back_off=BackOff(), now=NOW + timedelta(minutes=1)
    )
    assert done.status["completedIndexes"] == "0"
    assert [new.index for new in done.create] == [2]
    twice = look(indexed, pod("a", index=0), pod("b", index=0))
    assert len(twice.delete) == 1


def test_a_pod_failure_policy_decides() -> None:
    rules = [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    policy = {"rules": rules}
    ended = look(job(podFailurePolicy=policy), pod("a", "Failed", code=42))
    assert ended.status["conditions"][0]["reason"] == "PodFailurePolicy"
    assert "failed with exit code 42 matching FailJob rule at index 0" in ended.status["conditions"][0]["message"]
    evicted = pod("b", "Failed", code=143)
    evicted["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    assert look(job(podFailurePolicy=policy, backoffLimit=0), evicted).status.get("failed") is None


def test_back_off_limit_per_index_and_its_maximum() -> None:
    spec: Tree = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 0}
    done = look(job(**spec), pod("a", "Failed", 0, job_index_failure_count="0"), pod("b", "Succeeded", 1), pod("c", index=2))
    assert (done.status["failedIndexes"], done.status["completedIndexes"], kinds(done)) == ("0", "1", [])
    end = look(job(**spec), pod("a", "Failed", 0, job_index_failure_count="0"), pod("b", "Succeeded", 1), pod("c", "Succeeded", 2))
    assert end.status["conditions"][0]["reason"] == "FailedIndexes"
    most = look(job(**spec, maxFailedIndexes=0), pod("a", "Failed", 0, job_index_failure_count="0"), pod("c", index=2))
    assert most.status["conditions"][0]["reason"] == "MaxFailedIndexesExceeded"


def test_a_success_policy_ends_early() -> None:
    policy = {"rules": [{"succeededIndexes": "0,2", "succeededCount": 1}]}
    done = look(
        job(completions=3, parallelism=3, completionMode="Indexed", successPolicy=policy),
        pod("a", index=0),
        pod("b", index=1),
        pod("c", "Succeeded", 2),
    )
    assert done.status["conditions"][0]["reason"] == "SuccessPolicy"
    assert len(done.delete) == 2


@given(st.sets(st.integers(0, 40)))
def test_index_sets_are_read_as_they_were_written(wanted: set[int]) -> None:
    assert indexes.read(str(indexes.of(wanted))) == indexes.of(wanted)


def test_index_sets_look_as_kubernetes_writes_them() -> None:
    assert str(indexes.of([1, 3, 4, 5, 7, 8])) == "1,3-5,7,8"


def test_merge_and_json_patches() -> None:
    tree = {"a": {"b": 1, "c": 2}, "l": [1, 2]}
    assert patches.apply(JOBS, tree, {"a": {"b": None, "d": 3}, "l": [9]}, patches.MERGE_PATCH) == {"a": {"c": 2, "d": 3}, "l": [9]}
    operations = [
        {"op": "add", "path": "/l/-", "value": 3},
        {"op": "remove", "path": "/a/b"},
        {"op": "move", "from": "/a/c", "path": "/x~1y"},
        {"op": "test", "path": "/l/0", "value": 1},
    ]
    assert patches.apply(JOBS, tree, operations, patches.JSON_PATCH) == {"a": {}, "l": [1, 2, 3], "x/y": 2}
    assert tree == {"a": {"b": 1, "c": 2}, "l": [1, 2]}
    for bad in ([{"op": "remove", "path": "/none"}], [{"op": "test", "path": "/l/0", "value": 2}], [{"op": "jump", "path": "/a"}]):
        with pytest.raises(ApiError):
            patches.apply(JOBS, tree, bad, patches.JSON_PATCH)
    with pytest.raises(ApiError):
        patches.apply(JOBS, tree, {}, "text/plain")


def test_a_strategic_merge_patch_merges_lists_by_their_key() -> None:
    tree = {
        "spec": {
            "template": {
                "spec": {
                    "containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}, {"name": "b"}],
                    "tolerations": [{"key": "t"}],
                }
            }
        }
    }
    change = {
        "containers": [{"name": "a", "env": [{"name": "F", "value": "2"}]}, {"name": "b", "$patch": "delete"}],
        "tolerations": [{"key": "u"}],
    }
    patched = patches.apply(JOBS, tree, {"spec": {"template": {"spec": change}}}, patches.STRATEGIC)["spec"]["template"]["spec"]
    assert patched["containers"] == [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}]}]
    assert patched["tolerations"] == [{"key": "u"}], "a list without a key is replaced"


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("a=1", True),
        ("a==1,b", True),
        ("a!=1", False),
        ("a in (1,2)", True),
        ("a notin (1)", False),
        ("!c", True),
        ("!a", False),
        ("c=", False),
        ("b=,a=1", True),
    ],
)
def test_label_selectors(selector: str, matches: bool) -> None:
    assert selectors.labels(selector)({"metadata": {"labels": {"a": "1", "b": ""}}}) is matches


def test_selectors_that_are_none() -> None:
    for text in ("a in 1", "=x", "a b"):
        with pytest.raises(ApiError):
            selectors.labels(text)
    with pytest.raises(ApiError, match="not supported"):
        selectors.fields(JOBS, "status.active=1")
    assert selectors.fields(PODS, "status.phase!=Running")({"metadata": {}, "status": {"phase": "Pending"}})


def test_paths_name_their_targets() -> None:
    found = target("/apis/batch/v1/namespaces/n/jobs/j/status")
    assert found is not None
    assert (found.resource.plural, found.namespace, found.name, found.subresource) == ("jobs", "n", "j", "status")
    space = target("/api/v1/namespaces/n")
    assert space is not None
    assert (space.resource.plural, space.name) == ("namespaces", "n")
    for path in (
        "/api/v1/nothing",
        "/apis/batch/v2/jobs",
        "/api/v1/pods/x",
        "/api/v1/namespaces/n/pods/p/exec",
        "/api/v1/namespaces/n/pods/p/log/x",
    ):
        assert target(path) is None


def test_unknown_fields_are_dropped_warned_about_or_refused() -> None:
    tree = {"metadata": {"name": "x"}, "spec": {"backofLimit": 1, "template": {"spec": {"containers": [{"name": "c", "imag": "x"}]}}}}
    kept, warnings = decode(JOBS, tree, "Warn")
    assert kept["spec"] == {"template": {"spec": {"containers": [{"name": "c"}]}}}
    assert sorted(warnings) == ['unknown field "spec.backofLimit"', 'unknown field "spec.template.spec.containers[0].imag"']
    assert decode(JOBS, tree, "Ignore")[1] == []
    with pytest.raises(ApiError, match="strict decoding error"):
        decode(JOBS, tree, "Strict")
    with pytest.raises(ApiError, match="cannot unmarshal string"):
        decode(JOBS, {"spec": {"parallelism": "two"}}, "Ignore")


def test_environments_refer_expand_and_complain() -> None:
    objects: dict[tuple[str, str], Tree] = {
        ("Secret", "s"): {"kind": "Secret", "data": {"pw": "aHVudGVyMg=="}},
        ("ConfigMap", "c"): {"kind": "ConfigMap", "data": {"k": "v"}},
    }

    def found(kind: str, name: str) -> Tree | None:
        return objects.get((kind, name))

    of = {"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "x"}}, "spec": {}}
    env = [
        {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
        {"name": "REF", "value": "$(PW)-$(NONE)-$$(PW)"},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
    ]
    container = {
        "env": env,
        "envFrom": [{"prefix": "C_", "configMapRef": {"name": "c"}}],
        "resources": {"limits": {"cpu": "500m"}},
        "command": ["echo", "$(APP)"],
    }
    values = pod_env.environment(of, container, found)
    assert values == {"C_k": "v", "PW": "hunter2", "REF": "hunter2-$(NONE)-$(PW)", "APP": "x", "CPU": "500"}
    assert pod_env.expanded(["echo", "$(APP)"], values) == ["echo", "x"]
    for bad, words in (
        ({"name": "A", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}, 'secret "none" not found'),
        ({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, "couldn't find key k in Secret n/s"),
    ):
        with pytest.raises(pod_env.ConfigError, match=words):
            pod_env.environment(of, {"env": [bad]}, found)


def test_volumes_never_lead_outside(tmp_path: Path) -> None:
    objects = {"kind": "ConfigMap", "data": {"a": "1"}}
    of = {
        "metadata": {"name": "p"},
        "spec": {"volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "a", "path": "../../out"}]}}]},
    }
    with pytest.raises(volumes.MountError, match="outside"):
        volumes.prepare(of, tmp_path, lambda *_: objects)
    assert not (tmp_path / "out").exists()


def test_mount_points_that_are_not_there_are_made_in_memory(tmp_path: Path) -> None:
    args = volumes.bubblewrap(
        work=tmp_path, termination=("/dev/termination-log", tmp_path / "t"), mounts=[(tmp_path, "/no-such-folder/deep", False)], chdir="/"
    )
    assert args[:2] != ["--bind", "/"], "the root is shadowed"
    assert ["--bind", str(tmp_path), "/no-such-folder/deep"] in [args[i : i + 3] for i in range(len(args))]
    plain = volumes.bubblewrap(
        work=tmp_path, termination=("/dev/termination-log", tmp_path / "t"), mounts=[(tmp_path, "/mnt", True)], chdir="/"
    )
    assert plain[:3] == ["--bind", "/", "/"]


def test_a_store_starts_as_it_ended_and_forgets_what_is_too_old(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    first = store.put("jobs.batch", {"metadata": {"namespace": "n", "name": "a"}})
    store.put("jobs.batch", {"metadata": {"namespace": "n", "name": "b"}})
    store.remove("jobs.batch", "n", "a")
    version = store.version
    assert [change.type for change in store.subscribe("jobs.batch", since=int(first["metadata"]["resourceVersion"])).pending] == [
        "ADDED",
        "DELETED",
    ]
    store.close()
    again = Store(tmp_path / "s.sqlite")
    assert (again.version, [each["metadata"]["name"] for each in again.list("jobs.batch")]) == (version, ["b"])
    with pytest.raises(Expired):
        again.subscribe(since=2)
    assert list(again.subscribe(since=version).pending) == []
    again.close()


@given(st.binary(max_size=200))
def test_protobuf_that_is_none_is_an_error_of_ours(data: bytes) -> None:
    for body in (data, b"k8s\0" + data, b"k8s\0\n\x0c\n\x02v1\x12\x06Secret\x12" + bytes([len(data) % 128]) + data):
        with contextlib.suppress(ValueError):
            protobuf.decode(body)


def cron(text: str = "*/5 * * * *", status: Tree | None = None, **spec: Any) -> Tree:
    template = {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": []}}}}
    metadata = {"name": "c", "namespace": "n", "uid": "c", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"schedule": text, "jobTemplate": template, **spec}, "status": status or {}}


def scheduled(name: str, *conditions: str, started: str = "2026-01-01T00:00:00Z") -> Tree:
    listed = [{"type": each, "status": "True"} for each in conditions]
    return {"metadata": {"name": name, "uid": name, "namespace": "n"}, "status": {"conditions": listed, "startTime": started}}


def test_a_cron_job_makes_the_newest_start_that_it_missed() -> None:
    assert cron_sync(cron(), [], NOW + timedelta(minutes=4)).create is None
    late = cron_sync(cron(), [], NOW + timedelta(minutes=12))
    assert (late.create, late.again) == (NOW + timedelta(minutes=10), NOW + timedelta(minutes=15))
    assert cron_sync(cron(status=late.status), [], NOW + timedelta(minutes=12)).create is None, "each once"
    assert cron_sync(cron(suspend=True), [], NOW + timedelta(minutes=12)).create is None
    assert cron_sync(cron(startingDeadlineSeconds=60), [], NOW + timedelta(minutes=12)).create is None
    many = cron_sync(cron("* * * * *"), [], NOW + timedelta(minutes=200))
    assert (many.create, many.events[0][1]) == (NOW + timedelta(minutes=200), "TooManyMissedTimes")


def test_a_cron_job_knows_zones_and_macros() -> None:
    in_berlin = cron_sync(cron("30 2 * * *", timeZone="Europe/Berlin"), [], NOW + timedelta(hours=2))
    assert in_berlin.create == NOW + timedelta(hours=1, minutes=30)
    assert cron_sync(cron("@hourly"), [], NOW + timedelta(minutes=61)).create == NOW + timedelta(hours=1)
    assert cron_sync(cron(timeZone="Nowhere/None"), [], NOW + timedelta(hours=1)).events[0][1] == "UnknownTimeZone"


def test_a_cron_job_s_concurrency_and_history() -> None:
    active = {"active": [{"name": "a", "uid": "a"}]}
    assert cron_sync(cron(status=active, concurrencyPolicy="Forbid"), [scheduled("a")], NOW + timedelta(minutes=6)).create is None
    replaced = cron_sync(cron(status=active, concurrencyPolicy="Replace"), [scheduled("a")], NOW + timedelta(minutes=6))
    assert ([each["metadata"]["name"] for each in replaced.delete], replaced.create is not None) == (["a"], True)
    allowed = cron_sync(cron(status=active), [scheduled("a")], NOW + timedelta(minutes=6))
    assert (allowed.delete, len(allowed.status["active"])) == ([], 1)
    jobs = [scheduled(f"j{i}", "Complete", started=f"2026-01-01T00:0{i}:00Z") for i in range(5)]
    cleaned = cron_sync(cron(status=active), [*jobs, scheduled("a", "Failed")], NOW)
    assert [each["metadata"]["name"] for each in cleaned.delete] == ["j0", "j1"]
    assert ("Normal", "SawCompletedJob", "Saw completed job: a, condition: Failed") in cleaned.events
