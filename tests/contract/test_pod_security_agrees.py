"""What we say of pods by the Pod Security Standards is what the API server says in a namespace that enforces the same level.

A disagreement names its seed: `JOBYARD_POD_SEEDS=17` looks at that mutant again, `1000-3000` at others.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobyard.cli.main import cli
from jobyard.cluster.client import HttpCluster
from jobyard.files.document import load
from jobyard.files.pod_security.judge import judge
from jobyard.model.pod_level import PodLevel
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.kubernetes import prepare
from tests.manifests import Tree
from tests.pod_agreement import LEVELS, VIOLATES, all_verdicts, enforcing
from tests.pod_mutants import GOOD_PODS, RESTRICTED, makers, mutants, pod

FIRST, _, LAST = os.environ.get("JOBYARD_POD_SEEDS", "0-399").partition("-")
SEEDS = range(int(FIRST), int(LAST or FIRST) + 1)


@pytest.fixture(autouse=True)
def _on_a_real_server(under_test: ClusterUnderTest) -> None:
    if under_test.name != KUBERNETES:
        pytest.skip("the local cluster enforces no level")


@pytest.fixture
async def namespaces(cluster: HttpCluster) -> AsyncIterator[dict[PodLevel, str]]:
    async with enforcing(cluster) as made:
        yield made


async def test_good_pods_are_good_to_both(cluster: HttpCluster, namespaces: dict[PodLevel, str]) -> None:
    found = await all_verdicts(cluster, namespaces, enumerate(GOOD_PODS))
    wanted = [each for each in found if each.level is PodLevel.BASELINE or GOOD_PODS[each.seed] in RESTRICTED]
    assert [str(each) for each in wanted if each.ours or each.theirs != ""] == []


@pytest.mark.timeout(300)
async def test_pods_are_refused_by_both_or_by_neither(cluster: HttpCluster, namespaces: dict[PodLevel, str]) -> None:
    found = await all_verdicts(cluster, namespaces, mutants(SEEDS))
    wrong = [str(each) for each in found if not each.agree]
    assert not wrong, f"{len(wrong)} of {len(found)} verdicts:\n" + "\n".join(wrong[:20])
    for level in LEVELS if len(SEEDS) > 100 else ():  # where all are refused, or none, agreeing proves nothing
        judged = [each for each in found if each.level is level and each.theirs is not None]
        assert len(judged) > len(SEEDS) / 2
        assert 0.1 < sum(bool(each.theirs) for each in judged) / len(judged) < 0.9


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", [each["kind"] for each in makers(pod())])
async def test_what_makes_pods_is_judged_where_the_server_warns(
    under_test: ClusterUnderTest, namespaces: dict[PodLevel, str], tmp_path: Path, kind: str, level: PodLevel
) -> None:
    async def said(tree: Tree) -> tuple[bool, bool]:
        (document,), _ = load(json.dumps(tree).encode(), "object.json")
        return bool(judge(document, level)), VIOLATES.replace("violates", "violate") in await _created(
            under_test, tmp_path, namespaces[level], tree
        )

    good, bad = (next(each for each in makers(pod(**more)) if each["kind"] == kind) for more in ({}, {"hostNetwork": True}))
    assert await said(good) == (False, False)
    assert await said(bad) == (True, True)


async def test_a_job_of_git_template_is_restricted(under_test: ClusterUnderTest, namespaces: dict[PodLevel, str], tmp_path: Path) -> None:
    printed = CliRunner().invoke(cli, ["git", "template", "hello", "busybox", "true"]).output
    (document,), _ = load(printed.encode(), "hello.yaml")
    assert judge(document, PodLevel.RESTRICTED) == []
    assert "PodSecurity" not in await _created(under_test, tmp_path, namespaces[PodLevel.RESTRICTED], document.tree)


async def _created(under_test: ClusterUnderTest, folder: Path, namespace: str, tree: Tree) -> str:
    """What kubectl says of a dry run: it shows the server's warnings. `violate` in them reads `violates` in a refusal."""
    program = prepare.kubectl()
    if program is None:
        pytest.skip("kubectl is neither installed nor built for the node")
    words = [str(program), "--kubeconfig", str(under_test.kubeconfig), "-n", namespace, "create", "--dry-run=server", "-f", "-"]
    kubectl = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "HOME": str(folder)},
    )
    out, _ = await kubectl.communicate(json.dumps(tree).encode())
    text = out.decode().replace(VIOLATES, VIOLATES.replace("violates", "violate"))
    assert "dry run" in text or "PodSecurity" in text, text
    return text
