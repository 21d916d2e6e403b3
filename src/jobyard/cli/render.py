"""Runs as text. Pure: from values to strings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from jobyard.model import duration
from jobyard.model.run import Reason, RunView, State, StepView
from jobyard.service.reasons import title

MARKS = {
    State.PENDING: "·",
    State.RUNNING: "▸",
    State.SUCCEEDED: "✔",
    State.FAILED: "✘",
    State.CANCELLED: "⊘",
    State.LOST: "?",
    State.SKIPPED: "-",
}
STYLES = {
    State.PENDING: "dim",
    State.RUNNING: "cyan",
    State.SUCCEEDED: "green",
    State.FAILED: "bold red",
    State.CANCELLED: "yellow",
    State.LOST: "bold red",
    State.SKIPPED: "dim",
}


def lasted(step: StepView | RunView, now: datetime) -> str:
    """How long it took, or has taken so far; empty before it started."""
    if step.started is None:
        return ""
    return duration.show((step.finished or now) - step.started)


def why(step: StepView) -> str:
    """The short reason behind a step's state: what is wrong first, then what it waits for."""
    if step.diagnosis and step.state is not State.RUNNING:
        return step.diagnosis.reason
    if step.reason == Reason.REUSED:
        return str(step.reason)
    if step.state in (State.SUCCEEDED, State.RUNNING) or step.reason in (Reason.WAITING_FOR_POD, ""):
        return ""
    return str(step.reason)


def change_line(step: StepView, now: datetime) -> str:
    """One line for one change: state, name, duration, attempt, reason."""
    parts = [f"{MARKS[step.state]} {title(step)} {step.state}"]
    if step.state.is_end and step.started:
        parts.append(f"in {lasted(step, now)}")
    if step.attempt > 1:
        parts.append(f"(attempt {step.attempt})")
    if reason := why(step):
        parts.append(f"[{reason}]")
    return " ".join(parts)


def summary(view: RunView) -> str:
    """How the run stands, in a line."""
    counts: dict[State, int] = {}
    for step in view.steps:
        counts[step.state] = counts.get(step.state, 0) + 1
    parts = ", ".join(f"{counts[state]} {state}" for state in State if state in counts)
    reason = f" ({view.reason})" if view.reason and view.state is not State.RUNNING else ""
    return f"{view.state}{reason}: {parts}" if parts else f"{view.state}{reason}"


def explain(step: StepView, log: Sequence[str], command: str = "", tail: int = 20) -> list[str]:
    """Why a step failed: sentence, detail, remedy, and the last lines of its log. `command`: what prints the log, where anything does."""
    lines = [f"{title(step)}: {_sentence(step)}"]
    diagnosis = step.diagnosis
    if diagnosis:
        if diagnosis.detail:
            lines.append(f"  {diagnosis.detail}")
        if diagnosis.pod:
            code = f", exit code {diagnosis.exit_code}" if diagnosis.exit_code is not None else ""
            lines.append(f"  pod {diagnosis.pod}: {diagnosis.reason}{code}")
        if diagnosis.remedy:
            lines.append(f"  {diagnosis.remedy}")
    return lines + end_of_log(log, command if diagnosis and diagnosis.has_log else "", tail)


def end_of_log(log: Sequence[str], command: str, tail: int) -> list[str]:
    """The last lines of a log, and what prints all of it, where there may be more."""
    shown = list(log)[-tail:]
    if not shown:
        return [f"  its log: {command}"] if command else []
    lines = [f"  its last {len(shown)} log lines:" if len(shown) > 1 else "  its log:", *(f"    {line}" for line in shown)]
    return [*lines, f"  all of it: {command}"] if command and len(shown) == tail else lines


def _sentence(step: StepView) -> str:
    if step.diagnosis:
        return step.diagnosis.sentence
    return step.message or f"{step.state} ({step.reason})"


def table(view: RunView, now: datetime) -> list[tuple[str, str, str, str, str]]:
    """Rows for the end of a run: mark and name, state, duration, attempts, reason."""
    return [
        (f"{MARKS[step.state]} {title(step)}", str(step.state), lasted(step, now), str(step.attempt or ""), why(step))
        for step in view.steps
    ]


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text, as wide as they need to be."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]


def outputs(step: StepView) -> str:
    """A step's outputs in a line."""
    return " ".join(f"{key}={value}" for key, value in (step.outputs or {}).items())
