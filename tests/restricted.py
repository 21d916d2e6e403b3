"""A kubeconfig for a service account that has exactly the Role that `jobyard manifests --rbac` prints, or less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from jobyard.access import Right
from jobyard.cluster.client import HttpCluster
from jobyard.cluster.rights import RIGHTS, rbac


async def restricted_kubeconfig(
    cluster: HttpCluster, kubeconfig: Path, namespace: str, target: Path, rights: tuple[Right, ...] = RIGHTS, name: str = "jobyard"
) -> Path:
    """Makes the account and its Role in `namespace`, and writes a kubeconfig that is it, and nobody else, to `target`."""
    for manifest in rbac(namespace, name, rights):
        group = manifest["apiVersion"]
        base = f"/apis/{group}" if "/" in group else f"/api/{group}"
        path = f"{base}/namespaces/{namespace}/{manifest['kind'].lower()}s"
        await cluster.call("POST", path, f"create {manifest['kind']}", body=msgspec.json.encode(manifest))
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    answer = msgspec.json.decode(await cluster.call("POST", path, "ask for a token", body=msgspec.json.encode(body)))
    tree: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    tree["users"] = [{"name": each["name"], "user": {"token": answer["status"]["token"]}} for each in tree["users"]]
    target.write_text(yaml.safe_dump(tree))
    return target
