"""Services beside Jobs: taken in alike on every cluster, though only a real one has a network for them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from jobyard.cluster.client import HttpCluster
from jobyard.model.errors import Rejected
from jobyard.model.objects import Kind, Whole
from tests.conftest import ClusterUnderTest
from tests.e2e.conftest import COMMAND, environment
from tests.manifests import job

SERVICES: Kind[Whole] = Kind("api/v1", "services", "Service", Whole)
KEPT = ("type", "clusterIP", "ports", "sessionAffinity", "internalTrafficPolicy", "selector")
"""What is filled in alike; addresses are the network's to give."""


def service(name: str = "db", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


async def test_a_headless_service_gets_its_defaults(cluster: HttpCluster, namespace: str) -> None:
    manifest = service(clusterIP="None", selector={"app": "db"}, ports=[{"port": 5432}])
    made = await cluster.create(SERVICES, namespace, manifest)
    assert {name: made.spec.get(name) for name in KEPT} == {
        "type": "ClusterIP",
        "clusterIP": "None",
        "ports": [{"port": 5432, "protocol": "TCP", "targetPort": 5432}],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "selector": {"app": "db"},
    }


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (service("my.db", clusterIP="None"), "metadata.name"),
        (service(), "spec.ports"),
        (service(type="ExternalName"), "spec.externalName"),
        (service(type="None"), "spec.type"),
        (service(ports=[{"port": 0}]), "spec.ports[0].port"),
        (service(ports=[{"port": 80}, {"port": 81}]), "spec.ports[0].name"),
        (service(ports=[{"name": "a", "port": 80}, {"name": "a", "port": 81}]), "spec.ports[1].name"),
        (service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]), "spec.ports[1]"),
        (service(ports=[{"port": 80, "protocol": "ICMP"}]), "spec.ports[0].protocol"),
        (service(clusterIP="None", sessionAffinity="Client"), "spec.sessionAffinity"),
    ],
)
async def test_what_is_no_service_is_refused(cluster: HttpCluster, namespace: str, manifest: dict[str, Any], said: str) -> None:
    with pytest.raises(Rejected, match=said.replace("[", r"\[")):
        await cluster.create(SERVICES, namespace, manifest)


async def test_a_service_goes_with_the_run_that_brought_it(
    cluster: HttpCluster, namespace: str, under_test: ClusterUnderTest, tmp_path: Path
) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("---\n".join(map(yaml.safe_dump, (service(clusterIP="None", selector={"app": "db"}), job("uses")))))
    words = [*COMMAND, "run", str(file), "--kubeconfig", str(under_test.kubeconfig), "-n", namespace, "-o", "json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=110, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    run = msgspec.json.decode(done.stdout.splitlines()[-1])
    (owner,) = (await cluster.get(SERVICES, namespace, "db")).metadata.owner_references
    assert owner.name == run["name"]
