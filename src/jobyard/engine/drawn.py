"""Objects of a run whose names are drawn when its record is made. Pure.

An object that says `generateName` in place of a name (with the run's id in it) is given one by chance, and so is each mention of it in the
run's Jobs; the record says which. Whoever submits the same again takes the record's. So such an object can only ever be met by its own
record: one of an earlier record of the same run, which Kubernetes is about to collect, has another name.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from jobyard.engine.home import Record
from jobyard.model import names
from jobyard.model.objects import Manifest
from jobyard.model.run import RunRequest
from jobyard.model.template import Template

LETTERS = 8
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def stem(manifest: Manifest) -> str:
    """What the object's name begins with, where the rest is to be drawn; '' where it has a name."""
    metadata = manifest.get("metadata") or {}
    return "" if metadata.get("name") else str(metadata.get("generateName") or "")


def draw(request: RunRequest) -> RunRequest:
    """The request with a name for each of its objects."""
    return _with_names(request, [f"{stem(each)}{_chance()}" if stem(each) else "" for each in request.objects])


def as_named(request: RunRequest, record: Record) -> RunRequest | None:
    """The request with the names that its record says; None where somebody has damaged what it says of them."""
    if not any(stem(each) for each in request.objects):
        return request
    said = record.metadata.annotations.get(names.OBJECTS, "").split(",")
    if len(said) != len(request.objects):
        return None
    found = [entry.partition("/")[2] if stem(each) else "" for each, entry in zip(request.objects, said, strict=True)]
    for each, name in zip(request.objects, found, strict=True):
        if name and not (name.startswith(stem(each)) and len(name) == len(stem(each)) + LETTERS and names.is_object_name(name)):
            return None
    return _with_names(request, found)


def _with_names(request: RunRequest, found: list[str]) -> RunRequest:
    drawn = {stem(each): name for each, name in zip(request.objects, found, strict=True) if name}
    if not drawn:
        return request
    objects = tuple(_named(each, name) if name else each for each, name in zip(request.objects, found, strict=True))
    flow = request.workflow
    steps = tuple(replace(step, job=_mention(step.job, drawn), revert=_mention(step.revert, drawn)) for step in flow.steps)
    return replace(request, objects=objects, workflow=replace(flow, steps=steps))


def _named(manifest: Manifest, name: str) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "generateName"}
    return {**manifest, "metadata": {**metadata, "name": name}}


def _mention(template: Template | None, drawn: dict[str, str]) -> Template | None:
    return None if template is None else replace(template, manifest=_replace(template.manifest, drawn))


def _replace(tree: Any, drawn: dict[str, str]) -> Any:
    if isinstance(tree, str):
        return drawn.get(tree, tree)
    if isinstance(tree, dict):
        return {key: _replace(value, drawn) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_replace(value, drawn) for value in tree]
    return tree


def _chance() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(LETTERS))
