"""Plain manifests: one Job, several documents, a List, a folder. Each Job is a step that needs nothing."""

from __future__ import annotations

from pathlib import Path

from jobyard.files import namespaces
from jobyard.files.folder import Folder
from jobyard.files.job_source import JobSource
from jobyard.files.manifest import read_jobs
from jobyard.files.reading import Reading
from jobyard.model.finding import Finding
from jobyard.model.workflow import Step, Workflow


def read(folder: Folder, path: Path) -> Reading:
    """A workflow of the Jobs at `path`, all of which may run at once."""
    jobs = read_jobs(folder, path, literal=True)
    named = names([job.name for job in jobs])
    first: dict[str, JobSource] = {}
    for job in jobs:
        twin = first.setdefault(job.name, job)
        metadata = job.template.manifest.get("metadata")
        if twin is not job and not (isinstance(metadata, dict) and metadata.get("generateName")):
            where = twin.document.at(("metadata", "name"))
            folder.mistake(
                Finding(
                    position=job.document.at(("metadata", "name")),
                    what=f'a second Job named "{job.name}"',
                    expected="a name of its own",
                    remedy=f"the first is at {where}",
                )
            )
    if not jobs:
        return Reading(workflow=None)
    name = jobs[0].name if len(jobs) == 1 else (path.resolve().name if path.is_dir() else path.stem)
    steps = tuple(Step(name=step, job=job.template) for step, job in zip(named, jobs, strict=True))
    places = {step: (job.document, ()) for step, job in zip(named, jobs, strict=True)}
    return Reading(workflow=Workflow(name=name, steps=steps, namespace=namespaces.namespace(jobs)), jobs=jobs, places=dict(places))


def names(wanted: list[str]) -> list[str]:
    """A name for each, numbered where one is wanted twice."""
    taken: set[str] = set()
    last: dict[str, int] = {}
    result = []
    for name in wanted:
        number, unique = last.get(name, 1), name
        while unique in taken:
            number += 1
            unique = f"{name}-{number}"
        last[name] = number
        taken.add(unique)
        result.append(unique)
    return result
