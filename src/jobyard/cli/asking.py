"""What the cluster itself says of a workflow's Jobs and what stands beside them, before any is created: a strict dry run of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobyard.engine.home import job_labels
from jobyard.files.objects import SideObject
from jobyard.files.reading import Reading
from jobyard.model import names
from jobyard.model.errors import (
    Conflict,
    Forbidden,
    InvalidParameter,
    JobyardError,
    MissingRights,
    NoCluster,
    NotFound,
    PlaceholderUnknown,
    Rejected,
    Unauthorized,
)
from jobyard.model.finding import Finding, Position
from jobyard.model.job import render
from jobyard.model.objects import JOBS
from jobyard.model.parameters import resolve
from jobyard.model.run import Role
from jobyard.model.template import lookup
from jobyard.model.workflow import Workflow
from jobyard.service.options import TargetOptions
from jobyard.service.target import Target, open_target


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a cluster said of a file. `who`: the cluster and namespace that were asked, in words; '' when none was."""

    findings: list[Finding] = field(default_factory=list)
    who: str = ""


async def ask_cluster(options: TargetOptions, reading: Reading) -> Asked:
    """What the cluster refuses. Nothing when there is no cluster; a warning when one may be meant and can't be asked. Raises why, where it was
    named; and Unauthorized."""
    if reading.workflow is None:
        return Asked()
    try:
        async with open_target(options, wanted=reading.workflow.namespace, in_cluster=reading.in_cluster, quiet_tls=True) as target:
            return Asked(
                findings=await _dry_run(target, reading.workflow, reading), who=f"{target.cluster.shown}, namespace {target.namespace}"
            )
    except NoCluster as error:
        if not options.local:
            return Asked()
        return Asked(findings=[_unasked(reading, error)])
    except Unauthorized:
        raise  # a cluster that answers so is one that was meant
    except (JobyardError, OSError) as error:
        if options.context or options.kubeconfig or options.namespace:
            raise
        return Asked(findings=[_unasked(reading, error)])


def _unasked(reading: Reading, error: Exception) -> Finding:
    document, _ = next(iter(reading.places.values()))
    return Finding(position=Position(file=document.file), what=f"the cluster was not asked: {error}", is_error=False)


async def _dry_run(target: Target, workflow: Workflow, reading: Reading) -> list[Finding]:
    try:
        values = resolve(workflow.parameters, reading.inputs)
    except InvalidParameter:
        return []  # it needs values that only a run has
    documents = {id(job.template.manifest): job.document for job in reading.jobs}
    found = [finding for each in reading.objects for finding in await _dry_run_object(target, each)]
    for step in workflow.jobs:
        template = step.job
        if template is None:
            continue
        try:
            manifest = template.fill(lookup(values, {}))
        except PlaceholderUnknown:
            continue  # it needs outputs that only a run has
        labels = job_labels("check", "cli", Role.STEP, step.name, 1)
        name = names.job_name("check", Role.STEP, step.name, 1)
        job = render(manifest, name=name, labels=labels, annotations={names.STEP: step.name}, pod_labels=labels)
        try:
            await target.cluster.create(JOBS, target.namespace, job, dry_run=True)
        except NotFound:
            await target.require_namespace()
            raise
        except Unauthorized:
            raise
        except Rejected as refused:
            if isinstance(refused, Forbidden) and await target.cluster.may("create", JOBS, target.namespace) is False:
                raise MissingRights(rights="create jobs.batch", namespace=target.namespace) from None
            document = documents.get(id(template.manifest)) or reading.places[step.name][0]
            said = refused.message.replace(job["metadata"]["name"], str(manifest.get("metadata", {}).get("name", step.name)))
            found.append(Finding(position=document.at(), what=f"the cluster refuses it: {said}"))
    return found


async def _dry_run_object(target: Target, side: SideObject) -> list[Finding]:
    """What the cluster says of an object beside the Jobs. That it is there already is for the run to see to."""
    try:
        kind = await target.cluster.find_kind(side.api_version, side.kind)
    except NotFound as refused:
        return [Finding(position=side.document.at(("kind",)), what=f"the cluster says: {refused.message}")]
    try:
        await target.cluster.create(kind, target.namespace, side.manifest, dry_run=True)
    except (Conflict, NotFound):
        return []
    except Unauthorized:
        raise
    except Rejected as refused:
        return [Finding(position=side.document.at(), what=f"the cluster refuses it: {refused.message}")]
    return []
