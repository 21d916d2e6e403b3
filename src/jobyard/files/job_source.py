"""A Job manifest as a file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobyard.files.document import Document
from jobyard.model.objects import Manifest
from jobyard.model.template import Template


@dataclass(frozen=True, kw_only=True)
class JobSource:
    """A Job manifest as a file holds it, ready to become a step."""

    name: str
    template: Template
    document: Document
    path: Path | None = None

    @property
    def manifest(self) -> Manifest:
        return self.template.manifest

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its `spec`, as far as it has one."""
        spec = self.manifest.get("spec")
        return spec if isinstance(spec, dict) else {}
