"""How a run ended, as the commit that moves its file tells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobyard.contracts import Engine
from jobyard.model.run import Outcome, Run, State, StepView
from jobyard.triggers.git.layout import Place, QueueFile
from jobyard.triggers.git.moves import Move

TARGETS = {State.SUCCEEDED: Place.SUCCEEDED, State.FAILED: Place.FAILED, State.CANCELLED: Place.FAILED, State.LOST: Place.UNKNOWN}
_TOLD_STEPS = 3
"""How many failed steps a commit tells of."""
_TOLD_JOBS = 5


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A run that has ended, and what a commit's message is to tell of it."""

    run: Run
    state: State
    reason: str
    facts: tuple[tuple[str, str], ...]
    """In words for people."""
    lines: tuple[str, ...]
    """The end of its log."""


async def summarize(engine: Engine, run: Run, outcome: Outcome, lines: int) -> Summary:
    """Gathers what is to be told of an outcome in a commit's message."""
    view = outcome.view
    jobs = [step.job for step in view.steps if step.job]
    bad = [step for step in view.steps if step.state in (State.FAILED, State.LOST)]
    facts = [("Job", _some(jobs)), ("Namespace", run.namespace), ("Run", run.name)]
    if outcome.view.finished is not None:
        facts.append(("Duration", f"{(outcome.view.finished - outcome.view.started).total_seconds():.0f} s"))
    codes = [step.diagnosis.exit_code for step in bad if step.diagnosis and step.diagnosis.exit_code is not None]
    if codes:
        facts.append(("Exit code", ", ".join(map(str, codes[:_TOLD_STEPS]))))
    if bad and bad[0].diagnosis and bad[0].diagnosis.detail:
        facts.append(("Detail", bad[0].diagnosis.detail))
    tails: list[str] = []
    for step in (bad or list(view.steps)[-1:])[:_TOLD_STEPS]:
        last = await engine.last_lines(run, step, lines)
        tails += [f"{step.name}: {line}" if len(view.steps) > 1 else line for line in last]
    return Summary(run=run, state=outcome.state, reason=_reason(outcome, bad), facts=tuple(facts), lines=tuple(tails))


def _reason(outcome: Outcome, bad: Sequence[StepView]) -> str:
    if outcome.state is State.SUCCEEDED:
        return ""
    for step in bad:
        if step.diagnosis:
            return f"{step.diagnosis.reason}: {step.diagnosis.sentence}"
        if step.reason:
            return f"{step.reason}: {step.message}" if step.message else step.reason
    return outcome.reason or str(outcome.state)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _TOLD_JOBS
    return ", ".join(names[:_TOLD_JOBS]) + (f" and {more} more" if more > 0 else "")


def bare(run: Run, outcome: Outcome, why: str) -> Summary:
    """All that is told of an outcome whose details can't be."""
    reason = "" if outcome.state is State.SUCCEEDED else outcome.reason or str(outcome.state)
    facts = (("Namespace", run.namespace), ("Run", run.name), ("Detail", f"The rest can't be reported: {why}"))
    return Summary(run=run, state=outcome.state, reason=reason, facts=facts, lines=())


_UNTOLD = "(Its log is left out: the files that it was made from can't be read any more, so it is not known what they keep secret.)"
_WORDS = ("Job", "Namespace", "Run", "Duration", "Exit code")
"""What is told in any case: no manifest has put it there."""


def texts(summary: Summary) -> list[str]:
    """All in a summary that a manifest or a program may have put there: the reason, the facts, the log."""
    return [summary.reason, *(value for _, value in summary.facts), *summary.lines]


def leave(file: QueueFile, summary: Summary, tellable: Sequence[str] | None) -> Move:
    """The move of a file whose run has ended. `tellable`: the summary's texts, without what its files keep secret; None where nobody knows what
    that is. Pure."""
    if tellable is None:
        reason = summary.reason.partition(":")[0]
        facts = tuple((name, value) for name, value in summary.facts if name in _WORDS)
        lines: tuple[str, ...] = (_UNTOLD,) if summary.lines else ()
    else:
        reason, *told = tellable
        facts = tuple((name, value) for (name, _), value in zip(summary.facts, told, strict=False))
        lines = tuple(told[len(facts) :])
    return Move(
        file=file,
        target=TARGETS[summary.state],
        run=summary.run.name,
        namespace=summary.run.namespace,
        reason=reason,
        facts=facts,
        lines=lines,
    )
