"""Plain manifests: one Job, several documents, a List, a folder. Each Job is a step that needs nothing."""

from __future__ import annotations

from pathlib import Path

from jobyard.files.folder import Folder, show
from jobyard.files.manifest import JobSource, read_jobs
from jobyard.files.reading import Reading
from jobyard.model.finding import Finding
from jobyard.model.workflow import Step, Workflow


def read(folder: Folder, path: Path) -> Reading:
    """A workflow of the Jobs at `path`, all of which may run at once."""
    return of_jobs(read_jobs(folder, path, literal=True), path)


def of_jobs(jobs: list[JobSource], path: Path) -> Reading:
    """A workflow of Jobs that were read from `path`."""
    named = names([job.name for job in jobs])
    first: dict[str, JobSource] = {}
    findings: list[Finding] = []
    for job in jobs:
        twin = first.setdefault(job.name, job)
        if twin is not job and not job.template.manifest.get("metadata", {}).get("generateName"):
            where = twin.document.at(("metadata", "name"))
            findings.append(
                Finding(
                    position=job.document.at(("metadata", "name")),
                    what=f'a second Job named "{job.name}"',
                    expected="a name of its own",
                    remedy=f"the first is at {where}",
                )
            )
    if not jobs:
        return Reading(workflow=None, findings=findings)
    name = jobs[0].name if len(jobs) == 1 else (path.resolve().name if path.is_dir() else path.stem)
    steps = tuple(Step(name=step, job=job.template) for step, job in zip(named, jobs, strict=True))
    places = {step: (job.document, ()) for step, job in zip(named, jobs, strict=True)}
    reading = Reading(
        workflow=Workflow(name=name, steps=steps, namespace=namespace(jobs)), findings=findings, jobs=jobs, places=dict(places)
    )
    reading.findings += different_namespaces(jobs)
    return reading


def names(wanted: list[str]) -> list[str]:
    """A name for each, numbered where one is wanted twice."""
    taken: set[str] = set()
    result = []
    for name in wanted:
        number, unique = 1, name
        while unique in taken:
            number += 1
            unique = f"{name}-{number}"
        taken.add(unique)
        result.append(unique)
    return result


def namespace(jobs: list[JobSource]) -> str | None:
    """The namespace that the manifests themselves name, if they agree on one."""
    named = {metadata_namespace(job) for job in jobs} - {None}
    return named.pop() if len(named) == 1 else None


def metadata_namespace(job: JobSource) -> str | None:
    """The namespace that a manifest names, or None."""
    metadata = job.template.manifest.get("metadata")
    return (metadata.get("namespace") or None) if isinstance(metadata, dict) else None


def different_namespaces(jobs: list[JobSource]) -> list[Finding]:
    """A mistake for each manifest that names another namespace than the first that names one: a run lives in one."""
    wanted = next(((namespace, job) for job in jobs if (namespace := metadata_namespace(job))), None)
    if wanted is None:
        return []
    who = show(wanted[1].path) if wanted[1].path else "another Job"
    return _foreign_to(jobs, wanted[0], f"{who} has {wanted[0]}")


def foreign_to(jobs: list[JobSource], namespace: str) -> list[Finding]:
    """A mistake for each manifest that names another namespace than the one that the run is in."""
    return _foreign_to(jobs, namespace, f"the run is in {namespace}")


def _foreign_to(jobs: list[JobSource], namespace: str, why: str) -> list[Finding]:
    return [
        Finding(
            position=job.document.at(("metadata", "namespace")),
            what=f"namespace {metadata_namespace(job)}, while {why}",
            expected="one namespace a run",
            remedy="run them apart, or leave metadata.namespace out and use -n",
        )
        for job in jobs
        if metadata_namespace(job) not in (None, namespace)
    ]
