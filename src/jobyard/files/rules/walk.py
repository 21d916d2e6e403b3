"""Walks a Job along Kubernetes' schema, and applies the rules wherever what they are about stands."""

from __future__ import annotations

from typing import Any

from jobyard.files.inspection import Inspection
from jobyard.files.rules import container, environment, job, metadata, pod, quantities, scheduling, security, volumes
from jobyard.files.rules.checks import Fields, judge
from jobyard.files.rules.part import Part
from jobyard.model.template import Path as TreePath
from jobyard.schema import shapes, spell
from jobyard.schema.shapes import Shape
from jobyard.schema.values import is_time

_ROOMS = (metadata, job, pod, container, environment, volumes, scheduling, security)
FIELDS: Fields = {name: fields for room in _ROOMS for name, fields in room.FIELDS.items()}
RULES = {**metadata.RULES, **container.RULES, **environment.RULES, **volumes.RULES, **scheduling.RULES, **security.RULES}
_UNREAD = frozenset({"status", "clusterTrustBundle", "podCertificate", "schedulingGroup", "stopSignal", "ephemeralContainers"})
"""What Kubernetes 1.36 takes away before it judges the rest, or refuses whole: only its types count."""


def check(inspection: Inspection, kind: str, *, literal: bool, needs_name: bool) -> None:
    """Everything that is wrong with the Job of a document, but for unknown fields and wrong types."""
    tree = inspection.document.tree
    job.check(Part(tree, (), inspection, literal), needs_name=needs_name)
    _Walk(inspection, literal).value(shapes.of(kind), tree, ())


class _Walk:
    def __init__(self, inspection: Inspection, literal: bool) -> None:
        self._inspection = inspection
        self._literal = literal

    def value(self, shape: Shape, value: Any, path: TreePath, *, unread: bool = False) -> None:
        self._inspection.step(path)
        match shape.kind:
            case "object" if isinstance(value, dict):
                self._object(shape, value, path, unread=unread)
            case "list" if isinstance(value, list) and shape.item:
                for index, each in enumerate(value):
                    self.value(shape.item, {} if each is None and shape.item.kind == "object" else each, (*path, index), unread=unread)
            case "map" if isinstance(value, dict) and shape.item:
                for key, each in value.items():
                    self.value(shape.item, each, (*path, key), unread=unread)
            case "whole" | "number or text":
                self._whole(shape, value, path)
            case "quantity" if value is not None:
                quantities.check(Part({}, path, self._inspection, self._literal), (), value)
            case "time" if isinstance(value, str):
                self._time(value, path)

    def _object(self, shape: Shape, value: dict[str, Any], path: TreePath, *, unread: bool) -> None:
        part = Part(value, path, self._inspection, self._literal)
        if not unread:
            for key, check in FIELDS.get(shape.definition, {}).items():
                judge(part, key, check)
            rule = RULES.get(shape.definition)
            if rule is not None:
                rule(part)
        fields = shape.fields
        for key, each in value.items():
            known = fields.get(key)
            if known is None:
                continue
            if known.since:
                self._inspection.warn((*path, key), f"{key} is new in Kubernetes {known.since}: older ones refuse it", key=True)
            self.value(known, each, (*path, key), unread=unread or key in _UNREAD)

    def _whole(self, shape: Shape, value: object, path: TreePath) -> None:
        if isinstance(value, float):
            self._inspection.error(path, f"{self._inspection.word(path, value)} as {spell(path)}", "an integer")
        elif isinstance(value, int) and not -(2 ** (shape.bits - 1)) <= value < 2 ** (shape.bits - 1):
            self._inspection.error(path, f"{self._inspection.word(path, value)} as {spell(path)}", f"an integer of {shape.bits} bits")

    def _time(self, value: str, path: TreePath) -> None:
        if not self._literal and "{{" in value:
            return
        if not is_time(value):
            self._inspection.error(path, f"{self._inspection.word(path, value)} as {spell(path)}", "a time such as 2026-11-24T17:00:00Z")
