"""A workflow as a drawing: text, mermaid, SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from jobyard.files.objects import SideObject
from jobyard.model.belongings import Belonging
from jobyard.model.workflow import Step, Workflow

_WIDTH, _HEIGHT, _ACROSS, _DOWN = 180, 40, 60, 18


def levels(workflow: Workflow) -> list[list[Step]]:
    """The steps in columns: each stands one after the last that it needs. Gates stand with what they close."""
    depth: dict[str, int] = {}
    for step in workflow.ordered:
        reached = max((depth[need] for need in step.needs), default=-1)
        depth[step.name] = reached if step.is_gate and step.needs else reached + 1
    columns: list[list[Step]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for step in workflow.steps:
        if not step.is_gate:
            columns[depth[step.name]].append(step)
    return columns


def text(workflow: Workflow) -> str:
    """The workflow by levels, each step with what it needs and how it runs."""
    lines = [f"{workflow.name}: {len(workflow.jobs)} steps" if len(workflow.jobs) != 1 else f"{workflow.name}: 1 step"]
    if workflow.parallelism:
        lines[0] += f", at most {workflow.parallelism} at once"
    for number, column in enumerate(levels(workflow), 1):
        lines.append(f"{number}.")
        for step in column:
            lines.append("   " + step.name + _notes(step))
    return "\n".join(lines)


def beside(objects: Sequence[SideObject]) -> str:
    """What a run makes before its Jobs, in a line; "" when nothing."""
    if not objects:
        return ""
    told = (f"{each} (kept)" if each.belonging is Belonging.KEPT else str(each) for each in objects)
    return f"before them: {', '.join(told)}"


def _notes(step: Step) -> str:
    notes = []
    if step.needs:
        notes.append(("after " if step.when == "succeeded" else f"when {step.when}: ") + ", ".join(step.needs))
    if step.retry.limit:
        notes.append("up to 1 retry" if step.retry.limit == 1 else f"up to {step.retry.limit} retries")
    if step.revert:
        notes.append("can be reverted")
    return f"  ({'; '.join(notes)})" if notes else ""


def mermaid(workflow: Workflow) -> str:
    """A mermaid flowchart."""
    ids = {step.name: f"s{index}" for index, step in enumerate(workflow.steps)}
    lines = ["flowchart LR"]
    for step in workflow.steps:
        label = step.name.replace('"', "#quot;")
        lines.append(f'  {ids[step.name]}(["{label}"])' if step.is_gate else f'  {ids[step.name]}["{label}"]')
    for step in workflow.steps:
        for need in step.needs:
            arrow = "-->" if step.when == "succeeded" else f"-. {step.when} .->"
            lines.append(f"  {ids[need]} {arrow} {ids[step.name]}")
    return "\n".join(lines)


def svg(workflow: Workflow) -> str:
    """A drawing of boxes in columns, with curved lines between them. Stands alone; readable in light and dark."""
    places: dict[str, tuple[int, int]] = {}
    columns = levels(workflow)
    tallest = max((len(column) for column in columns), default=1)
    for x, column in enumerate(columns):
        top = (tallest - len(column)) * (_HEIGHT + _DOWN) // 2
        for y, step in enumerate(column):
            places[step.name] = (20 + x * (_WIDTH + _ACROSS), 20 + top + y * (_HEIGHT + _DOWN))
    width = 40 + len(columns) * (_WIDTH + _ACROSS) - _ACROSS
    height = 40 + tallest * (_HEIGHT + _DOWN) - _DOWN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{escape(workflow.name, {chr(34): "&quot;"})}">',
        "<style>rect{fill:#f6f8fa;stroke:#57606a}text{font:13px system-ui,sans-serif;fill:#1f2328}path{fill:none;stroke:#57606a}"
        "@media(prefers-color-scheme:dark){rect{fill:#161b22;stroke:#8b949e}text{fill:#e6edf3}path{stroke:#8b949e}}</style>",
    ]
    for source, target in sorted(_drawn_edges(workflow)):
        (x1, y1), (x2, y2) = places[source], places[target]
        x1, y1, y2 = x1 + _WIDTH, y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
        middle = (x1 + x2) // 2
        parts.append(f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"/>')
    for name, (x, y) in places.items():
        shown = name if len(name) <= 24 else name[:23] + "…"
        parts.append(
            f'<g><title>{escape(name)}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
            f'<text x="{x + _WIDTH // 2}" y="{y + _HEIGHT // 2 + 5}" text-anchor="middle">{escape(shown)}</text></g>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _drawn_edges(workflow: Workflow) -> set[tuple[str, str]]:
    """Needs between steps that are drawn: gates are passed through."""
    found: set[tuple[str, str]] = set()
    for step in workflow.jobs:
        todo = list(step.needs)
        while todo:
            need = workflow.by_name[todo.pop()]
            if need.is_gate:
                todo += need.needs
            else:
                found.add((need.name, step.name))
    return found
