"""Reads a Jobyard workflow file into a Workflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobyard.files import model_check, namespaces, plain, reserved, workflow_schema
from jobyard.files.borders import MISTAKES
from jobyard.files.document import Document
from jobyard.files.folder import Folder, is_there
from jobyard.files.inspection import Inspection
from jobyard.files.job_source import JobSource
from jobyard.files.manifest import check_job, read_jobs
from jobyard.files.reading import Reader, Reading
from jobyard.model.errors import InvalidParameter
from jobyard.model.finding import Finding
from jobyard.model.parameters import Parameter, ParameterType
from jobyard.model.template import Path as TreePath
from jobyard.model.template import Template
from jobyard.model.workflow import Cleanup, OnFailure, Retry, Step, When, Workflow


def recognises(tree: Any) -> bool:
    """Whether a document is, or was meant to be, a Jobyard workflow."""
    if not isinstance(tree, dict):
        return False
    return str(tree.get("apiVersion", "")).startswith("jobyard.dev/") or tree.get("kind") == "Workflow"


def read(folder: Folder, path: Path, document: Document) -> Reading:
    """The workflow of a document. Every mistake becomes a finding; what can be read in spite of them is read on."""
    inspection = folder.inspect(document)
    try:
        return _workflow(folder, path, document, inspection)
    finally:
        folder.findings += inspection.findings


def _workflow(folder: Folder, path: Path, document: Document, inspection: Inspection) -> Reading:
    reserved.check(inspection, ("metadata",))
    try:
        file = workflow_schema.WorkflowFile.model_validate(document.tree)
    except ValidationError as error:
        model_check.explain(inspection, error, workflow_schema.WorkflowFile, "the workflow")
        # All mistakes in one go: what is right is checked all the same, or at least the manifests.
        mended = model_check.mended(document.tree, error, workflow_schema.WorkflowFile)
        if mended is not None:
            return _of_file(folder, path, document, inspection, mended)
        for index, step in enumerate(_steps(document.tree)):
            _jobs_of(folder, document, index, step.get("manifest"), step.get("job"), folder.inspect(document))
        return Reading(workflow=None)
    return _of_file(folder, path, document, inspection, file)


def _of_file(folder: Folder, path: Path, document: Document, inspection: Inspection, file: workflow_schema.WorkflowFile) -> Reading:
    parameters = tuple(_parameter(inspection, index, each) for index, each in enumerate(file.spec.parameters))
    _twice(inspection, [each.name for each in file.spec.parameters], "parameter", "parameters")
    _twice(inspection, [each.name for each in file.spec.steps], "step", "steps")
    reading = Reading(workflow=None)
    reading.asked = {each.name: (document, ("spec", "parameters", index)) for index, each in enumerate(file.spec.parameters)}
    steps: list[Step] = []
    for index, each in enumerate(file.spec.steps):
        steps += _read_step(folder, document, inspection, reading, index, each)
    stem = path.stem if path.stem not in ("workflow", "jobyard") else path.resolve().parent.name
    reading.workflow = Workflow(
        name=file.metadata.name or stem,
        steps=tuple({step.name: step for step in reversed(steps)}.values())[::-1],
        parameters=parameters,
        parallelism=file.spec.parallelism,
        timeout=file.spec.timeout,
        max_runs=file.spec.maxRuns,
        limits=tuple(file.spec.limits),
        retention=file.spec.retention,
        on_failure=OnFailure(file.spec.onFailure),
        cleanup=Cleanup(file.spec.cleanup),
        namespace=file.metadata.namespace or namespaces.namespace(reading.jobs),
    )
    return reading


READER = Reader(recognises=recognises, read=read, marks=(b"jobyard.dev/", b"Workflow"))


def _steps(tree: Any) -> list[dict[str, Any]]:
    spec = tree.get("spec") if isinstance(tree, dict) else None
    steps = spec.get("steps") if isinstance(spec, dict) else None
    return [step if isinstance(step, dict) else {} for step in steps] if isinstance(steps, list) else []


def _read_step(
    folder: Folder, document: Document, inspection: Inspection, reading: Reading, index: int, step: workflow_schema.Step
) -> list[Step]:
    """The step, or for a folder or a file of several Jobs, a step for each and the gate that bears the name."""
    path: TreePath = ("spec", "steps", index)
    jobs = _jobs_of(folder, document, index, step.manifest, step.job, inspection)
    reverts = _jobs_of(
        folder,
        document,
        index,
        step.revert if isinstance(step.revert, str) else None,
        step.revert if isinstance(step.revert, dict) else None,
        inspection,
        key="revert",
    )
    if len(reverts) > 1:
        inspection.error((*path, "revert"), f"{len(reverts)} Jobs as revert", "one Job")
    reading.jobs += jobs + reverts
    retry = Retry(limit=step.retry.limit, backoff=step.retry.backoff) if step.retry else Retry()
    if retry.limit:
        for job in jobs:
            own = job.spec.get("backoffLimit")
            if isinstance(own, int) and own > 0:
                inspection.error(
                    (*path, "retry"),
                    f"step {step.name} has a retry, and its Job a backoffLimit of {own}: both would retry the same failure",
                    "one owner of retries",
                    "remove retry here or backoffLimit there",
                    key=True,
                )
    elif len(reading.advice) < MISTAKES and (found := _retried_by_default(document, path, step.name, jobs)):
        reading.advice.append(found)
    revert = reverts[0].template if reverts else None

    def make(name: str, job: Template | None, needs: tuple[str, ...], revert: Template | None) -> Step:
        reading.places[name] = (document, path)
        return Step(
            name=name,
            job=job,
            needs=needs,
            when=When(step.when),
            retry=retry,
            timeout=step.timeout,
            start_timeout=step.startTimeout,
            limits=tuple(step.limits),
            revert=revert,
        )

    needs = tuple(dict.fromkeys(step.needs))
    if len(jobs) == 1 and not (jobs[0].path and jobs[0].path.is_dir()):
        return [make(step.name, jobs[0].template, needs, revert)]
    names = [f"{step.name}/{name}" for name in plain.names([job.name for job in jobs])]
    inside = [make(name, job.template, needs, None) for name, job in zip(names, jobs, strict=True)]
    reading.places[step.name] = (document, path)
    return [*inside, Step(name=step.name, job=None, needs=tuple(names) or needs, revert=revert)]


def _retried_by_default(document: Document, path: TreePath, step: str, jobs: Sequence[JobSource]) -> Finding | None:
    """A warning where nobody said how often a failed step is tried: Kubernetes then tries it for ten minutes."""
    unsaid = [job for job in jobs if not {"backoffLimit", "backoffLimitPerIndex"} & job.spec.keys()]
    if not unsaid:
        return None
    whose = f"{len(unsaid)} of its Jobs" if len(jobs) > 1 else "its Job"
    return Finding(
        position=document.at((*path, "name")),
        what=f"step {step} has no retry, and {whose} no backoffLimit: when it fails, Kubernetes tries six times more, over ten minutes",
        remedy="say backoffLimit: 0 in the Job, or retry in the step",
        is_error=False,
    )


def _jobs_of(
    folder: Folder, document: Document, index: int, manifest: Any, job: Any, inspection: Inspection, key: str = ""
) -> list[JobSource]:
    path: TreePath = ("spec", "steps", index)
    if not key and (manifest is None) == (job is None):
        inspection.error(path, "a step with " + ("neither manifest nor job" if job is None else "both manifest and job"), "one of the two")
        return []
    if isinstance(manifest, str):
        file = folder.resolve(manifest)
        if not folder.holds(file):
            inspection.error((*path, key or "manifest"), f"{manifest} leads out of the repository", "a file in it")
            return []
        if not is_there(file):
            inspection.error(
                (*path, key or "manifest"),
                f"{manifest} does not exist",
                "a Job manifest or a folder of them",
                "paths are relative to this file",
            )
            return []
        return read_jobs(folder, file, literal=False)
    if isinstance(job, dict):
        part = document.sub((*path, key or "job"))
        whole = {"apiVersion": "batch/v1", "kind": "Job", **part.tree}
        return check_job(folder, Document(file=part.file, tree=whole, place=part.place), needs_name=False)
    return []


def _parameter(inspection: Inspection, index: int, given: workflow_schema.Parameter) -> Parameter:
    path: TreePath = ("spec", "parameters", index)
    parameter = Parameter(
        name=given.name,
        type=ParameterType(given.type),
        default=given.default,
        choices=tuple(given.choices),
        required=given.required,
        description=given.description,
    )
    if parameter.type is ParameterType.CHOICE and not parameter.choices:
        inspection.error(path, f"parameter {given.name} is a choice without choices", "choices: [a, b]")
    elif given.default is not None:
        try:
            parameter.read(given.default)
        except InvalidParameter:
            found = inspection.word((*path, "default"), given.default)
            inspection.error((*path, "default"), f"{found} as default of parameter {given.name}", parameter.expected)
    return parameter


def _twice(inspection: Inspection, names: list[str], what: str, key: str) -> None:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        first = seen.setdefault(name, index)
        if first < index:
            where = inspection.document.at(("spec", key, first, "name"))
            inspection.error(
                ("spec", key, index, "name"), f'a second {what} named "{name}"', "a name of its own", f"the first is in line {where.line}"
            )
