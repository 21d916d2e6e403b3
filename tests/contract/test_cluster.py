"""What every cluster has to do for us: the Cluster contract, held against each one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.contracts import Change
from jobyard.model.errors import Conflict, NotFound, Rejected, Unavailable
from jobyard.model.objects import CONFIG_MAPS, JOBS, PODS, ConfigMap
from tests.manifests import job
from tests.waiting import BOUND, is_running, until_ended, until_gone, until_pod


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "x"}}, "data": data}


async def test_create_get_list_patch_delete(cluster: HttpCluster, namespace: str) -> None:
    made = await cluster.create(CONFIG_MAPS, namespace, config_map("a", k="1"))
    assert made.metadata.uid
    assert (await cluster.get(CONFIG_MAPS, namespace, "a")).data == {"k": "1"}
    patched = await cluster.patch(CONFIG_MAPS, namespace, "a", {"data": {"k": None, "l": "2"}})
    assert patched.data == {"l": "2"}
    assert [each.metadata.name for each in await cluster.list(CONFIG_MAPS, namespace, labels="app=x")] == ["a"]
    assert await cluster.list(CONFIG_MAPS, namespace, labels="app=y") == []
    await cluster.delete(CONFIG_MAPS, namespace, "a", uid=made.metadata.uid)
    await cluster.delete(CONFIG_MAPS, namespace, "a")
    with pytest.raises(NotFound):
        await cluster.get(CONFIG_MAPS, namespace, "a")


async def test_a_name_is_given_once_and_another_object_of_that_name_is_left_alone(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAPS, namespace, config_map("a"))
    with pytest.raises(Conflict):
        await cluster.create(CONFIG_MAPS, namespace, config_map("a"))
    with pytest.raises(Conflict):
        await cluster.delete(CONFIG_MAPS, namespace, "a", uid="00000000-0000-0000-0000-000000000000")


async def test_a_dry_run_creates_nothing_and_is_strict(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a"), dry_run=True)
    assert await cluster.list(JOBS, namespace) == []
    with pytest.raises(Rejected, match=r'unknown field "spec.backofLimit"'):
        await cluster.create(JOBS, namespace, job("a", backofLimit=3), dry_run=True)
    with pytest.raises(Rejected, match=r"spec.template.spec.restartPolicy"):
        await cluster.create(JOBS, namespace, job("a", pod={"restartPolicy": "Always"}), dry_run=True)


async def test_lists_come_in_pages(cluster: HttpCluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobyard.cluster.client.PAGE", 3)
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(cluster.create(CONFIG_MAPS, namespace, config_map(f"m{number}")))
    assert [each.metadata.name for each in await cluster.list(CONFIG_MAPS, namespace, labels="app=x")] == [
        f"m{number}" for number in range(8)
    ]


async def test_an_unknown_field_selector_is_an_error_never_an_empty_list(cluster: HttpCluster, namespace: str) -> None:
    with pytest.raises(Rejected):
        await cluster.list(JOBS, namespace, fields="status.active=1")


async def test_a_watch_tells_all_there_is_then_each_change(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAPS, namespace, config_map("a"))
    told: list[tuple[str, str]] = []

    def note(change: Change[ConfigMap]) -> tuple[str, str]:
        told.append((change.type, change.object.metadata.name if change.object else ""))
        return told[-1]

    async with asyncio.timeout(BOUND):
        async for change in cluster.watch(CONFIG_MAPS, namespace, labels="app=x"):
            match note(change):
                case ("SYNCED", _):
                    await cluster.create(CONFIG_MAPS, namespace, config_map("b"))
                case ("SEEN", "b"):
                    left = await cluster.patch(CONFIG_MAPS, namespace, "a", {"metadata": {"labels": {"app": "y"}}})
                case ("GONE", "a"):
                    assert change.version == left.metadata.resource_version, "what is newer is back"
                    await cluster.delete(CONFIG_MAPS, namespace, "b")
                case ("GONE", "b"):
                    break
    assert told == [("SEEN", "a"), ("SYNCED", ""), ("SEEN", "b"), ("GONE", "a"), ("GONE", "b")], "what no longer matches is gone too"


async def test_logs_can_be_tailed_and_followed(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("talk", "for i in 1 2 3 4 5; do echo line $i; done; sleep 1; echo last"))
    pod = (await until_pod(cluster, namespace, "talk", is_running)).metadata.name
    followed = [line async for line in cluster.logs(namespace, pod, follow=True)]
    assert followed == [*(f"line {i}" for i in range(1, 6)), "last"]
    assert [line async for line in cluster.logs(namespace, pod, tail=2)] == ["line 5", "last"]
    stamped = [line async for line in cluster.logs(namespace, pod, tail=1, timestamps=True)]
    assert stamped[0].endswith("Z last")
    await until_ended(cluster, namespace, "talk")


async def test_deleting_a_job_takes_its_pods_along(cluster: HttpCluster, namespace: str) -> None:
    await cluster.create(JOBS, namespace, job("a", "sleep 60"))
    pod = await until_pod(cluster, namespace, "a", is_running)
    await cluster.delete(JOBS, namespace, "a")
    await until_gone(cluster, PODS, namespace, pod.metadata.name)


async def test_what_a_record_owns_goes_with_it(cluster: HttpCluster, namespace: str) -> None:
    owner = await cluster.create(CONFIG_MAPS, namespace, config_map("owner"))
    owned = job("owned", "sleep 60")
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid, "controller": True}
    ]
    await cluster.create(JOBS, namespace, owned)
    await cluster.delete(CONFIG_MAPS, namespace, "owner")
    await until_gone(cluster, JOBS, namespace, "owned")


async def test_objects_above_the_limit_are_refused(cluster: HttpCluster, namespace: str) -> None:
    with pytest.raises((Rejected, Unavailable)):
        await cluster.create(CONFIG_MAPS, namespace, config_map("big", k="x" * (1024 * 1024 + 1)))
