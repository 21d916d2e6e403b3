"""Manifests that tests run: small, and the same on every cluster."""

from __future__ import annotations

from typing import Any

Tree = dict[str, Any]


def job(
    name: str,
    script: str = "true",
    *,
    labels: dict[str, str] | None = None,
    pod: Tree | None = None,
    container: Tree | None = None,
    **spec: Any,
) -> Tree:
    """A Job of one shell script."""
    main = {"name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script], **(container or {})}
    template = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [main],
        **(pod or {}),
    }
    metadata: Tree = {"name": name, **({"labels": labels} if labels else {})}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"backoffLimit": 0, **spec, "template": {"spec": template}},
    }


def step(name: str, script: str = "true", *needs: str, spec: Tree | None = None, **more: Any) -> Tree:
    """A step of a workflow file, its Job inline."""
    body = job(name, script, **(spec or {}))["spec"]
    if more.get("retry"):
        del body["backoffLimit"]
    return {"name": name, "job": {"spec": body}, **({"needs": list(needs)} if needs else {}), **more}


def workflow(name: str, *steps: Tree, **spec: Any) -> Tree:
    """A workflow file."""
    return {"apiVersion": "jobyard.dev/v1", "kind": "Workflow", "metadata": {"name": name}, "spec": {**spec, "steps": list(steps)}}
