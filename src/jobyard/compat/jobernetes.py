"""Jobernetes models: phases as barriers, depends_on inside a phase, folders of Jobs.

Phases and folders become gates, so the model is an ordinary workflow. What the original gets wrong is right here: a failed Job ends the
run, cycles are found, names come from the run (two models, or two runs, in one namespace don't collide).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from jobyard.files import plain
from jobyard.files.document import Document
from jobyard.files.folder import Folder, is_there
from jobyard.files.inspection import word
from jobyard.files.job_source import JobSource
from jobyard.files.manifest import read_jobs
from jobyard.files.reading import Reader, Reading
from jobyard.files.rules.forms import LABEL
from jobyard.model import duration, names
from jobyard.model.finding import did_you_mean
from jobyard.model.template import Path as TreePath
from jobyard.model.template import Template
from jobyard.model.workflow import Cleanup, Step, Workflow

_CONFIG_KEYS = ("cleanup", "kubernetes_namespace", "ssl_insecure_warnings", "refresh_time", "parallelization", "incluster")
_PHASE_KEYS = ("phase_name", "jobs")
_JOB_KEYS = ("name", "job_path", "type", "depends_on")


def recognises(tree: Any) -> bool:
    """Whether a document is a Jobernetes model."""
    return isinstance(tree, dict) and ("jobernetes" in tree or "jobernetes_config" in tree)


@dataclass(frozen=True, kw_only=True)
class _Config:
    """`jobernetes_config`, each key with its effect."""

    cleanup: bool = False
    kubernetes_namespace: str = "default"
    ssl_insecure_warnings: bool = True
    refresh_time: float = 5.0
    parallelization: int = 0
    incluster: bool | None = None


def read(folder: Folder, path: Path, document: Document) -> Reading:
    """The workflow that a model stands for. A job's path is relative to the model; failing that, to the working directory, as it once was."""
    model = _Model(folder, document)
    try:
        steps = model.steps()
        config = model.config()
    finally:
        folder.findings += model.inspection.findings
    model.reading.in_cluster = config.incluster
    model.reading.quiet_tls = not config.ssl_insecure_warnings
    if steps:
        model.reading.workflow = Workflow(
            name=path.stem if path.stem != "jobermodel" else path.resolve().parent.name,
            steps=tuple({step.name: step for step in steps}.values()),
            parallelism=config.parallelization,
            cleanup=Cleanup.SUCCEEDED if config.cleanup else Cleanup.NEVER,
            namespace=config.kubernetes_namespace,
            look_every=timedelta(seconds=config.refresh_time),
        )
    return model.reading


READER = Reader(recognises=recognises, read=read, marks=(b"jobernetes",))


