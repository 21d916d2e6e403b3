"""The kinds that the local cluster serves, and how each is called and selected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind of object. `fields` are those that a field selector may name, beside name and namespace."""

    group: str = ""
    version: str = "v1"
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """As Kubernetes names it in messages and we in the store: `jobs.batch`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def schema_kind(self) -> str:
        """What `jobyard.schema` calls it."""
        return f"{self.api_version}/{self.kind}"


JOBS = Resource(group="batch", plural="jobs", kind="Job", categories=("all",), subresources=("status",), fields=("status.successful",))
CRON_JOBS = Resource(group="batch", plural="cronjobs", kind="CronJob", short=("cj",), categories=("all",), subresources=("status",))
PODS = Resource(
    plural="pods",
    kind="Pod",
    short=("po",),
    categories=("all",),
    subresources=("eviction", "log", "status"),
    fields=("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase", "status.podIP"),
)
NAMESPACES = Resource(
    plural="namespaces", kind="Namespace", namespaced=False, short=("ns",), subresources=("status", "finalize"), fields=("status.phase",)
)
SECRETS = Resource(plural="secrets", kind="Secret", fields=("type",))
CONFIG_MAPS = Resource(plural="configmaps", kind="ConfigMap", short=("cm",))
EVENTS = Resource(
    plural="events",
    kind="Event",
    short=("ev",),
    fields=(
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
)
SERVICE_ACCOUNTS = Resource(plural="serviceaccounts", kind="ServiceAccount", short=("sa",))
SERVICES = Resource(
    plural="services", kind="Service", short=("svc",), categories=("all",), subresources=("status",), fields=("spec.clusterIP", "spec.type")
)
LEASES = Resource(group="coordination.k8s.io", plural="leases", kind="Lease")
NODES = Resource(plural="nodes", kind="Node", namespaced=False, short=("no",), subresources=("status",), fields=("spec.unschedulable",))

NODE = "local"
"""The only node."""

RESOURCES = (NAMESPACES, NODES, PODS, CONFIG_MAPS, SECRETS, EVENTS, SERVICE_ACCOUNTS, SERVICES, JOBS, CRON_JOBS, LEASES)
BY_NAME = {resource.full_name: resource for resource in RESOURCES}
BY_PATH = {(resource.group, resource.version, resource.plural): resource for resource in RESOURCES}
BY_KIND = {(resource.api_version, resource.kind): resource for resource in RESOURCES}


def field_value(resource: Resource, tree: Mapping[str, Any], name: str) -> str | None:
    """What a field selector compares; None for a field that may not be selected by."""
    if name not in ("metadata.name", "metadata.namespace", *resource.fields):
        return None
    if name == "status.successful":
        return str((tree.get("status") or {}).get("succeeded", 0))
    if name == "spec.unschedulable":
        return str(bool((tree.get("spec") or {}).get("unschedulable"))).lower()
    if name == "source":
        return str((tree.get("source") or {}).get("component") or tree.get("reportingComponent") or "")
    value: Any = tree
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)
