"""What a user says about a queue, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobyard.model.workflow import Workflow
from jobyard.triggers.amqp.form import Form
from jobyard.triggers.amqp.keys import IdSource
from jobyard.triggers.amqp.payload import Payload

DEAD = ".dead"
"""What a queue's own dead letters are put into is named by the queue and this."""


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Paths of PEM files; '' for what is not given: then the machine's own authorities count."""

    ca: str = ""
    cert: str = ""
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Brokers:
    """Where the queue is: addresses that are tried in turn. They may hold a password, and are never shown."""

    urls: tuple[str, ...] = field(repr=False)
    tls: Tls = Tls()


@dataclass(frozen=True, kw_only=True)
class DeadLetters:
    """Where what can't be a Job goes. With no exchange and no routing key: into `<queue>.dead`, which is declared where it is missing."""

    exchange: str = ""
    routing_key: str = ""

    @property
    def is_own(self) -> bool:
        """Whether it is a queue that we declare."""
        return not (self.exchange or self.routing_key)


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """A queue that is served."""

    brokers: Brokers
    queue: str
    job: Form | Workflow
    """kubernetes-event-jobs' short form, or what a file says."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Values of the workflow's parameters."""
    namespace: str = ""
    """Where its Jobs run; '' for the service's own."""
    limit: int | None = 10
    """How many of its runs may be unfinished at once; None for any number."""
    id_from: IdSource = field(default_factory=IdSource)
    payload: Payload = Payload.SECRET
    dead_letters: DeadLetters | None = DeadLetters()
    """None: a message that can't be a Job is given back, and the queue stands still."""
