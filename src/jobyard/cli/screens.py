"""Ways to show a run while it goes on: plain lines, JSON lines, and a live tree on a terminal."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from jobyard.cli import render
from jobyard.model.cause import LOG_TELLS_MORE
from jobyard.model.run import Reason, Role, RunView, State, StepView
from jobyard.service.reasons import reason_of, title, told
from jobyard.service.shapes import run_json

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Say = Callable[[str], None]


class Screen(Protocol):
    """Shows a run's changes. `wants_logs`: it shows the last line of what runs; `every`: redraw at least so often, in seconds."""

    @property
    def wants_logs(self) -> bool: ...

    @property
    def every(self) -> float | None: ...

    def show(self, view: RunView, last_lines: Mapping[str, str], now: datetime) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self) -> None: ...


class Lines:
    """Plain lines, one a change, nothing twice: for pipes and CI."""

    wants_logs = False
    every: float | None = None

    def __init__(self, echo: Say) -> None:
        self._echo = echo
        self._shown: dict[tuple[Role, str], tuple[State, int]] = {}
        self._said: dict[tuple[Role, str], set[str]] = {}
        """Of a step: what keeps or kept it from running. A pod that can't start goes back and forth between the same few reasons."""
        self._unreachable: set[str] = set()

    def show(self, view: RunView, last_lines: Mapping[str, str], now: datetime) -> None:
        if view.unreachable and view.unreachable not in self._unreachable:
            self._unreachable.add(view.unreachable)
            self._echo(f"{_clock(now)} reconnecting: {view.unreachable}")
        elif self._unreachable and not view.unreachable:
            self._unreachable.clear()
            self._echo(f"{_clock(now)} connected again")
        for step in view.steps:
            self._show_step(step, now)

    def _show_step(self, step: StepView, now: datetime) -> None:
        key, stands, reason = (step.role, step.name), (step.state, step.attempt), reason_of(step)
        before, said = self._shown.get(key), self._said.setdefault(key, set())
        if step.state is State.PENDING and reason in ("", Reason.WAITING_FOR_POD, Reason.WAITING_FOR_STEP):
            return  # as it should be
        news = f"{step.attempt} {reason}" + (f" {step.tries.failed}" if step.tries else "")
        if stands != before or news not in said:
            self._shown[key] = stands
            said.add(news)
            self._echo(f"{_clock(now)} {render.change_line(step, now)}")
            if step.state is State.PENDING:
                self._explain(step, said, now)
        if step.tries and step.last_lines and f"log {news}" not in said:
            said.add(f"log {news}")
            for line in step.last_lines:
                self._echo(f"         {title(step)} | {line}")

    def _explain(self, step: StepView, said: set[str], now: datetime) -> None:
        why = step.diagnosis
        remedy = why.remedy if why and not (step.tries and why.remedy == LOG_TELLS_MORE) else ""  # its lines follow
        for part in (part for part in (told(step, now), remedy, why.detail if why else "") if part and part not in said):
            said.add(part)
            self._echo(f"         {part}")

    def say(self, text: str) -> None:
        self._echo(text)

    def close(self) -> None:
        return


class JsonLines:
    """One JSON object a line, the whole run at each change."""

    wants_logs = False
    every: float | None = None

    def __init__(self, echo: Say, note: Say) -> None:
        self._echo, self._note = echo, note
        self._last: dict[str, Any] = {}

    def show(self, view: RunView, last_lines: Mapping[str, str], now: datetime) -> None:
        tree = run_json(view)
        if tree != self._last:
            self._last = tree
            self._echo(json.dumps(tree))

    def say(self, text: str) -> None:
        self._note(text)

    def close(self) -> None:
        return


class LiveTree:
    """The steps as a tree that is drawn anew: state, duration, retries, reason, and the last log line of what runs."""

    wants_logs = True
    every: float | None = 0.5

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._depths: dict[str, int] = {}

    def show(self, view: RunView, last_lines: Mapping[str, str], now: datetime) -> None:
        from rich.table import Table
        from rich.text import Text

        height = shutil.get_terminal_size().lines
        grid = columns()
        if not self._depths:
            self._depths = depths(view.steps)
        room = max(height - 5, 5)
        chosen = choose(view.steps, room)
        names = [_shown(step, self._depths.get(step.name, 0)) for step in chosen]
        width = (grid.width or 0) - max(map(len, names), default=0) - max((len(render.lasted(step, now)) for step in chosen), default=0) - 4
        spare = room - len(chosen)
        for step in chosen:
            lines = folded(step, now, width, spare)
            spare -= len(lines)
            grid.add_row(*row(step, self._depths.get(step.name, 0), last_lines, now, lines=lines))
        head = Text.assemble(
            (view.name, "bold"), "  ", (render.summary(view), render.STYLES[view.state]), "  ", (render.lasted(view, now), "dim")
        )
        whole = Table.grid()
        whole.add_row(head)
        whole.add_row(grid)
        if len(chosen) < len(view.steps):
            whole.add_row(Text(f"… and {len(view.steps) - len(chosen)} more steps", style="dim"))
        if view.unreachable:
            whole.add_row(Text(f"reconnecting: {view.unreachable}", style="yellow"))
        self._live.update(whole, refresh=True)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)  # a command in it stays one line that can be copied

    def close(self) -> None:
        self._live.stop()


