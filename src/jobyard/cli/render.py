"""Runs as text. Pure: from values to strings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from jobyard.model import duration, names
from jobyard.model.cause import LOG_TELLS_MORE
from jobyard.model.job import run_name
from jobyard.model.objects import Job
from jobyard.model.run import Reason, RunView, State, StepView
from jobyard.service.reasons import reason_of, title, told

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


def change_line(step: StepView, now: datetime) -> str:
    """One line for one change: state, name, duration, attempt, reason."""
    parts = [f"{MARKS[step.state]} {title(step)} {step.state}"]
    if step.state.is_end and step.started:
        parts.append(f"in {lasted(step, now)}")
    if step.attempt > 1:
        parts.append(f"(attempt {step.attempt})")
    if reason := reason_of(step):
        parts.append(f"[{reason}]")
    return " ".join(parts)


def summary(view: RunView) -> str:
    """How the run stands, in a line."""
    says_more = view.reason and view.state is not State.RUNNING and view.reason.lower() != view.state
    stands = f"{view.state} ({view.reason})" if says_more else str(view.state)
    return f"{stands}: {counts}" if (counts := _counts(view)) else stands


def _counts(view: RunView) -> str:
    """How many steps are in which state."""
    counts = Counter(step.state for step in view.steps)
    return ", ".join(f"{counts[state]} {state}" for state in State if counts[state])


def cancelled(view: RunView, now: datetime, *, was_over: bool) -> str:
    """What came of cancelling a run."""
    if was_over:
        ended = {State.CANCELLED: "been cancelled", State.LOST: "been lost"}.get(view.state, str(view.state))
        ago = f", {duration.show(now - view.finished)} ago" if view.finished else ""
        return f"Run {view.name} had already {ended}{ago}. Nothing was cancelled."
    if view.state is not State.CANCELLED:
        return f"Run {view.name} {view.state} before it could be cancelled."
    return f"Run {view.name} is cancelled: {_counts(view)}"


def job(found: Job, stands: StepView, now: datetime) -> list[str]:
    """A Job by itself, in a few lines."""
    took = duration.show((stands.finished or now) - stands.started) if stands.started else ""
    run, step = run_name(found), found.metadata.annotations.get(names.STEP)
    whose = f"step {step} of run {run}" if run else "not started by Jobyard"
    counts = ((found.status.active, "active"), (found.status.succeeded, "succeeded"), (found.status.failed, "failed"))
    pods = ", ".join(f"{count} {word}" for count, word in counts if count) or "none"
    begun = f", started {exactly(stands.started)}" if stands.started else ""
    return [
        "  ".join(part for part in (f"Job {found.metadata.name}", str(stands.state), took) if part),
        f"{whose}, namespace {found.metadata.namespace}{begun}",
        f"pods: {pods}",
    ]


def exactly(moment: datetime) -> str:
    """A time with its day and zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def to_explain(view: RunView) -> list[StepView]:
    """The steps of which there is more to say than a table does. Who fills a limit is said once, of the first that waits for it."""
    found: list[StepView] = []
    full = set[str]()
    for step in view.steps:
        if step.state is State.PENDING and step.reason == Reason.WAITING_FOR_LIMIT and step.message:
            if step.message not in full:
                found.append(step)
            full.add(step.message)
        elif step.state in (State.FAILED, State.LOST) or (step.state is State.PENDING and (step.diagnosis or (step.job and step.message))):
            found.append(step)
    return found


def explain(step: StepView, now: datetime | None = None, log: Sequence[str] = ()) -> list[str]:
    """Why a step failed, or does not run: the sentence, what to do, the details. That its log tells more comes last, and not at all where its
    lines (`log`) follow."""
    lines = [f"{title(step)}: {told(step, now) or f'{step.state} ({step.reason})'}"]
    diagnosis = step.diagnosis
    if diagnosis:
        says_more = diagnosis.remedy == LOG_TELLS_MORE
        remedy = [f"  {diagnosis.remedy}"] if diagnosis.remedy and not (says_more and log) else []
        lines += [] if says_more else remedy
        if diagnosis.pod:
            code = f", exit code {diagnosis.exit_code}" if diagnosis.exit_code is not None else ""
            lines.append(f"  pod {diagnosis.pod}: {diagnosis.reason}{code}")
        lines += [f"  {line}" for line in diagnosis.detail.splitlines() if line.strip()]
        lines += remedy if says_more else []
    return lines


def end_of_log(log: Sequence[str], command: str, tail: int) -> list[str]:
    """The last lines of a log, and what prints all of it, where there may be more. `command`: what prints it, where anything does."""
    shown = list(log)[-tail:]
    if not shown:
        return [f"  its log: {command}"] if command else []
    lines = [f"  its last {len(shown)} log lines:" if len(shown) > 1 else "  its log:", *(f"    {line}" for line in shown)]
    return [*lines, f"  all of it: {command}"] if command and len(shown) == tail else lines


def table(view: RunView, now: datetime) -> list[tuple[str, str, str, str, str]]:
    """Rows for the end of a run: mark and name, state, duration, attempts, reason."""
    return [
        (f"{MARKS[step.state]} {title(step)}", str(step.state), lasted(step, now), str(step.attempt or ""), reason_of(step))
        for step in view.steps
    ]


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text, as wide as they need to be."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]


LAST = 16
"""Characters that are worth keeping of a table's last column, which is cut where there is no room."""


def fitted(head: Sequence[str], rows: Sequence[Sequence[str]], width: int, goes_first: Sequence[str] = ()) -> list[str]:
    """The same no wider than `width`: columns go, in the order of `goes_first`, until there is room for the rest; of the last, for a part of it."""
    columns, widths = list(range(len(head))), [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for name in goes_first:
        if sum(widths[each] + 2 for each in columns[:-1]) + min(widths[columns[-1]], LAST) <= width:
            break
        columns.remove(head.index(name))
    lines = plain_table([head[each] for each in columns], [[row[each] for each in columns] for row in rows])
    return [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]


def clock(moment: datetime, now: datetime) -> str:
    """When something was, in the time of whoever reads it: the time today, else the day and the time, else the day alone."""
    local, today = moment.astimezone(), now.astimezone()
    if local.date() == today.date():
        return local.strftime("%H:%M:%S")
    return local.strftime("%Y-%m-%d" if abs(today - local).days > 300 else "%m-%d %H:%M")


def outputs(step: StepView) -> str:
    """A step's outputs in a line."""
    return " ".join(f"{key}={value}" for key, value in (step.outputs or {}).items())
