"""Services: taken in, kept and listed as Kubernetes does, and no more. Nothing answers at their names: there is no network here to serve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jobyard.local import checks
from jobyard.local.checks import invalid
from jobyard.local.status import Invalid

Tree = dict[str, Any]

NOTE = "the local cluster only keeps Services: it has no network, so nothing answers at their names"


def fill(tree: Tree) -> Tree:
    """With its defaults; a cluster IP is given to none."""
    spec = {"type": "ClusterIP", "sessionAffinity": "None", **(tree.get("spec") or {})}
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec.get("ports"):
        spec["ports"] = [{"protocol": "TCP", "targetPort": port.get("port"), **port} for port in spec["ports"]]
    return {"status": {"loadBalancer": {}}, **tree, "spec": spec}


def check(tree: Tree) -> Iterator[Invalid]:
    """What the API server refuses."""
    name, spec = tree["metadata"]["name"], tree["spec"]
    if not checks.is_label(name):
        yield invalid("metadata.name", name, checks.LABEL_WORDS)
    yield from checks.one_of(spec, "type", "spec", ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    yield from checks.one_of(spec, "sessionAffinity", "spec", ("ClientIP", "None"))
    if spec["type"] == "ExternalName":
        yield from checks.required(spec, "externalName", "spec")
    elif spec.get("clusterIP") != "None":
        yield from checks.required(spec, "ports", "spec")
    yield from _ports(spec.get("ports") or [])


def _ports(ports: list[Tree]) -> Iterator[Invalid]:
    seen: set[object] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        yield from checks.within(port, "port", path, 1, 65535)
        yield from checks.one_of(port, "protocol", path, ("SCTP", "TCP", "UDP"))
        if len(ports) > 1:
            yield from checks.required(port, "name", path)
        for mark in (("name", port.get("name")), (port.get("protocol"), port.get("port"))):
            if mark[1] and mark in seen:
                yield Invalid(f"{path}.name" if mark[0] == "name" else path, "FieldValueDuplicate", f'"{mark[1]}"')
            seen.add(mark)


def cells(tree: Tree) -> list[Any]:
    """Its part of a row of `kubectl get services`: type, cluster IP, external IP, ports."""
    spec = tree["spec"]
    ports = ",".join(f"{port.get('port')}/{port.get('protocol')}" for port in spec.get("ports") or ())
    return [spec.get("type", ""), spec.get("clusterIP") or "<none>", spec.get("externalName") or "<none>", ports or "<none>"]
