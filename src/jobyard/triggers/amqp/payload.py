"""How a pod is handed its message: variables from a Secret, in the Job itself, or files from a Secret. Pure.

Whatever the way, what does not fit is found before anything is made: a Secret holds 1 MiB, Linux hands a process no variable over 128 KiB.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from jobyard.model.objects import Manifest
from jobyard.model.template import Path, Template
from jobyard.model.workflow import Workflow
from jobyard.triggers.amqp.message import Unfit

VARIABLE_LIMIT = 128 * 1024
"""Bytes of a variable: its name, `=`, its value and the byte that ends it (MAX_ARG_STRLEN of Linux)."""
SECRET_LIMIT = 1024 * 1024
"""Bytes of a Secret, its keys included."""
JOB_LIMIT = 512 * 1024
"""Bytes of all variables that stand in a Job itself: an object of Kubernetes may have 1.5 MiB, and its pod bears them again."""
VOLUME = "jobyard-message"
FOLDER = "/jobyard/message"
"""Where the files lie, one for each variable."""
Change = Callable[[Manifest], Manifest]
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_CONTAINERS = ("initContainers", "containers")


class Payload(StrEnum):
    """How a message travels."""

    SECRET = "secret"  # noqa: S105
    """As variables, from a Secret that belongs to the Job."""
    ENV = "env"
    """As variables that stand in the Job: one call less, and whoever may read Jobs or pods can read them."""
    FILE = "file"
    """As files in `FOLDER`, from a Secret that belongs to the Job: for what is large, or no text."""


@dataclass(frozen=True, kw_only=True)
class Laden:
    """A workflow whose pods are handed a message, and what belongs to it."""

    workflow: Workflow
    objects: tuple[Manifest, ...] = ()
    literals: tuple[Path, ...] = ()


def load(payload: Payload, workflow: Workflow, secret: str, variables: Mapping[str, bytes]) -> Laden:
    """The workflow with the variables, by a Secret of this name where there is one. Raises Unfit."""
    _check(payload, variables)
    match payload:
        case Payload.ENV:
            return _as_literals(workflow, {name: value.decode() for name, value in variables.items()})
        case Payload.SECRET:
            ready = _each_job(workflow, lambda pod: _with_source(pod, secret))
        case Payload.FILE:
            ready = _each_job(workflow, lambda pod: _with_volume(pod, secret))
    return Laden(workflow=ready, objects=(_secret(secret, variables),))


def _check(payload: Payload, variables: Mapping[str, bytes]) -> None:
    for number, (name, value) in enumerate(variables.items(), start=1):
        if not _KEY.fullmatch(name) or name in (".", "..") or name.startswith(".."):
            raise Unfit(why=f"Variable {number} of the message has a name that no Secret takes; expected letters, digits, - _ and .")
        if payload is Payload.FILE:
            continue
        size = len(name) + len(value) + 2
        if size > VARIABLE_LIMIT:
            raise Unfit(
                why=f"Variable {number} of the message has {size:,} bytes; expected at most {VARIABLE_LIMIT:,} (`payload: file` takes more)"
            )
        if b"\0" in value or not _is_text(value):
            raise Unfit(why=f"Variable {number} of the message is not text, and a variable must be (`payload: file` takes any bytes)")
    size = sum(len(name) + len(value) for name, value in variables.items())
    most = JOB_LIMIT if payload is Payload.ENV else SECRET_LIMIT
    if size > most:
        raise Unfit(why=f"The message has {size:,} bytes with its names; expected at most {most:,}")


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _secret(name: str, variables: Mapping[str, bytes]) -> Manifest:
    data = {key: base64.b64encode(value).decode() for key, value in variables.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": name}, "type": "Opaque", "immutable": True, "data": data}


def _with_source(pod: Manifest, secret: str) -> Manifest:
    source = {"secretRef": {"name": secret}}
    return _each_container(pod, lambda one: {**one, "envFrom": [*(one.get("envFrom") or []), source]})


def _with_volume(pod: Manifest, secret: str) -> Manifest:
    mount = {"name": VOLUME, "mountPath": FOLDER, "readOnly": True}
    mounted = _each_container(pod, lambda one: {**one, "volumeMounts": [*(one.get("volumeMounts") or []), mount]})
    return {**mounted, "volumes": [*(pod.get("volumes") or []), {"name": VOLUME, "secret": {"secretName": secret}}]}


def _as_literals(workflow: Workflow, variables: Mapping[str, str]) -> Laden:
    """Each value stands in the Job as it is: `$` is doubled, or Kubernetes would take `$(NAME)` in a message for another variable. Braces
    mean nothing in it. A variable that the manifest sets itself stays."""
    step = workflow.steps[0]
    if len(workflow.steps) != 1 or step.job is None:
        raise Unfit(why="`payload: env` is for a single Job, and this workflow has several")
    pod, literals = step.job.manifest["spec"]["template"]["spec"], list[Path]()
    filled = dict(pod)
    for kind in _CONTAINERS:
        for index, container in enumerate(pod.get(kind) or []):
            own = list(container.get("env") or [])
            added = [name for name in variables if name not in {each.get("name") for each in own}]
            path = ("spec", "template", "spec", kind, index, "env")
            literals += [(*path, place, "value") for place in range(len(added))]
            entries = [{"name": name, "value": variables[name].replace("$", "$$")} for name in added]
            filled[kind] = [*filled[kind][:index], {**container, "env": [*entries, *own]}, *filled[kind][index + 1 :]]
    return Laden(workflow=_each_job(workflow, lambda _: filled, literal=True), literals=tuple(literals))


def _each_container(pod: Manifest, change: Change) -> Manifest:
    return {**pod, **{kind: [change(one) for one in pod[kind]] for kind in _CONTAINERS if pod.get(kind)}}


def _each_job(workflow: Workflow, change: Change, *, literal: bool = False) -> Workflow:
    """With every pod changed, those of revert Jobs too."""

    def laden(template: Template | None) -> Template | None:
        if template is None:
            return None
        manifest = template.manifest
        spec = manifest["spec"]
        pod = {**spec["template"], "spec": change(spec["template"]["spec"])}
        changed = {**manifest, "spec": {**spec, "template": pod}}
        return replace(template, manifest=changed, literal=template.literal or literal)

    return replace(workflow, steps=tuple(replace(step, job=laden(step.job), revert=laden(step.revert)) for step in workflow.steps))
