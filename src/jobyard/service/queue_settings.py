"""From what a settings file says of queues in Postgres to what their trigger is told, with every mistake at its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from jobyard.files.inspection import Inspection
from jobyard.model.template import Path as TreePath
from jobyard.model.workflow import Workflow
from jobyard.service.queue_schema import Connection, PgBoss, PostgresQueue, Sql
from jobyard.service.sources import Missing, Outside
from jobyard.service.workflow_files import read_job
from jobyard.triggers.postgres.preset import PGBOSS
from jobyard.triggers.postgres.settings import Address, QueueSettings, Scale, TriggerSettings, Waits

SHORTEST_CHECK = timedelta(milliseconds=100)
_URL_WORDS = {"sslmode": "tls", "sslrootcert": "ca", "sslcert": "certificate", "sslkey": "key"}
_TLS = ("disable", "prefer", "require", "verify-ca", "verify-full")


def read_source(
    inspection: Inspection, path: TreePath, given: PgBoss | Sql, outside: Outside, allowed: Sequence[str] | None
) -> TriggerSettings:
    """What the trigger is told. `allowed`: the namespaces that files may name; None where that is not known."""
    if isinstance(given, Sql) and (given.preset is None) == (given.query is None):
        inspection.error(
            path, "sql with " + ("neither preset nor query" if given.query is None else "both preset and query"), "one of the two"
        )
    if not timedelta(0) < given.timeout <= timedelta(minutes=5):
        inspection.error((*path, "timeout"), "a timeout that is none", "more than 0s, at most 5m")
    seen: dict[str, int] = {}
    queues = []
    for index, each in enumerate(given.queues):
        where: TreePath = (*path, "queues", index)
        if seen.setdefault(each.queue, index) != index:
            line = inspection.document.at((*path, "queues", seen[each.queue], "queue")).line
            inspection.error((*where, "queue"), "a second time the same queue", "each queue once", f"the first is in line {line}")
        queues.append(_queue(inspection, where, each, outside, allowed))
    preset = PGBOSS if isinstance(given, PgBoss) else given.preset or ""
    return TriggerSettings(
        address=_address(inspection, (*path, "connection"), given.connection),
        queues=tuple(queues),
        preset=preset,
        schema=given.schema_ or "",
        query=(given.query or "") if isinstance(given, Sql) else "",
        channel=given.channel or "",
        timeout=given.timeout,
    )


def _address(inspection: Inspection, path: TreePath, given: Connection) -> Address:
    if given.url is not None:
        others = sorted(given.model_fields_set - {"url"})
        if others:
            inspection.error((*path, others[0]), f"both url and {others[0]}", "the one or the others", "put it into the url", key=True)
        return _of_url(inspection, (*path, "url"), given.url)
    return Address(
        host=given.host,
        port=given.port,
        database=given.database,
        user=given.user,
        password=given.password or "",
        tls=given.ssl.mode,
        ca=given.ssl.ca or "",
        certificate=given.ssl.cert or "",
        key=given.ssl.key or "",
    )


def _of_url(inspection: Inspection, path: TreePath, url: str) -> Address:
    """The address that a URL names. What is wrong is told without quoting it: there is a password in it."""
    plain = Address(host="localhost")
    if isinstance(url, Missing):
        return plain
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        inspection.error(path, "no URL", "postgres://USER:PASSWORD@HOST:PORT/DATABASE")
        return plain
    if parts.scheme not in ("postgres", "postgresql") or not parts.hostname:
        inspection.error(path, "no URL of a Postgres", "postgres://USER:PASSWORD@HOST:PORT/DATABASE")
        return plain
    more: dict[str, str] = {}
    for name, value in parse_qsl(parts.query):
        if name not in _URL_WORDS:
            inspection.warn(path, f"{name[:40]} in the url", f"one of {', '.join(_URL_WORDS)}", "it is left out")
        elif name == "sslmode" and value not in _TLS:
            inspection.error(path, "an sslmode that there is none of", ", ".join(_TLS))
        else:
            more[_URL_WORDS[name]] = value
    return Address(
        host=parts.hostname,
        port=port or 5432,
        user=unquote(parts.username or plain.user),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.lstrip("/")) or unquote(parts.username or plain.database),
        **more,
    )


def _queue(inspection: Inspection, path: TreePath, given: PostgresQueue, outside: Outside, allowed: Sequence[str] | None) -> QueueSettings:
    if given.check < SHORTEST_CHECK:
        inspection.error((*path, "check"), "a check interval that is none", "at least 100ms")
    workflow, inputs = _workflow(inspection, (*path, "job"), given, outside)
    namespace = workflow.namespace or ""
    if namespace and allowed is not None and namespace not in allowed:
        inspection.error(
            (*path, "job"), f"it wants to run in namespace {namespace}", f"one of {', '.join(allowed)}", "name it in spec.namespaces"
        )
    pods = _pods(workflow)
    scale: Scale | None = None
    if given.scale is not None:
        if given.scale.max < pods:
            inspection.error(
                (*path, "scale", "max"), f"{given.scale.max} pods at most", f"at least the {pods} of one Job (its parallelism)"
            )
        scale = Scale(
            most=given.scale.max, per_pod=given.scale.perPod, most_at_once=given.scale.maxStep, claim_grace=given.scale.claimGrace
        )
    return QueueSettings(
        queue=str(given.queue),
        workflow=workflow,
        namespace=namespace,
        inputs=inputs,
        waits=Waits(
            check=given.check,
            success=given.wait.afterSuccess,
            failure=given.wait.afterFailure,
            error=given.wait.afterError,
            start_timeout=given.wait.afterStartTimeout,
        ),
        scale=scale,
        pods=pods,
    )


def _workflow(inspection: Inspection, path: TreePath, given: PostgresQueue, outside: Outside) -> tuple[Workflow, Mapping[str, Any]]:
    """What runs: the file as it is read, each step ended that can't start."""
    reading = read_job(inspection, path, given.job, outside)
    if reading is None or reading.workflow is None:
        return Workflow(name="nothing", steps=()), {}
    steps = tuple(
        replace(step, start_timeout=step.start_timeout or given.startTimeout or None, stops_on_start_error=True)
        for step in reading.workflow.steps
    )
    return replace(reading.workflow, steps=steps), reading.inputs


def _pods(workflow: Workflow) -> int:
    """How many pods a run has at once: the parallelism of its only Job."""
    jobs = workflow.jobs
    spec = jobs[0].job.manifest.get("spec") if len(jobs) == 1 and jobs[0].job is not None else None
    found = spec.get("parallelism") if isinstance(spec, dict) else None
    return found if isinstance(found, int) and found > 0 else 1
