"""Server-side apply: owners, conflicts and what goes when its owner no longer wants it; the same on every cluster."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.model.errors import Conflict
from tests.manifests import job

Tree = dict[str, Any]


async def apply(
    cluster: HttpCluster, namespace: str, tree: Tree, manager: str, *, plural: str = "configmaps", api: str = "api/v1", force: bool = False
) -> Tree:
    path = f"/{api}/namespaces/{namespace}/{plural}/{tree['metadata']['name']}"
    params = {"fieldManager": manager, **({"force": "true"} if force else {})}
    answer = await cluster.call("PATCH", path, "apply", params=params, body=msgspec.json.encode(tree), media="application/apply-patch+yaml")
    result: Tree = msgspec.json.decode(answer)
    return result


def settings(**data: str) -> Tree:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}


async def test_an_apply_creates_then_changes_and_takes_away_what_it_no_longer_wants(cluster: HttpCluster, namespace: str) -> None:
    made = await apply(cluster, namespace, settings(a="1", b="2"), "me")
    assert made["data"] == {"a": "1", "b": "2"}
    assert [(each["manager"], each["operation"], each["fieldsV1"]) for each in made["metadata"]["managedFields"]] == [
        ("me", "Apply", {"f:data": {"f:a": {}, "f:b": {}}})
    ]
    again = await apply(cluster, namespace, settings(a="1", b="2"), "me")
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"], "nothing changed"
    assert (await apply(cluster, namespace, settings(a="3"), "me"))["data"] == {"a": "3"}


async def test_two_managers_share_an_object_and_conflict_where_they_differ(cluster: HttpCluster, namespace: str) -> None:
    await apply(cluster, namespace, settings(a="1", b="2"), "one")
    assert (await apply(cluster, namespace, settings(b="2", c="3"), "two"))["data"] == {"a": "1", "b": "2", "c": "3"}
    with pytest.raises(Conflict, match=r'conflict with "one": \.data\.a'):
        await apply(cluster, namespace, settings(a="9"), "two")
    forced = await apply(cluster, namespace, settings(a="9"), "two", force=True)
    assert forced["data"] == {"a": "9", "b": "2"}, "c goes with its only owner, b stays with the other"
    owners = {each["manager"]: each["fieldsV1"]["f:data"] for each in forced["metadata"]["managedFields"]}
    assert owners == {"one": {"f:b": {}}, "two": {"f:a": {}}}


async def test_a_plain_change_takes_a_field_over(cluster: HttpCluster, namespace: str) -> None:
    await apply(cluster, namespace, settings(a="1"), "one")
    path = f"/api/v1/namespaces/{namespace}/configmaps/settings"
    body = msgspec.json.encode({"data": {"a": "2"}})
    await cluster.call("PATCH", path, "patch", params={"fieldManager": "hand"}, body=body, media="application/merge-patch+json")
    with pytest.raises(Conflict, match='conflict with "hand"'):
        await apply(cluster, namespace, settings(a="1"), "one")


async def test_lists_are_merged_by_their_keys(cluster: HttpCluster, namespace: str) -> None:
    first = job("j", "true", suspend=True, container={"env": [{"name": "A", "value": "1"}]})
    made = await apply(cluster, namespace, first, "one", plural="jobs", api="apis/batch/v1")
    assert made["spec"]["suspend"] is True
    only = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "labels": {"who": "two"}}}
    both = await apply(cluster, namespace, only, "two", plural="jobs", api="apis/batch/v1")
    assert both["metadata"]["labels"]["who"] == "two"
    assert both["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
