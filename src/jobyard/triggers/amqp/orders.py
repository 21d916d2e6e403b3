"""From a message to the run that it asks for. Pure."""

from __future__ import annotations

from dataclasses import replace

from jobyard.model import names
from jobyard.model.run import RunRequest
from jobyard.model.workflow import Workflow
from jobyard.triggers.amqp import event_message, keys
from jobyard.triggers.amqp.form import Form, job_name
from jobyard.triggers.amqp.form import workflow as workflow_of
from jobyard.triggers.amqp.message import Message, text_of
from jobyard.triggers.amqp.payload import Payload, load
from jobyard.triggers.amqp.settings import QueueSettings

KEPT = 3600
"""Seconds for which a Job stays at least once its run was released: a message that comes again meanwhile is known by it."""
ID_SHOWN = 100


def order(trigger: str, vhost: str, settings: QueueSettings, message: Message, nonce: str, namespace: str) -> RunRequest:
    """The run that a message asks for. `nonce`: what tells this delivery from others where the message has no id. Raises Unfit."""
    id_ = keys.identity(settings.id_from, message)
    request = RunRequest(
        trigger=trigger,
        key=keys.key(vhost, settings.queue, settings.id_from, id_, message.body, nonce),
        workflow=base(settings, namespace),
        namespace=namespace,
        inputs=settings.inputs,
        key_names_workflow=id_ is None,
        origin=_origin(settings, message),
    )
    target = names.record(request.prefix, request.run_id)
    found = load(settings.payload, request.workflow, f"{target}-", _variables(settings, message, namespace, target))
    return replace(request, workflow=found.workflow, objects=found.objects, literals=found.literals)


def base(settings: QueueSettings, namespace: str) -> Workflow:
    """What is run for each message, without one."""
    job = settings.job
    return keep(workflow_of(job, settings.queue, namespace) if isinstance(job, Form) else job)


def keep(workflow: Workflow) -> Workflow:
    """The workflow with Jobs that stay long enough: a name dedupes only while its object lives."""

    def one(ttl: object) -> object:
        return KEPT if isinstance(ttl, int) and ttl < KEPT else ttl

    steps = []
    for step in workflow.steps:
        spec = step.job.manifest["spec"] if step.job is not None else {}
        if step.job is not None and "ttlSecondsAfterFinished" in spec:
            manifest = {**step.job.manifest, "spec": {**spec, "ttlSecondsAfterFinished": one(spec["ttlSecondsAfterFinished"])}}
            step = replace(step, job=replace(step.job, manifest=manifest))
        steps.append(step)
    return replace(workflow, steps=tuple(steps))


def has_id(settings: QueueSettings, message: Message) -> bool:
    """Whether the message can be told from others. Raises Unfit."""
    return keys.identity(settings.id_from, message) is not None


def _variables(settings: QueueSettings, message: Message, namespace: str, target: str) -> dict[str, bytes]:
    if isinstance(settings.job, Form):
        found = event_message.variables(message.body, namespace, job_name(settings.job, settings.queue), target)
        return {name: value.encode(errors="surrogatepass") for name, value in found.items()}
    if settings.payload is not Payload.FILE:
        text_of(message.body)
    return {
        "MESSAGE": message.body,
        "MESSAGE_ID": message.message_id.encode(errors="replace"),
        "CONTENT_TYPE": message.content_type.encode(errors="replace"),
        "QUEUE": settings.queue.encode(errors="replace"),
        "TARGET": target.encode(),
    }


def _origin(settings: QueueSettings, message: Message) -> dict[str, str]:
    """Where the run comes from, for people: never what the message holds."""
    found = {"queue": names.shown(settings.queue)}
    if message.message_id and settings.id_from.kind is keys.Kind.MESSAGE_ID:
        found["message"] = names.shown(message.message_id[:ID_SHOWN])
    return found
