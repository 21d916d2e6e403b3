"""Workflows for tests, read as a user's file would be."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec

from jobyard.model.workflow import Workflow
from jobyard.service.reading import read_file
from tests.manifests import Tree


def read(tree: Tree, folder: Path) -> Workflow:
    """The workflow of a tree, by way of a file."""
    file = folder / f"{uuid.uuid4().hex}.json"
    file.write_bytes(msgspec.json.encode(tree))
    return read_file(file).require()
