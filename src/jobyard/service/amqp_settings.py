"""From what a settings file says of queues of RabbitMQ to what their triggers are told, with every mistake at its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from jobyard.files.inspection import Inspection
from jobyard.model import names
from jobyard.model.template import Path as TreePath
from jobyard.model.workflow import Workflow
from jobyard.service import amqp_schema
from jobyard.service.sources import Missing, Outside
from jobyard.service.workflow_files import read_job
from jobyard.triggers.amqp.form import Form, full_image
from jobyard.triggers.amqp.keys import IdSource, NoIdSource, read_source
from jobyard.triggers.amqp.payload import Payload
from jobyard.triggers.amqp.settings import DEAD, Brokers, DeadLetters, QueueSettings, Tls

_URL = "amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS"


def trigger_name(name: str, queue: str) -> str:
    """The trigger of one queue: a source fails, rests and is paused by itself."""
    return f"{name}.{names.label_value(queue)}"


def read_queues(
    inspection: Inspection, path: TreePath, given: amqp_schema.Amqp, outside: Outside, allowed: Sequence[str] | None
) -> Iterator[QueueSettings]:
    """What the trigger of each queue is told. `outside`: what the Jobs' files are relative to; `allowed`: the namespaces that may be named;
    None where that is not known."""
    brokers = _brokers(inspection, path, given)
    seen: dict[str, int] = {}
    for index, each in enumerate(given.queues):
        where: TreePath = (*path, "queues", index)
        if seen.setdefault(each.queue, index) != index:
            line = inspection.document.at((*path, "queues", seen[each.queue], "queue")).line
            inspection.error((*where, "queue"), "a second time the same queue", "each queue once", f"the first is in line {line}")
            continue
        found = _queue(inspection, where, each, brokers, outside, allowed)
        if found is not None:
            yield found


def _brokers(inspection: Inspection, path: TreePath, given: amqp_schema.Amqp) -> Brokers:
    tls = Tls(ca=given.tls.ca, cert=given.tls.cert, key=given.tls.key) if given.tls else Tls()
    if given.url is None:
        scheme, usual = ("amqps", 5671) if given.tls else ("amqp", 5672)
        host = f"[{given.host}]" if ":" in given.host else given.host
        user, password = quote(given.user, safe=""), quote(given.password or "guest", safe="")
        return Brokers(urls=(f"{scheme}://{user}:{password}@{host}:{given.port or usual}/{quote(given.vhost, safe='')}",), tls=tls)
    others = sorted(given.model_fields_set & {"host", "port", "vhost", "user", "password"})
    if others:
        inspection.error((*path, others[0]), f"both url and {others[0]}", "the one or the others", "put it into the url", key=True)
    urls = given.url if isinstance(given.url, list) else [given.url]
    for index, url in enumerate(urls):
        where: TreePath = (*path, "url", index) if isinstance(given.url, list) else (*path, "url")
        if not (isinstance(url, Missing) or _is_url(url)):
            inspection.error(where, "an address that is not one of a broker", _URL)  # not quoted: there is a password in it
    return Brokers(urls=tuple(map(str, urls)), tls=tls)


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("amqp", "amqps") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _queue(
    inspection: Inspection, path: TreePath, given: amqp_schema.Queue, brokers: Brokers, outside: Outside, allowed: Sequence[str] | None
) -> QueueSettings | None:
    source = IdSource()
    try:
        source = read_source(given.idFrom)
    except NoIdSource as error:
        if not isinstance(given.idFrom, Missing):
            inspection.error((*path, "idFrom"), str(error))
    letters = DeadLetters(exchange=given.deadLetter.exchange, routing_key=given.deadLetter.routingKey)
    if not letters.exchange and letters.routing_key == given.queue:
        inspection.error((*path, "deadLetter", "routingKey"), "the queue itself", "another queue", f"left out, it is {given.queue}{DEAD}")
    payload, inputs = Payload(given.payload), dict[str, Any]()
    job: Form | Workflow
    if isinstance(given.job, amqp_schema.Form):
        job = _form(given.job)
    else:
        reading = read_job(inspection, (*path, "job"), given.job, outside)
        if reading is None or reading.workflow is None:
            return None
        job, inputs = reading.workflow, reading.inputs
    if payload is Payload.ENV and isinstance(job, Workflow) and len(job.steps) != 1:
        inspection.error((*path, "payload"), "env, with a workflow of several steps", "secret or file")
    namespace = given.namespace or (job.namespace if isinstance(job, Workflow) else None) or ""
    if namespace and allowed is not None and namespace not in allowed:
        at = (*path, "namespace") if given.namespace else (*path, "job")
        inspection.error(at, f"it wants to run in namespace {namespace}", f"one of {', '.join(allowed)}", "name it in spec.namespaces")
    return QueueSettings(
        brokers=brokers,
        queue=str(given.queue),
        job=job,
        inputs=inputs,
        namespace=namespace,
        limit=given.limit if isinstance(given.limit, int) else None,
        id_from=source,
        payload=payload,
        dead_letters=letters if given.deadLetter.enabled else None,
    )


def _form(given: amqp_schema.Form) -> Form:
    return Form(
        image=full_image(given.image, given.imageVersion, given.registry),
        job_name=given.jobName,
        version=given.imageVersion,
        timeout=given.timeout,
        environment=tuple({"name": name, "value": value} for name, value in given.environment.items()),
        service_account=given.serviceAccount,
        resources=given.resources,
        labels=dict(given.labels),
        restricted=True,
    )
