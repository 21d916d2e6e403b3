"""The clusters that tests run on. Each test has a namespace of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.local import daemon


@dataclass(frozen=True)
class ClusterUnderTest:
    """A cluster that runs, and how to reach it."""

    name: str
    kubeconfig: Path


@pytest.fixture(scope="session")
def local_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local cluster that stays for all tests, in a folder of its own."""
    folder = tmp_path_factory.mktemp("data")
    os.environ["JOBYARD_DATA"] = str(folder)
    daemon.start(folder / "local")
    yield folder
    daemon.stop(folder / "local")


@pytest.fixture(scope="session", params=["local"])
def under_test(request: pytest.FixtureRequest) -> ClusterUnderTest:
    """Each cluster that there is."""
    data: Path = request.getfixturevalue("local_data")
    return ClusterUnderTest(name=request.param, kubeconfig=data / "local" / "kubeconfig")


@pytest.fixture
async def cluster(under_test: ClusterUnderTest) -> AsyncIterator[HttpCluster]:
    """A client of the cluster under test."""
    async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as client:
        yield client


@pytest.fixture
async def namespace(cluster: HttpCluster) -> AsyncIterator[str]:
    """A new namespace, which goes with all that is in it."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    await cluster.create_namespace(name)
    yield name
    await cluster.delete_namespace(name)
