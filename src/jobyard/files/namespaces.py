"""The namespace that manifests name: all of a run live in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jobyard.files.document import Document
from jobyard.model.finding import Finding
from jobyard.model.objects import Manifest


class Placed(Protocol):
    """A manifest, and where it stands: a Job, or an object beside it."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def document(self) -> Document: ...


def namespace(placed: Sequence[Placed]) -> str | None:
    """The namespace that the manifests themselves name, if they agree on one."""
    named = {of(each) for each in placed} - {None}
    return named.pop() if len(named) == 1 else None


def of(placed: Placed) -> str | None:
    """The namespace that a manifest names, or None."""
    metadata = placed.manifest.get("metadata")
    named = metadata.get("namespace") if isinstance(metadata, dict) else None
    return named if isinstance(named, str) and named else None


def different(placed: Sequence[Placed]) -> list[Finding]:
    """A mistake for each manifest that names another namespace than the first that names one."""
    wanted = next(((name, each) for each in placed if (name := of(each))), None)
    return foreign_to(placed, wanted[0], f"{wanted[1].document.file} has {wanted[0]}") if wanted else []


def foreign_to(placed: Sequence[Placed], namespace: str, why: str = "") -> list[Finding]:
    """A mistake for each manifest that names another namespace than the one that the run is in."""
    return [
        Finding(
            position=each.document.at(("metadata", "namespace")),
            what=f"namespace {of(each)}, while {why or f'the run is in {namespace}'}",
            expected="one namespace per run",
            remedy="run them separately, or leave metadata.namespace out and use -n",
        )
        for each in placed
        if of(each) not in (None, namespace)
    ]