class _Model:
    """Reads one model; what is wrong gathers in `inspection`."""

    def __init__(self, folder: Folder, document: Document) -> None:
        self.folder = folder
        self.document = document
        self.inspection = folder.inspect(document)
        self.reading = Reading(workflow=None)
        self._names: dict[str, TreePath] = {}

    def config(self) -> _Config:
        given = self.document.tree.get("jobernetes_config")
        path: TreePath = ("jobernetes_config",)
        if given is None:
            return _Config()
        if not isinstance(given, dict):
            self.inspection.error(path, f"{word(given)} as jobernetes_config", "a mapping")
            return _Config()
        self._unknown(given, _CONFIG_KEYS, path)
        values: dict[str, Any] = {}
        rules: dict[str, tuple[Any, str]] = {
            "cleanup": (bool, "true or false"),
            "ssl_insecure_warnings": (bool, "true or false"),
            "incluster": (bool, "true or false"),
            "kubernetes_namespace": (str, "a namespace's name"),
            "refresh_time": ((int, float), "a number of seconds"),
            "parallelization": (int, "a whole number, 0 for no limit"),
        }
        for key, (kind, expected) in rules.items():
            value = given.get(key)
            if value is None:
                continue
            numeric = key in ("refresh_time", "parallelization")
            if not isinstance(value, kind) or (numeric and (isinstance(value, bool) or value < 0)):
                self.inspection.error((*path, key), f"{word(value)} as {key}", expected)
            elif key == "kubernetes_namespace" and not LABEL.fits(value):
                self.inspection.error((*path, key), f"{word(value)} as {key}", LABEL.expected)
            else:
                values[key] = value
        values["refresh_time"] = min(values.get("refresh_time", _Config.refresh_time), duration.LONGEST.total_seconds())
        if values.get("refresh_time") == 0:
            values["refresh_time"] = 0.1
        return _Config(**values)

    def steps(self) -> list[Step]:
        phases = self.document.tree.get("jobernetes")
        if not isinstance(phases, list) or not phases:
            self.inspection.error(("jobernetes",), f"{word(phases)} as jobernetes", "a list of phases")
            return []
        self._unknown(self.document.tree, ("jobernetes", "jobernetes_config"), ())
        steps: list[Step] = []
        barrier: tuple[str, ...] = ()
        for index, phase in enumerate(phases):
            path: TreePath = ("jobernetes", index)
            if not isinstance(phase, dict):
                self.inspection.error(path, f"{word(phase)} as a phase", "a mapping with phase_name and jobs")
                continue
            self._unknown(phase, _PHASE_KEYS, path)
            name = self._name(phase, "phase_name", path)
            inside = self._phase(phase, path, index, barrier)
            steps += inside
            gate = name or f"phase {index}"
            self.reading.places[gate] = (self.document, path)
            steps.append(Step(name=gate, job=None, needs=tuple(self._tops(inside)) or barrier))
            barrier = (gate,)
        return steps

    def _tops(self, steps: list[Step]) -> list[str]:
        """The steps of a phase that a barrier has to name: a folder's Jobs stand behind its gate."""
        inside = {need for step in steps if step.is_gate for need in step.needs}
        return [step.name for step in steps if step.name not in inside]

    def _phase(self, phase: dict[str, Any], path: TreePath, index: int, barrier: tuple[str, ...]) -> list[Step]:
        jobs = phase.get("jobs")
        if not isinstance(jobs, list) or not jobs:
            self.inspection.error((*path, "jobs"), f"{word(jobs)} as the jobs of a phase", "a list of jobs")
            return []
        entries = [(number, job) for number, job in enumerate(jobs) if isinstance(job, dict)]
        for number, job in enumerate(jobs):
            if not isinstance(job, dict):
                self.inspection.error((*path, "jobs", number), f"{word(job)} as a job", "a mapping with name and job_path")
        siblings = {str(job.get("name")) for _, job in entries}
        steps: list[Step] = []
        for number, job in entries:
            steps += self._job(job, (*path, "jobs", number), index, barrier, siblings)
        return steps

    def _job(self, job: dict[str, Any], path: TreePath, phase: int, barrier: tuple[str, ...], siblings: set[str]) -> list[Step]:
        self._unknown(job, _JOB_KEYS, path)
        name = self._name(job, "name", path) or f"job {path[-1]} of phase {phase}"
        needs = self._depends_on(job, path, name, siblings) or barrier
        sources = self._sources(job, path)
        self.reading.places[name] = (self.document, path)
        if job.get("type") != "directory":
            return [Step(name=name, job=_labelled(source, name, phase, exploded=False), needs=needs) for source in sources[:1]]
        exploded = []
        for stem, source in zip(plain.names([self._stem(source, job) for source in sources]), sources, strict=True):
            step = Step(name=f"{name}/{stem}", job=_labelled(source, name, phase, exploded=True), needs=needs)
            self.reading.places[step.name] = (self.document, path)
            exploded.append(step)
        return [*exploded, Step(name=name, job=None, needs=tuple(step.name for step in exploded) or needs)]

    def _stem(self, source: JobSource, job: dict[str, Any]) -> str:
        if source.path is None:
            return source.name
        return str(source.path.relative_to(self.folder.resolve(str(job["job_path"]))).with_suffix(""))

    def _depends_on(self, job: dict[str, Any], path: TreePath, name: str, siblings: set[str]) -> tuple[str, ...]:
        wanted = job.get("depends_on")
        if wanted is None:
            return ()
        if isinstance(wanted, str):
            wanted = [wanted]
        if not isinstance(wanted, list):
            self.inspection.error((*path, "depends_on"), f"{word(wanted)} as depends_on", "a list of names")
            return ()
        known = []
        for index, need in enumerate(wanted):
            if str(need) in siblings:
                known.append(str(need))
                continue
            hint = did_you_mean(str(need), siblings) or "phases already wait for each other; inside one, only its own jobs can be named"
            self.inspection.error(
                (*path, "depends_on", index), f"{name} depends on {need}, which is not in this phase", "a job of the same phase", hint
            )
        return tuple(dict.fromkeys(known))

    def _sources(self, job: dict[str, Any], path: TreePath) -> list[JobSource]:
        given = job.get("job_path")
        if not isinstance(given, str) or not given:
            self.inspection.error(
                (*path, "job_path") if "job_path" in job else path, f"{word(given)} as job_path", "the path of a Job manifest"
            )
            return []
        file = self.folder.resolve(given)
        is_folder = job.get("type") == "directory"
        if not is_there(file):
            self.inspection.error(
                (*path, "job_path"),
                f"{given} does not exist",
                "a Job manifest" if not is_folder else "a folder of Job manifests",
                "paths are relative to the model",
            )
            return []
        if file.is_dir() and not is_folder:
            self.inspection.error((*path, "job_path"), f"{given} is a folder", "a file", "add type: directory")
            return []
        if is_folder and not file.is_dir():
            self.inspection.error((*path, "job_path"), f"{given} is a file", "a folder", "remove type: directory")
            return []
        jobs = read_jobs(self.folder, file, literal=True)
        if not is_folder and len(jobs) > 1:
            self.inspection.error((*path, "job_path"), f"{given} holds {len(jobs)} Jobs", "one", "use type: directory, or a file for each")
        self.reading.jobs += jobs
        return jobs

    def _name(self, entry: dict[str, Any], key: str, path: TreePath) -> str | None:
        given = entry.get(key)
        name = str(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else ""
        if not name:
            self.inspection.error((*path, key) if key in entry else path, f"{word(given)} as {key}", "a name")
            return None
        if re.search(r"\s", name):
            guess = "_".join(name.split())
            self.inspection.error((*path, key), f'"{name}" as {key}', "a name without spaces", f'perhaps "{guess}"' if guess else "")
        if name in self._names:
            where = self.document.at(self._names[name])
            self.inspection.error(
                (*path, key), f'a second "{name}"', "a name of its own among all phases and jobs", f"the first is in line {where.line}"
            )
        self._names.setdefault(name, (*path, key))
        return name

    def _unknown(self, tree: dict[str, Any], known: tuple[str, ...], path: TreePath) -> None:
        for key in tree:
            if key not in known:
                self.inspection.warn((*path, key), f'unknown key "{key}" is ignored', "", did_you_mean(key, known), key=True)


def _labelled(source: JobSource, name: str, phase: int, *, exploded: bool) -> Template:
    """The manifest with the labels that the original adds; people select by them."""
    labels = {
        "jobernetes_job_name": names.label_value(name),
        "jobernetes_phase": str(phase),
        "jobernetes_exploded": str(exploded),
    }
    manifest = source.template.manifest
    metadata: Any = manifest.get("metadata") if isinstance(manifest.get("metadata"), dict) else {}
    own: Any = metadata.get("labels") if isinstance(metadata.get("labels"), dict) else {}
    return Template({**manifest, "metadata": {**metadata, "labels": {**own, **labels}}}, literal=True)
