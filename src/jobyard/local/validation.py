"""What the API server refuses although every field is known and of the right type."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from jobyard.local import checks, job_validation, pod_validation, services
from jobyard.local.checks import invalid, is_label, is_qualified, is_subdomain
from jobyard.local.resources import CONFIG_MAPS, CRON_JOBS, JOBS, NAMESPACES, PODS, SECRETS, SERVICES, Resource
from jobyard.local.status import Invalid

Tree = dict[str, Any]

_DATA_LIMIT = 1024 * 1024
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def check(resource: Resource, tree: Tree) -> list[Invalid]:
    """All that is wrong with a new object, its defaults filled in."""
    found = list(_metadata(resource, tree["metadata"]))
    if resource is JOBS:
        found += job_validation.job(tree)
    elif resource is CRON_JOBS:
        found += job_validation.cron_job(tree)
    elif resource is PODS:
        found += pod_validation.spec(tree["spec"], "spec")
    elif resource in (SECRETS, CONFIG_MAPS):
        found += _data(resource, tree)
    elif resource is SERVICES:
        found += services.check(tree)
    return found


def check_update(resource: Resource, old: Tree, new: Tree) -> list[Invalid]:
    """All that is wrong with a change of `old` to `new`."""
    found = check(resource, new)
    if resource is JOBS:
        found += job_validation.update(old, new)
    if resource is PODS:
        found += pod_validation.update(old, new)
    if resource in (SECRETS, CONFIG_MAPS) and old.get("immutable"):
        found += [
            Invalid(key, "FieldValueForbidden", "field is immutable when `immutable` is set")
            for key in ("data", "binaryData", "immutable")
            if old.get(key) != new.get(key)
        ]
    if resource is SECRETS and old.get("type") != new.get("type"):
        found.append(invalid("type", new.get("type", ""), "field is immutable"))
    return found


def check_status(resource: Resource, old: Tree, new: Tree) -> list[Invalid]:
    """All that is wrong with a change of an object's status by a client."""
    found = list(_metadata(resource, new["metadata"]))
    if resource is JOBS:
        found += job_validation.status(old, new)
    return found


def _metadata(resource: Resource, metadata: Tree) -> Iterator[Invalid]:
    name = metadata["name"]
    if resource is NAMESPACES:
        if not is_label(name):
            yield invalid("metadata.name", name, checks.LABEL_WORDS)
    elif not is_subdomain(name):
        yield invalid("metadata.name", name, checks.SUBDOMAIN_WORDS)
    yield from checks.labels(metadata.get("labels"), "metadata.labels")
    yield from checks.notes(metadata.get("annotations"), "metadata.annotations")
    yield from _owners(metadata.get("ownerReferences") or [])
    finalizers = metadata.get("finalizers") or []
    for each in finalizers:
        if not is_qualified(each) or ("/" not in each and each not in _STANDARD_FINALIZERS):
            yield invalid("metadata.finalizers", each, "name is neither a standard finalizer name nor is it fully qualified")
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        yield invalid("metadata.finalizers", "orphan", "finalizer orphan and foregroundDeletion cannot be both set")


def _owners(owners: list[Tree]) -> Iterator[Invalid]:
    controllers = 0
    for index, owner in enumerate(owners):
        for key in ("apiVersion", "kind", "name", "uid"):
            yield from checks.required(owner, key, f"metadata.ownerReferences[{index}]", "must not be empty")
        controllers += bool(owner.get("controller"))
    if controllers > 1:
        yield invalid("metadata.ownerReferences", controllers, "Only one reference can have Controller set to true")


def _data(resource: Resource, tree: Tree) -> Iterator[Invalid]:
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (tree.get(field) or {}).items():
            if not checks.DATA_KEY.fullmatch(key) or len(key) > 253 or key == "." or key.startswith(".."):
                why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                yield invalid(f"{field}[{key[:80]}]", key, why)
            if resource is SECRETS or field == "binaryData":
                try:
                    size += len(base64.b64decode(value.replace("\r", "").replace("\n", ""), validate=True))
                except (binascii.Error, ValueError):
                    yield Invalid(f"{field}[{key[:80]}]", "FieldValueInvalid", "illegal base64 data")
            else:
                size += len(value.encode())
    if size > _DATA_LIMIT:
        yield Invalid("", "FieldValueTooLong", f"may not be more than {_DATA_LIMIT} bytes")
