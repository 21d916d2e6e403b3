"""What is known of one queue between two looks: its runs, what was asked for, when to look again. No I/O.

All that matters is in the cluster and read from there (`take`); what a restart forgets is a wait that then begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from jobyard.model.generation import KEPT, generation, key, level, newest
from jobyard.model.run import Reason, Run, State
from jobyard.model.standing import START_ERRORS
from jobyard.model.written import moment, whole
from jobyard.triggers.postgres.depth import MOST, Depth
from jobyard.triggers.postgres.rule import End, QueueRun, Start, Wait, next_step, rest
from jobyard.triggers.postgres.settings import QueueSettings

DEBOUNCE = timedelta(milliseconds=200)
"""How long after a notification to look: many come at once."""
FLOOR = 100
"""How far at least is counted: beyond, `100+` is all that anybody needs to know."""
LONGEST = timedelta(minutes=1)
"""How long nothing is looked at though something will tell: nobody is perfect."""
NEAR = 0.1
"""A queue whose time is nearer than this part of its check interval is looked at with the others: one query for all."""


class Slot:
    """One queue as it is served."""

    def __init__(self, settings: QueueSettings, now: datetime) -> None:
        self.settings = settings
        self.runs: list[Run] = []
        """Those of the queue that were not released."""
        self.depth: Depth | None = None
        self.step: Wait | None = None
        """What it waits for, by the last look."""
        self.asked: set[int] = set()
        """Generations that were submitted and are not there yet."""
        self._until = now
        self._heard: datetime | None = None
        self._running_since: dict[str, datetime] = {}
        self._remembered: list[QueueRun] = []
        """Ends that the cluster does not tell of: of a Job that was refused, or deleted by hand."""
        self._floor = 0
        self.told = ""
        """What was said of it last, for a person."""

    @property
    def queue(self) -> str:
        return self.settings.queue

    # --- runs ---

    def take(self, runs: Iterable[Run], now: datetime) -> None:
        """The queue's runs as they are now."""
        self.runs = list(runs)
        known = self._running_since
        self._running_since = {run.uid: known.get(run.uid, now) for run in self.runs if run.state is State.RUNNING}

    def note(self, run: Run, number: int) -> None:
        """A run that was asked for is there: it counts from now on, also for a look that had taken the runs before."""
        if all(run.uid != each.uid for each in self.runs):
            self.runs.append(run)
        self.asked.discard(number)

    def queue_runs(self) -> list[QueueRun]:
        """The runs as the rule sees them; those that were asked for count too."""
        there = {generation(run) for run in self.runs}
        waiting = [QueueRun()] * len(self.asked - there)
        return [*(queue_run(run, self._running_since.get(run.uid)) for run in self.runs), *self._remembered, *waiting]

    def next_generations(self, count: int) -> list[int]:
        """The numbers of the next runs."""
        last = newest(self.runs)
        first = max(self._floor, generation(last) if last else 0, *self.asked, 0) + 1
        return list(range(first, first + count))

    def skip(self, number: int) -> None:
        """There is a run of this number, and it was released long ago: whoever let go of it did not serve the queue any more. The next number
        is far from it, and the same for everybody."""
        self._floor = max(self._floor, 2 * number - 1)

    def key(self, number: int) -> str:
        return key(number, self.queue)

    def remember(self, end: End, now: datetime) -> None:
        """Something ended that the cluster does not tell of."""
        self._remembered = [*self._remembered[-20:], QueueRun(end=end, ended=now)]

    # --- times ---

    def hear(self, now: datetime) -> bool:
        """Somebody says that there is work. Whether that is news: of many who say so, the first."""
        is_news = self._heard is None
        if is_news:
            self._heard = now + DEBOUNCE
        return is_news

    def wake(self, now: datetime) -> None:
        """Something about it has changed."""
        self._until = now

    @property
    def due(self) -> datetime:
        """When to look."""
        return min(self._until, self._heard) if self._heard else self._until

    def is_due(self, now: datetime, slack: float = 0.0) -> bool:
        return self.due <= now + self.settings.waits.check * slack

    def begin_look(self) -> None:
        """What is heard from here on is news."""
        self._heard = None

    # --- decisions ---

    def rest(self, now: datetime) -> bool:
        """Whether nothing would start however deep the queue is: then what was heard says nothing new."""
        wait = rest(self.queue_runs(), self.settings, now)
        if wait is not None:
            self._heard = None
            self._wait(wait, now)
        return wait is not None

    def decide(self, depth: Depth | None, now: datetime) -> Start | Wait:
        """What to do now."""
        self.depth = depth
        step = next_step(depth, self.queue_runs(), self.settings, now)
        if isinstance(step, Wait):
            self._wait(step, now)
        else:
            self.step, self._until = None, now + self.settings.waits.check
        return step

    def look_after(self, wait: timedelta, now: datetime) -> None:
        """Looks again in any case, though something else will tell."""
        self._until = min(self._until, now + wait)

    def _wait(self, wait: Wait, now: datetime) -> None:
        self.step, self._until = wait, wait.until or now + LONGEST


def by_level(runs: Iterable[Run]) -> Mapping[str, list[Run]]:
    """Runs by the queue that they are for."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(level(run), []).append(run)
    return found


def finished(runs: Iterable[Run], now: datetime) -> list[Run]:
    """Of a queue that is not served any more: the runs that ended so long ago that nobody asks for them."""
    return [run for run in runs if run.state.is_end and now - (run.finished or run.created) >= KEPT]


def queue_run(run: Run, running_since: datetime | None) -> QueueRun:
    """A run as the rule sees it."""
    if not run.state.is_end:
        return QueueRun(running_since=running_since, found=found_by(run.origin))
    return QueueRun(end=end_of(run.state, run.reason), ended=run.finished or run.created, found=found_by(run.origin))


def end_of(state: State, reason: str) -> End:
    """Which wait follows."""
    if state is State.SUCCEEDED:
        return End.SUCCESS
    if state is State.FAILED and reason == Reason.START_TIMEOUT:
        return End.START_TIMEOUT
    if state is State.FAILED and (reason in START_ERRORS or reason == Reason.REFUSED):
        return End.ERROR
    return End.FAILURE


def origin(queue: str, depth: Depth) -> dict[str, str]:
    """What is kept with a run: what it was begun for."""
    oldest = {"oldest": depth.oldest.isoformat(timespec="milliseconds")} if depth.oldest else {}
    return {"queue": queue, "waiting": str(depth.waiting), "looked": depth.at.isoformat(timespec="milliseconds"), **oldest}


def found_by(kept: Mapping[str, str]) -> Depth | None:
    """What waited when a run was begun; anybody may have written it."""
    waiting, looked = whole(kept.get("waiting", ""), MOST), moment(kept.get("looked"))
    if waiting is None or looked is None:
        return None
    return Depth(waiting=waiting, oldest=moment(kept.get("oldest")), at=looked)


def cap(settings: Sequence[QueueSettings]) -> int:
    """Where counting stops: no rule asks for more."""
    wanted = [each.scale.most * each.scale.per_pod for each in settings if each.scale is not None]
    return min(max([FLOOR, *wanted]), 100_000)
