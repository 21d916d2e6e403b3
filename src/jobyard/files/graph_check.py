"""What is wrong with a workflow as a whole: unknown and cyclic needs, steps that can never run, placeholders that will have no value."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from jobyard.files.borders import Budget
from jobyard.files.document import Document
from jobyard.files.job_source import JobSource
from jobyard.model.finding import Finding, did_you_mean
from jobyard.model.template import Path, Template, output_of
from jobyard.model.workflow import Step, Workflow, contradictions, find_cycle

Places = Mapping[str, tuple[Document, Path]]


def check_graph(workflow: Workflow, places: Places, jobs: Sequence[JobSource], budget: Budget) -> Iterator[Finding]:
    """Every such mistake, each at the step's own place. Raises TooMuch."""
    by_name = {step.name: step for step in workflow.steps}
    yield from _unknown_needs(workflow, by_name, places)
    cycle = find_cycle({step.name: [need for need in step.needs if need in by_name] for step in workflow.steps})
    if cycle:
        document, path = places[cycle[0]]
        yield Finding(
            position=document.at(path),
            what=f"a cycle: {' needs '.join(cycle)}",
            expected="an order in which they can run",
            remedy="remove one of these needs",
        )
        return
    for name, why in contradictions(by_name):
        if name in places:
            document, path = places[name]
            budget.stride(lambda: document.at(path))  # noqa: B023 - called at once
            if why:
                yield Finding(position=document.at(path), what=f"step {name} can never run: {why}", remedy="change its needs or its `when`")
    yield from _placeholders(workflow, by_name, jobs, budget)


def _unknown_needs(workflow: Workflow, by_name: Mapping[str, Step], places: Places) -> Iterator[Finding]:
    for step in workflow.steps:
        for index, need in enumerate(step.needs):
            if need in by_name or step.name not in places:
                continue
            document, path = places[step.name]
            key = "needs" if isinstance(document.tree, dict) and "spec" in document.tree else "depends_on"
            hint = did_you_mean(need, by_name) or f"there are: {', '.join(list(by_name)[:12])}"
            position = document.at((*path, key, index))
            yield Finding(position=position, what=f"step {step.name} needs {need}, which does not exist", remedy=hint)


def _placeholders(workflow: Workflow, by_name: Mapping[str, Step], jobs: Sequence[JobSource], budget: Budget) -> Iterator[Finding]:
    documents = {id(job.template.manifest): job.document for job in jobs}
    params = {parameter.name for parameter in workflow.parameters}
    for step in workflow.steps:
        for template in (step.job, step.revert):
            document = documents.get(id(template.manifest)) if template else None
            if template is not None and document is not None:
                yield from _of_template(template, document, step, params, by_name, budget)


def _of_template(
    template: Template, document: Document, step: Step, params: Collection[str], by_name: Mapping[str, Step], budget: Budget
) -> Iterator[Finding]:
    for path, name in template.placeholders():
        budget.step(lambda: document.at(path))  # noqa: B023 - called at once
        what, remedy = "", ""
        parameter = name.removeprefix("params.")
        if parameter != name:
            if parameter not in params:
                what = f"{{{{ {name} }}}}: the workflow declares no parameter {parameter}"
                remedy = did_you_mean(parameter, params) or "declare it in spec.parameters"
        elif (asked := output_of(name)) is None:
            what, remedy = f"{{{{ {name} }}}} is not a placeholder", "an output is written {{ steps.NAME.outputs.KEY }}"
        elif asked[0] not in by_name:
            what, remedy = f"{{{{ {name} }}}}: there is no step {asked[0]}", did_you_mean(asked[0], by_name)
        elif several := [need for need in by_name[asked[0]].needs if by_name[asked[0]].is_gate and need.startswith(f"{asked[0]}/")]:
            what, remedy = f"{{{{ {name} }}}}: {asked[0]} is several Jobs", "name one of them: " + ", ".join(several[:5])
        elif not (template is step.revert and asked[0] == step.name) and not _comes_before(asked[0], step, by_name, budget, document, path):
            what = f"{{{{ {name} }}}}: step {step.name} does not need {asked[0]}, which may not have ended"
            remedy = f"add {asked[0]} to its needs"
        if what:
            yield Finding(position=document.at(path), what=what, remedy=remedy)


def _comes_before(wanted: str, step: Step, by_name: Mapping[str, Step], budget: Budget, document: Document, path: Path) -> bool:
    """Whether a step needs another, directly or not: what it needs itself is looked at first."""
    seen: set[str] = set()
    todo = [step]
    while todo:
        needs = todo.pop().needs
        if wanted in needs:
            return True
        for need in needs:
            budget.step(lambda: document.at(path))
            if need not in seen and need in by_name:
                seen.add(need)
                todo.append(by_name[need])
    return False
