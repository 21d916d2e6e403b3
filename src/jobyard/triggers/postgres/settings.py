"""What a trigger of queues in Postgres is told: values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from jobyard.model.workflow import Workflow

NAME_LIMIT = 400
"""Characters of a queue's name: it is a part of keys, which are kept in annotations."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A database, and who we are there."""

    host: str
    port: int = 5432
    database: str = "postgres"
    user: str = "postgres"
    password: str = field(default="", repr=False)
    tls: str = "prefer"
    """As libpq's sslmode: disable, prefer, require, verify-ca, verify-full."""
    ca: str = ""
    certificate: str = ""
    key: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many Jobs may run at once for one queue, and how much each of their pods takes."""

    most: int
    """Pods at once."""
    per_pod: int = 1
    """How many items one pod takes in its life."""
    most_at_once: int = 10
    """Jobs begun after one look."""
    claim_grace: timedelta = timedelta(seconds=15)
    """How long after it has begun to run a pod has its items: until then, what it will take still counts as waiting. A worker that takes one
    item after another needs as long as it lives."""


@dataclass(frozen=True, kw_only=True)
class Waits:
    """How long to wait after what."""

    check: timedelta = timedelta(seconds=5)
    """After a look that found nothing to do."""
    success: timedelta = timedelta(seconds=5)
    failure: timedelta = timedelta(minutes=1)
    error: timedelta = timedelta(seconds=15)
    """After a Job that could not be made, or whose pods could not start."""
    start_timeout: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """A queue, and what runs while it has work."""

    queue: str
    workflow: Workflow
    namespace: str = ""
    """Where it runs; '' for the service's own."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Values of the workflow's parameters."""
    waits: Waits = Waits()
    scale: Scale | None = None
    """None: one run at a time."""
    pods: int = 1
    """How many pods a run has at once: its Job's parallelism."""


@dataclass(frozen=True, kw_only=True)
class TriggerSettings:
    """The queues of a database that are served under one name. `preset`: whose tables they are; '' where `query` says how to count."""

    address: Address
    queues: tuple[QueueSettings, ...]
    preset: str = ""
    schema: str = ""
    query: str = ""
    channel: str = ""
    """What to LISTEN to, beside what the preset knows; '' for nothing."""
    timeout: timedelta = timedelta(seconds=2)
    """How long the database may take to answer."""
