"""What is wrong with a workflow as a whole: unknown and cyclic needs, steps that can never run, placeholders that will have no value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobyard.files.document import Document
from jobyard.files.manifest import JobSource
from jobyard.model.finding import Finding, did_you_mean
from jobyard.model.template import Path, Template, output_of
from jobyard.model.workflow import Step, Workflow, contradiction, find_cycle

Places = Mapping[str, tuple[Document, Path]]


def check_graph(workflow: Workflow, places: Places, jobs: Sequence[JobSource]) -> list[Finding]:
    """Every such mistake, each at the step's own place."""
    by_name = {step.name: step for step in workflow.steps}
    findings = _unknown_needs(workflow, by_name, places)
    cycle = find_cycle({step.name: [need for need in step.needs if need in by_name] for step in workflow.steps})
    if cycle:
        document, path = places[cycle[0]]
        chain = " needs ".join(cycle)
        findings.append(
            Finding(
                position=document.at(path),
                what=f"a cycle: {chain}",
                expected="an order in which they can run",
                remedy="remove one of these needs",
            )
        )
    else:
        for step in workflow.steps:
            why = contradiction(by_name, step.name)
            if why and step.name in places:
                document, path = places[step.name]
                findings.append(
                    Finding(
                        position=document.at(path), what=f"step {step.name} can never run: {why}", remedy="change its needs or its `when`"
                    )
                )
        findings += _placeholders(workflow, by_name, jobs)
    return findings


def _unknown_needs(workflow: Workflow, by_name: Mapping[str, Step], places: Places) -> list[Finding]:
    found = []
    for step in workflow.steps:
        for index, need in enumerate(step.needs):
            if need in by_name or step.name not in places:
                continue
            document, path = places[step.name]
            key = "needs" if isinstance(document.tree, dict) and "spec" in document.tree else "depends_on"
            hint = did_you_mean(need, by_name) or f"there are: {', '.join(list(by_name)[:12])}"
            found.append(
                Finding(position=document.at((*path, key, index)), what=f"step {step.name} needs {need}, which does not exist", remedy=hint)
            )
    return found


def _placeholders(workflow: Workflow, by_name: Mapping[str, Step], jobs: Sequence[JobSource]) -> list[Finding]:
    documents = {id(job.template.manifest): job.document for job in jobs}
    params = [parameter.name for parameter in workflow.parameters]
    found: list[Finding] = []
    for step in workflow.steps:
        before = _ancestors(step, by_name)
        for template, allowed in ((step.job, before), (step.revert, {*before, step.name})):
            document = documents.get(id(template.manifest)) if template else None
            if template is None or document is None:
                continue
            found += _of_template(template, document, step, params, allowed, by_name)
    return found


def _of_template(
    template: Template, document: Document, step: Step, params: Sequence[str], allowed: set[str], by_name: Mapping[str, Step]
) -> list[Finding]:
    found = []
    for path, name in template.placeholders():
        what, remedy = "", ""
        parameter = name.removeprefix("params.")
        if parameter != name:
            if parameter not in params:
                what = f"{{{{ {name} }}}}: the workflow declares no parameter {parameter}"
                remedy = did_you_mean(parameter, params) or "declare it in spec.parameters"
        elif (asked := output_of(name)) is None:
            what, remedy = f"{{{{ {name} }}}} is no placeholder", "an output is written {{ steps.NAME.outputs.KEY }}"
        elif asked[0] not in by_name:
            what, remedy = f"{{{{ {name} }}}}: there is no step {asked[0]}", did_you_mean(asked[0], by_name)
        elif by_name[asked[0]].is_gate:
            what, remedy = f"{{{{ {name} }}}}: {asked[0]} is several Jobs", "name one of them: " + ", ".join(by_name[asked[0]].needs[:5])
        elif asked[0] not in allowed:
            what, remedy = (
                f"{{{{ {name} }}}}: step {step.name} does not need {asked[0]}, which may not have ended",
                f"add {asked[0]} to its needs",
            )
        if what:
            found.append(Finding(position=document.at(path), what=what, remedy=remedy))
    return found


def _ancestors(step: Step, by_name: Mapping[str, Step]) -> set[str]:
    found: set[str] = set()
    todo = list(step.needs)
    while todo:
        name = todo.pop()
        if name not in found and name in by_name:
            found.add(name)
            todo += by_name[name].needs
    return found
