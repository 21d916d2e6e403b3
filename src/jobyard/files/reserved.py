"""Ours is ours: what users write bears none of Jobyard's own labels, annotations and names, but for the annotations that are for authors.

What the engine finds under these keys it takes for its own word. So they are refused here, with their line, and left out where a Job is
rendered (`model.job.render`): also what is for authors is never read back from an object of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobyard.files.inspection import Inspection, word
from jobyard.files.rules.forms import Form
from jobyard.files.rules.part import Part
from jobyard.model import names
from jobyard.model.template import Path

AUTHORS: Mapping[str, Form] = {}
"""The annotations under `jobyard.dev/` that authors may write, each with what it may say: docs/workflow-reference.md lists the same. None so far."""
_KINDS = ("ConfigMap",)
"""Kinds beside Jobs in which Jobyard keeps what it knows. No run makes a Lease at all (`model.belongings`)."""


def check(inspection: Inspection, path: Path = ()) -> None:
    """Refuses what is Jobyard's own in the metadata of the object at `path`, and in that of every template in it."""
    for where, metadata in _metadata(inspection, inspection.document.tree, path):
        for part in ("labels", "annotations"):
            there = metadata.get(part)
            for key, value in there.items() if isinstance(there, dict) else ():
                if key.startswith(names.DOMAIN):
                    _refuse(inspection, (*where, part, key), part, key, value)


def _metadata(inspection: Inspection, tree: Any, path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every mapping that is called metadata, and its path."""
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    todo: list[tuple[Path, Any]] = [(path, tree)]
    while todo:
        where, value = todo.pop()
        inspection.step(where)
        if isinstance(value, dict):
            if where and where[-1] == "metadata":
                yield where, value
            todo += [((*where, key), each) for key, each in value.items() if isinstance(each, dict | list)]
        elif isinstance(value, list):
            todo += [((*where, index), each) for index, each in enumerate(value) if isinstance(each, dict | list)]


def _refuse(inspection: Inspection, where: Path, part: str, key: str, value: object) -> None:
    form = AUTHORS.get(key) if part == "annotations" else None
    if form is None:
        what = f"{part[:-1]} {key}, which only Jobyard writes"
        inspection.error(where, what, "", "remove it: Jobyard keeps its own records there", key=True)
    elif not isinstance(value, str) or not form.fits(value):
        inspection.error(where, f"annotation {key} of {word(value)}", form.expected)


def check_name(metadata: Part, kind: str) -> None:
    """Refuses a name that Jobyard gives to objects of this kind."""
    name = metadata.text("name")
    if kind in _KINDS and name and names.is_ours(name):
        metadata.error(
            ("name",), f"{kind} {name}: Jobyard uses such names itself", "another name", "rename it, also where a Job refers to it"
        )
