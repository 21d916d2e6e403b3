"""The parts of Kubernetes objects that we read. Thin on purpose: caches hold these, never whole objects; manifests stay plain dicts.

Field names are Kubernetes' own in snake case. What an object has beside these is skipped while decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec


class Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A value decoded from the API server."""


class OwnerReference(Object, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class Metadata(Object, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class Condition(Object, frozen=True, kw_only=True):
    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_transition_time: datetime | None = None


def condition(conditions: Sequence[Condition], kind: str) -> Condition | None:
    """The condition of this type that is True, wherever it stands in the list."""
    return next((each for each in conditions if each.type == kind and each.status == "True"), None)


class PodTemplateSpec(Object, frozen=True, kw_only=True):
    termination_grace_period_seconds: int | None = None
    restart_policy: str | None = None
    node_name: str | None = None


class PodTemplate(Object, frozen=True, kw_only=True):
    spec: PodTemplateSpec = PodTemplateSpec()


class JobSpec(Object, frozen=True, kw_only=True):
    parallelism: int | None = None
    completions: int | None = None
    backoff_limit: int | None = None
    backoff_limit_per_index: int | None = None
    managed_by: str | None = None
    active_deadline_seconds: int | None = None
    suspend: bool | None = None
    template: PodTemplate = PodTemplate()


class UncountedPods(Object, frozen=True, kw_only=True):
    """The uids of pods that have ended, and are not in the counts yet."""

    failed: tuple[str, ...] = ()


class JobStatus(Object, frozen=True, kw_only=True):
    active: int | None = None
    ready: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    terminating: int | None = None
    failed_indexes: str | None = None
    uncounted_terminated_pods: UncountedPods = UncountedPods()
    start_time: datetime | None = None
    completion_time: datetime | None = None
    conditions: tuple[Condition, ...] = ()


class Job(Object, frozen=True, kw_only=True):
    metadata: Metadata
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class Waiting(Object, frozen=True, kw_only=True):
    reason: str | None = None
    message: str | None = None


class Running(Object, frozen=True, kw_only=True):
    started_at: datetime | None = None


class Terminated(Object, frozen=True, kw_only=True):
    exit_code: int = 0
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerState(Object, frozen=True, kw_only=True):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Object, frozen=True, kw_only=True):
    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(Object, frozen=True, kw_only=True):
    phase: str = "Pending"
    reason: str | None = None
    message: str | None = None
    start_time: datetime | None = None
    conditions: tuple[Condition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Resources(Object, frozen=True, kw_only=True):
    """Amounts as their author wrote them, by the name of the resource."""

    limits: dict[str, Any] | None = None
    requests: dict[str, Any] | None = None


class Container(Object, frozen=True, kw_only=True):
    name: str = ""
    image: str = ""
    resources: Resources = Resources()


class SchedulingGate(Object, frozen=True, kw_only=True):
    name: str = ""


class PodResourceClaim(Object, frozen=True, kw_only=True):
    name: str = ""
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class PodSpec(Object, frozen=True, kw_only=True):
    node_name: str = ""
    scheduler_name: str = ""
    active_deadline_seconds: int | None = None
    scheduling_gates: tuple[SchedulingGate, ...] = ()
    resource_claims: tuple[PodResourceClaim, ...] = ()
    init_containers: tuple[Container, ...] = ()
    containers: tuple[Container, ...] = ()


class Pod(Object, frozen=True, kw_only=True):
    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class ObjectReference(Object, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    uid: str = ""


class Event(Object, frozen=True, kw_only=True):
    metadata: Metadata
    involved_object: ObjectReference = ObjectReference()
    type: str = "Normal"
    reason: str | None = None
    message: str | None = None
    last_timestamp: datetime | None = None
    event_time: datetime | None = None


class ConfigMap(Object, frozen=True, kw_only=True):
    metadata: Metadata
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}


class LeaseSpec(Object, frozen=True, kw_only=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Object, frozen=True, kw_only=True):
    metadata: Metadata
    spec: LeaseSpec = LeaseSpec()


class Other(Object, frozen=True, kw_only=True):
    """An object of any other kind: all that we ask of it is whose it is."""

    metadata: Metadata


class Whole(Object, frozen=True, kw_only=True):
    """An object with all of its specification, as the API gives it."""

    metadata: Metadata
    spec: dict[str, Any] = {}


T = TypeVar("T", Job, Pod, Event, ConfigMap, Lease, Other, Whole)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of object: where the API serves it, and the struct that it decodes to."""

    api: str
    plural: str
    name: str
    struct: type[T]

    @property
    def group(self) -> str:
        """Its API group; empty for the core's."""
        return self.api.split("/")[1] if self.api.startswith("apis/") else ""


JOBS: Kind[Job] = Kind("apis/batch/v1", "jobs", "Job", Job)
PODS: Kind[Pod] = Kind("api/v1", "pods", "Pod", Pod)
EVENTS: Kind[Event] = Kind("api/v1", "events", "Event", Event)
CONFIG_MAPS: Kind[ConfigMap] = Kind("api/v1", "configmaps", "ConfigMap", ConfigMap)
LEASES: Kind[Lease] = Kind("apis/coordination.k8s.io/v1", "leases", "Lease", Lease)
SECRETS: Kind[Other] = Kind("api/v1", "secrets", "Secret", Other)

WHOLE_JOBS: Kind[Whole] = Kind("apis/batch/v1", "jobs", "Job", Whole)


def metadata_of(kind: Kind[Any]) -> Kind[Other]:
    """The same kind, of which nothing but the metadata is asked for."""
    return Kind(kind.api, kind.plural, kind.name, Other)


Manifest = dict[str, Any]
"""A Kubernetes object as its author wrote it, parsed. Never changed in place."""
