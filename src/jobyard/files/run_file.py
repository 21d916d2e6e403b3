"""Reads a run file: it names a workflow, and gives its parameters values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobyard.files import model_check, reserved, workflow_schema
from jobyard.files.document import Document
from jobyard.files.folder import Folder, is_there
from jobyard.files.inspection import Inspection
from jobyard.files.reading import Reader, Reading, inside, read_as
from jobyard.model.errors import InvalidParameter
from jobyard.model.finding import Finding, did_you_mean
from jobyard.model.parameters import Parameter
from jobyard.model.workflow import Workflow


def recognises(tree: Any) -> bool:
    """Whether a document is, or was meant to be, a run of a workflow."""
    if not isinstance(tree, dict):
        return False
    version = str(tree.get("apiVersion") or "")
    if version and not version.startswith("jobyard.dev/"):
        return False
    return tree.get("kind") == "Run" or bool(version and "workflow" in tree)


def reader(workflows: Sequence[Reader]) -> Reader:
    """Reads run files whose workflows are of these kinds."""

    def read(folder: Folder, path: Path, document: Document) -> Reading:
        return _read(folder, document, workflows)

    return Reader(recognises=recognises, read=read)


def _read(folder: Folder, document: Document, workflows: Sequence[Reader]) -> Reading:
    """The workflow that a document names, with the values that it gives. The workflow's own mistakes are told beside the document's."""
    inspection = folder.inspect(document)
    try:
        return _run(folder, document, inspection, workflows)
    finally:
        folder.findings += inspection.findings


def _run(folder: Folder, document: Document, inspection: Inspection, workflows: Sequence[Reader]) -> Reading:
    reserved.check(inspection, ("metadata",))
    try:
        file = workflow_schema.RunFile.model_validate(document.tree)
    except ValidationError as error:
        file = None
        model_check.explain(inspection, error, workflow_schema.RunFile, "the run")
    name = document.tree.get("workflow")
    reading = _workflow(folder, inspection, name, workflows) if isinstance(name, str) and name else Reading(workflow=None)
    if file is None:
        return Reading(workflow=None)
    if reading.workflow is not None:
        _give(inspection, reading.workflow, file.parameters)
        reading.inputs = dict(file.parameters)
        reading.workflow = replace(reading.workflow, namespace=file.metadata.namespace or reading.workflow.namespace)
    return reading


def _workflow(folder: Folder, inspection: Inspection, name: str, workflows: Sequence[Reader]) -> Reading:
    named = folder.resolve(name)
    if folder.holds(named) and is_there(named):
        named = inside(named)

    def none(_: Folder, path: Path) -> Reading:
        inspection.error(
            ("workflow",),
            f"{name} holds no workflow",
            "a workflow file, or a folder with one",
            "only kind: Workflow can have parameters",
        )
        return Reading(workflow=None)

    if not folder.holds(named):
        inspection.error(("workflow",), f"{name} leads out of the repository", "a file in it")
    elif not is_there(named):
        inspection.error(("workflow",), f"{name} does not exist", "a workflow file", "paths are relative to this file")
    else:
        a_run = Reader(recognises=recognises, read=lambda inner, path, _: none(inner, path))
        return read_as(named, replace(folder, path=named.parent), (a_run, *workflows), none)
    return Reading(workflow=None)


def _give(inspection: Inspection, workflow: Workflow, given: dict[str, Any]) -> None:
    """Says which values are wrong, which are not asked for, and which are missing."""
    asked = {parameter.name: parameter for parameter in workflow.parameters}
    for name, value in given.items():
        parameter = asked.get(name)
        if parameter is None:
            hint = did_you_mean(name, asked) or (f"there are: {', '.join(asked)}" if asked else "it declares none")
            inspection.error(("parameters", name), f"parameter {name}, which workflow {workflow.name} does not declare", "", hint, key=True)
        elif not _fits(parameter, value):
            path, guess = ("parameters", name), did_you_mean(str(value), parameter.choices)
            inspection.error(path, f"{inspection.word(path, value)} as parameter {name}", parameter.expected, guess)
    for parameter in unanswered(workflow, given):
        about = f" ({parameter.description})" if parameter.description else ""
        inspection.error(("parameters",), f"no value for parameter {parameter.name}{about}", parameter.expected, "add it", key=True)


def _fits(parameter: Parameter, value: Any) -> bool:
    try:
        parameter.read(value)
    except InvalidParameter:
        return False
    return isinstance(value, str | int | float)


def unanswered(workflow: Workflow, given: dict[str, Any]) -> list[Parameter]:
    """The parameters that need a value and have none."""
    return [each for each in workflow.parameters if each.required and each.default is None and each.name not in given]


def unanswerable(reading: Reading) -> list[Finding]:
    """A mistake for each parameter that needs a value, where nobody can be asked for one."""
    if reading.workflow is None:
        return []
    return [
        Finding(
            position=reading.asked[each.name][0].at(reading.asked[each.name][1]),
            what=f"parameter {each.name} has no value",
            expected=each.expected,
            remedy="give it a default, or queue a file of kind Run that names this workflow and gives the value",
        )
        for each in unanswered(reading.workflow, reading.inputs)
        if each.name in reading.asked
    ]