def columns() -> Table:
    """A grid for rows of steps: name, duration, and a note that takes the room that is left. Three columns of the terminal stay free: the
    `^C` that a terminal writes must not begin a line of its own, or what is drawn would be wiped away but for its first line."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2), expand=True)
    grid.width = max(shutil.get_terminal_size().columns - 3, 20)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    return grid


def row(
    step: StepView, depth: int, last_lines: Mapping[str, str], now: datetime, name: str = "", lines: Sequence[str] = ()
) -> tuple[Text, Text, Text]:
    """A step as a row of `columns`. `last_lines`: of each Job's log; `name`: what it is called instead of its own name; `lines`: what stands
    below its reason, instead of beside it."""
    from rich.text import Text

    style = render.STYLES[step.state]
    shown = _shown(step, depth, name)
    attempt = f" attempt {step.attempt}" if step.attempt > 1 else ""
    note = Text(f"{reason_of(step)}{attempt}".strip(), style="yellow")
    if lines:
        note = Text("\n").join([note, *(Text(_plain(line), style="dim") for line in lines)])
    elif behind := _behind(step, last_lines, now):
        note = Text.assemble(note, " " if note else "", (_plain(behind), "dim"))
    return Text(shown, style=style), Text(render.lasted(step, now), style="dim"), note


def _shown(step: StepView, depth: int, name: str = "") -> str:
    return "  " * min(depth, 8) + f"{render.MARKS[step.state]} {name or title(step)}"


def folded(step: StepView, now: datetime, width: int, room: int) -> list[str]:
    """Why a step does not run, and what its failed try wrote last, in lines below its reason: where a row is too narrow for that, and there is
    room. `width`: characters of a note; `room`: lines to spare. Pure."""
    if step.state is not State.PENDING or not (step.tries or step.diagnosis) or room < 1:
        return []
    said = told(step, now)
    if not step.last_lines and len(f"{reason_of(step)} {said}") <= width:
        return []
    return [*textwrap.wrap(said, max(width, 20)), *(f"| {line}" for line in step.last_lines)][:room]


def _behind(step: StepView, last_lines: Mapping[str, str], now: datetime) -> str:
    """What stands behind a step's reason: why it does not run, the last line of its log, what it gave."""
    last = last_lines.get(step.job, "")
    if step.state is State.RUNNING:
        return last
    if step.state is State.PENDING and (step.tries or step.diagnosis or (step.job and step.message)):
        return f"{told(step, now)}  {last}" if step.tries and last else told(step, now)
    return render.outputs(step)


def depths(steps: tuple[StepView, ...]) -> dict[str, int]:
    """How deep each step stands in the tree: one below the deepest that it needs, gates passed over."""
    found: dict[str, int] = {}
    for step in steps:
        inside = [depth for name, depth in found.items() if any(name == need or name.startswith(f"{need}/") for need in step.needs)]
        unknown = any(need not in found for need in step.needs) and not inside
        found[step.name] = max(inside) + 1 if inside else max(found.values(), default=-1) + 1 if unknown and found else 0
    return found


def choose(steps: tuple[StepView, ...], room: int) -> list[StepView]:
    """As many steps as there is room for: what failed and what runs first, then what waits, in the order of the file."""
    if len(steps) <= room:
        return list(steps)
    weight = {State.FAILED: 0, State.LOST: 0, State.RUNNING: 1, State.CANCELLED: 2, State.PENDING: 3, State.SUCCEEDED: 4, State.SKIPPED: 5}
    ranked = sorted(range(len(steps)), key=lambda index: (weight[steps[index].state], index))[: room - 1]
    return [steps[index] for index in sorted(ranked)]


def _clock(now: datetime) -> str:
    return now.astimezone().strftime("%H:%M:%S")


def _plain(line: str) -> str:
    """A log line without what could disturb a terminal."""
    return "".join(character for character in line if character.isprintable())
