"""The trigger of a queue of RabbitMQ, built from what was asked."""

from __future__ import annotations

from jobyard.service.served import Source
from jobyard.triggers.amqp.settings import QueueSettings
from jobyard.triggers.amqp.trigger import AmqpTrigger


def amqp_source(name: str, settings: QueueSettings, namespace: str) -> Source:
    """What is served under the name. Who wakes it says that a person has seen to what it stands still for."""
    trigger = AmqpTrigger(name, settings, namespace)
    return Source(trigger=trigger, wake=lambda _: trigger.resume(), branch=lambda: "")
