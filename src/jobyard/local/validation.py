"""What the API server refuses although every field is known and of the right type."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from jobyard.local import times
from jobyard.local.cron_sync import schedule
from jobyard.local.resources import CONFIG_MAPS, CRON_JOBS, JOBS, NAMESPACES, PODS, SECRETS, Resource
from jobyard.local.status import Invalid

Tree = dict[str, Any]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_QUALIFIED = re.compile(r"(?:[a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric "
    "character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LIMIT = 1024 * 1024


def check(resource: Resource, tree: Tree) -> list[Invalid]:
    """All that is wrong with a new object, its defaults filled in."""
    return [*_metadata(resource, tree), *_spec(resource, tree)]


def check_update(resource: Resource, old: Tree, new: Tree) -> list[Invalid]:
    """All that is wrong with a change of `old` to `new`."""
    found = check(resource, new)
    if resource is JOBS:
        found += _job_update(old, new)
    if resource in (SECRETS, CONFIG_MAPS) and old.get("immutable"):
        found += [
            Invalid(key, "FieldValueForbidden", "field is immutable when `immutable` is set")
            for key in ("data", "immutable")
            if old.get(key) != new.get(key)
        ]
    if resource is SECRETS and old.get("type") != new.get("type"):
        found.append(Invalid("type", "FieldValueInvalid", f'"{new.get("type")}": field is immutable'))
    return found


def _metadata(resource: Resource, tree: Tree) -> Iterator[Invalid]:
    metadata = tree["metadata"]
    name = metadata["name"]
    if resource is NAMESPACES:
        if len(name) > 63 or not _LABEL.fullmatch(name):
            yield Invalid("metadata.name", "FieldValueInvalid", f'"{name}": {_LABEL_WORDS}')
    elif len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        yield Invalid("metadata.name", "FieldValueInvalid", f'"{name}": {_SUBDOMAIN_WORDS}')
    yield from _labels(metadata.get("labels"), "metadata.labels")
    for key in metadata.get("annotations") or {}:
        if not _QUALIFIED.fullmatch(key.lower()):
            yield Invalid(
                "metadata.annotations",
                "FieldValueInvalid",
                f"\"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.'",
            )


def _labels(labels: Tree | None, field: str) -> Iterator[Invalid]:
    for key, value in (labels or {}).items():
        if not _QUALIFIED.fullmatch(key):
            yield Invalid(
                field,
                "FieldValueInvalid",
                f"\"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            )
        if len(value or "") > 63:
            yield Invalid(field, "FieldValueInvalid", f'"{value}": must be no more than 63 bytes')
        elif not _LABEL_VALUE.fullmatch(value or ""):
            yield Invalid(
                field,
                "FieldValueInvalid",
                f"\"{value}\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            )


def _spec(resource: Resource, tree: Tree) -> Iterator[Invalid]:
    if resource is JOBS:
        yield from _job(tree)
    elif resource is CRON_JOBS:
        yield from _cron_job(tree)
    elif resource is PODS:
        yield from _pod_spec(tree["spec"], "spec")
    elif resource in (SECRETS, CONFIG_MAPS):
        yield from _data(resource, tree)


def _data(resource: Resource, tree: Tree) -> Iterator[Invalid]:
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (tree.get(field) or {}).items():
            if not _DATA_KEY.fullmatch(key) or len(key) > 253 or key in (".", ".."):
                yield Invalid(
                    f"{field}[{key}]",
                    "FieldValueInvalid",
                    f"\"{key}\": a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                )
            if resource is SECRETS or field == "binaryData":
                try:
                    size += len(base64.b64decode(value or "", validate=True))
                except (binascii.Error, ValueError):
                    yield Invalid(f"{field}[{key}]", "FieldValueInvalid", "illegal base64 data")
            else:
                size += len((value or "").encode())
    if size > _LIMIT:
        yield Invalid("", "FieldValueTooLong", f"may not be more than {_LIMIT} bytes")


def _cron_job(tree: Tree) -> Iterator[Invalid]:
    spec = tree["spec"]
    name = tree["metadata"]["name"]
    if len(name) > 52:
        yield Invalid("metadata.name", "FieldValueInvalid", f'"{name}": must be no more than 52 characters')
    if not spec.get("schedule"):
        yield Invalid("spec.schedule", "FieldValueRequired", "")
    else:
        try:
            schedule(spec["schedule"], None, times.now())
        except ValueError as error:
            yield Invalid("spec.schedule", "FieldValueInvalid", f'"{spec["schedule"]}": {error}')
    if spec.get("timeZone") is not None:
        try:
            schedule("* * * * *", spec["timeZone"], times.now())
        except ValueError:
            yield Invalid("spec.timeZone", "FieldValueInvalid", f'"{spec["timeZone"]}": unknown time zone {spec["timeZone"]}')
    if spec["concurrencyPolicy"] not in ("Allow", "Forbid", "Replace"):
        detail = f'"{spec["concurrencyPolicy"]}": supported values: "Allow", "Forbid", "Replace"'
        yield Invalid("spec.concurrencyPolicy", "FieldValueNotSupported", detail)
    policy = spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"]
    if policy not in ("OnFailure", "Never"):
        yield Invalid("spec.jobTemplate.spec.template.spec.restartPolicy", "FieldValueRequired", 'valid values: "OnFailure", "Never"')
    yield from _pod_spec(spec["jobTemplate"]["spec"]["template"]["spec"], "spec.jobTemplate.spec.template.spec")


def _job(tree: Tree) -> Iterator[Invalid]:
    spec = tree["spec"]
    for field in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        value = spec.get(field)
        if value is not None and value < 0:
            yield Invalid(f"spec.{field}", "FieldValueInvalid", f"{value}: must be greater than or equal to 0")
    mode = spec["completionMode"]
    if mode not in ("NonIndexed", "Indexed"):
        yield Invalid("spec.completionMode", "FieldValueNotSupported", f'"{mode}": supported values: "Indexed", "NonIndexed"')
    if mode == "Indexed" and spec.get("completions") is None:
        yield Invalid("spec.completions", "FieldValueRequired", "when completion mode is Indexed")
    template = spec["template"]
    pod = template["spec"]
    yield from _labels((template.get("metadata") or {}).get("labels"), "spec.template.labels")
    policy = pod["restartPolicy"]
    if policy not in ("OnFailure", "Never"):
        yield Invalid(
            "spec.template.spec.restartPolicy",
            "FieldValueRequired" if policy == "Always" else "FieldValueNotSupported",
            'valid values: "OnFailure", "Never"',
        )
    yield from _pod_spec(pod, "spec.template.spec")


def _pod_spec(spec: Tree, path: str) -> Iterator[Invalid]:
    if not spec.get("containers"):
        yield Invalid(f"{path}.containers", "FieldValueRequired", "")
    if spec["restartPolicy"] not in ("Always", "OnFailure", "Never"):
        yield Invalid(
            f"{path}.restartPolicy",
            "FieldValueNotSupported",
            f'"{spec["restartPolicy"]}": supported values: "Always", "OnFailure", "Never"',
        )
    volumes: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or []):
        name = volume["name"]
        if name in volumes:
            yield Invalid(f"{path}.volumes[{index}].name", "FieldValueDuplicate", f'"{name}"')
        volumes.add(name)
    names: set[str] = set()
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or []):
            yield from _container(container, f"{path}.{kind}[{index}]", names, volumes)


def _container(container: Tree, path: str, names: set[str], volumes: set[str]) -> Iterator[Invalid]:
    name = container.get("name") or ""
    if not name:
        yield Invalid(f"{path}.name", "FieldValueRequired", "")
    elif len(name) > 63 or not _LABEL.fullmatch(name):
        yield Invalid(f"{path}.name", "FieldValueInvalid", f'"{name}": {_LABEL_WORDS}')
    elif name in names:
        yield Invalid(f"{path}.name", "FieldValueDuplicate", f'"{name}"')
    names.add(name)
    if not container.get("image"):
        yield Invalid(f"{path}.image", "FieldValueRequired", "")
    for index, entry in enumerate(container.get("env") or []):
        if not entry.get("name"):
            yield Invalid(f"{path}.env[{index}].name", "FieldValueRequired", "")
        if entry.get("value") and entry.get("valueFrom"):
            yield Invalid(f"{path}.env[{index}].valueFrom", "FieldValueInvalid", '"": may not be specified when `value` is not empty')
    for index, mount in enumerate(container.get("volumeMounts") or []):
        if mount["name"] not in volumes:
            yield Invalid(f"{path}.volumeMounts[{index}].name", "FieldValueNotFound", f'"{mount["name"]}"')


_JOB_FIXED = ("completions", "selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
_WHILE_SUSPENDED = ("affinity", "nodeSelector", "tolerations", "schedulingGates")


def _job_update(old: Tree, new: Tree) -> Iterator[Invalid]:
    before, after = old["spec"], new["spec"]
    indexed = before.get("completionMode") == "Indexed"
    for field in _JOB_FIXED:
        if before.get(field) == after.get(field):
            continue
        elastic = field == "completions" and indexed and after.get("completions") == after.get("parallelism")
        if not elastic:
            yield Invalid(f"spec.{field}", "FieldValueInvalid", "field is immutable")
    frozen_before, frozen_after = before["template"], after["template"]
    never_started = bool(before.get("suspend")) and not (old.get("status") or {}).get("startTime")
    if never_started:
        frozen_before, frozen_after = _without_scheduling(frozen_before), _without_scheduling(frozen_after)
    if frozen_before != frozen_after:
        yield Invalid("spec.template", "FieldValueInvalid", "field is immutable")


def _without_scheduling(template: Tree) -> Tree:
    """What of a template stays fixed on a suspended Job that never started: all but where its pods may run, and what they ask for."""
    metadata = {key: value for key, value in (template.get("metadata") or {}).items() if key not in ("labels", "annotations")}
    spec = {key: value for key, value in template["spec"].items() if key not in _WHILE_SUSPENDED}
    for kind in ("initContainers", "containers"):
        if kind in spec:
            spec[kind] = [{key: value for key, value in each.items() if key != "resources"} for each in spec[kind]]
    return {**template, "metadata": metadata, "spec": spec}
