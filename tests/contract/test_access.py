"""What we may do is asked before it is done."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from jobyard.access import RUN, demand
from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.cluster.rights import needed
from jobyard.model.errors import Forbidden, MissingRights
from jobyard.model.objects import JOBS, PODS, SECRETS
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.kubernetes import prepare
from tests.restricted import restricted_kubeconfig


async def test_an_administrator_may_do_everything(cluster: HttpCluster, namespace: str) -> None:
    assert await cluster.may("create", JOBS, namespace) is True
    assert await cluster.may("get", PODS, namespace, subresource="log") is True
    await demand(cluster, namespace)


@pytest.mark.parametrize("words", [["create", "jobs"], ["get", "pods", "--subresource=log"], ["--list"]], ids=" ".join)
async def test_kubectl_is_told_so_too(under_test: ClusterUnderTest, namespace: str, words: list[str], tmp_path: Path) -> None:
    program = prepare.kubectl()
    if program is None:
        pytest.skip("kubectl is neither installed nor built for the node")
    asked = [str(program), "--kubeconfig", str(under_test.kubeconfig), "auth", "can-i", *words, "-n", namespace]
    kubectl = await asyncio.create_subprocess_exec(
        *asked, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "HOME": str(tmp_path)}
    )
    out, err = await kubectl.communicate()
    assert kubectl.returncode == 0, err
    assert "*.*" in out.decode() if words == ["--list"] else out == b"yes\n", out


async def test_what_is_missing_is_named(under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    if under_test.name != KUBERNETES:
        pytest.skip("the local cluster has no RBAC: its token may do everything")
    all_but_creating_jobs = tuple(
        replace(each, verbs=tuple(verb for verb in each.verbs if (verb, each.resource) != ("create", "jobs"))) for each in needed(["run"])
    )
    kubeconfig = await restricted_kubeconfig(cluster, under_test.kubeconfig, namespace, tmp_path / "less", all_but_creating_jobs)
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as less:
        assert await less.may("create", JOBS, namespace) is False
        assert await less.may("get", PODS, namespace, subresource="log") is True
        assert await less.may("get", SECRETS, namespace) is False
        with pytest.raises(MissingRights, match=f"no right to create jobs.batch in namespace {namespace}"):
            await demand(less, namespace, RUN)
        with pytest.raises(Forbidden, match=r"does not allow `system:serviceaccount:[^`]+` to create Job a"):
            await less.create(JOBS, namespace, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}})
