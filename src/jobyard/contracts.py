"""The product on one screen: what a trigger is handed, what a face is handed, and what the engine needs of a cluster."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, Protocol

from jobyard.model.errors import JobyardError
from jobyard.model.objects import Kind, Manifest, Other, T
from jobyard.model.run import Outcome, Run, RunRequest, RunView, StepView
from jobyard.model.workflow import Workflow


class Clock(Protocol):
    """What time it is. Everything that decides is handed `now`; only shells hold a Clock."""

    def now(self) -> datetime:
        """The time, in UTC."""
        ...


class Runs(Protocol):
    """What every trigger needs: the narrow waist between what wants a run and what makes it."""

    async def submit(self, request: RunRequest) -> Run:
        """The run that the request's trigger and key stand for; made if there is none, else the one there is (`existed`).

        When it returns, the run is in the cluster: the source may let go. With `request.waits` it waits for room in limits and quotas.
        Raises Rejected (never: set it aside) or Unavailable (leave it where it is). Cancelled at any point, it may be called again with
        the same request.
        """
        ...

    async def outcome(self, run: Run) -> Outcome:
        """Drives the run and waits for its end. Any number of callers, processes and restarts may wait for the same run."""
        ...

    async def runs(self, trigger: str, namespace: str = "") -> list[Run]:
        """The runs of a trigger that were not released, the oldest first, as they stand: what it still has to care for after a restart,
        and what its cool-downs, budgets and generations are counted from. Of this namespace, which is waited for; with '' of all that are
        open now."""
        ...

    async def release(self, run: Run, until: datetime | None = None) -> None:
        """The source has let go of a run that has ended: Kubernetes may now delete its Jobs by their own TTL. Safe to repeat.

        With `until`, the run is kept as it is until then, for something still counts it; whoever drives every run of the namespace
        releases it. Raises NotEnded.
        """
        ...


class Holding(Protocol):
    """For a source that must let go before anything starts, and may fail to: it submits `held`."""

    async def begin(self, run: Run) -> None:
        """Lets a run that was submitted `held` start. Safe to repeat."""
        ...

    async def abandon(self, run: Run) -> None:
        """Forgets a held run that never began: its source did not let go after all. One that began is left alone."""
        ...


class Room(Protocol):
    """For a source that takes nothing in hand which could not start: it asks first."""

    async def room(self, workflow: Workflow, namespace: str = "") -> int:
        """Waits until a run of the workflow may begin, as far as limits go; says how many may. Promises none: `submit` may wait all the same."""
        ...

    async def try_out(self, request: RunRequest) -> None:
        """Asks the cluster whether the run could be made now, and makes nothing. Raises Rejected, Unavailable."""
        ...


class Reader(Protocol):
    """For a source that knows runs by their names, and tells of them."""

    async def find(self, run: str, namespace: str = "") -> Run:
        """The run of this id or name. Raises NoSuchRun."""
        ...

    async def last_lines(self, run: Run, step: StepView, count: int) -> list[str]:
        """The end of the log of a step's newest pod; empty when it can't be had."""
        ...


class Engine(Runs, Holding, Room, Reader, Protocol):
    """All that a trigger may be handed; most use the first four."""


class Watched(Protocol):
    """Something that changes, and wakes whoever waits."""

    async def wait(self, seconds: float | None = None) -> None:
        """Returns at the next change, or one that nobody has waited for yet, or after `seconds`."""
        ...


class Face(Protocol):
    """For the command line and the page: what there is, as it stands, as it moves; and what a person may ask."""

    async def page(self, namespace: str, after: str = "", size: int = 50) -> Page:
        """The open runs, then those that ended, the newest day first. `after`: the page's `following`, for the next; raises NoSuchPage for
        anything else."""
        ...

    async def view(self, run: str, namespace: str = "") -> RunView:
        """The run of this id or name as it stands. Raises NoSuchRun."""
        ...

    def changes(self, run: Run) -> AbstractAsyncContextManager[Watched]:
        """Is woken whenever the run's view may have changed; drives the run."""
        ...

    async def cancel(self, run: Run) -> None:
        """Asks for the run's end: whoever drives it stops its Jobs and starts no other. Safe to repeat."""
        ...

    async def again(self, run: Run, key: str, *, failed_only: bool) -> Run:
        """A run that has ended once more, as a new one. Raises NotEnded, NothingFailed, CannotRerun."""
        ...


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some of a namespace's runs, from their records' labels and annotations alone."""

    runs: tuple[Run, ...]
    following: str = ""
    """What to ask the next page with; '' when there is none."""


class Trigger(Protocol):
    """Why runs start: a coroutine that reads its source, submits, lets go, awaits the outcome, tells its source, releases.

    The order is the promise. Submit before letting go, or a crash in between loses the item; tell the source of the outcome before
    release, or a crash in between finds neither Job nor answer. `docs/add-a-trigger.md` walks through one.
    """

    @property
    def name(self) -> str:
        """Names the source: part of every key, a label on every run. Never changes while runs of it are unfinished."""
        ...

    async def run(self, engine: Engine) -> None:
        """Goes on until cancelled, which may come at any await. May raise anything: it is started again, and must then do the same for
        whatever its source still has (resume is start)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which objects of a kind are meant, by label and field selectors."""

    labels: str = ""
    fields: str = ""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What a list held: whoever knows of an older object that is not among these knows of one that is gone, though no watch ever told of it."""

    uids: frozenset[str]
    version: str
    """The resource version that it is of."""


@dataclass(frozen=True)
class Change(Generic[T]):
    """What a watch saw: an object as it now is; or that one is GONE, by its uid, and as it was last where the server says so. SYNCED says
    that all that existed has been told."""

    type: Literal["SEEN", "GONE", "SYNCED", "LOST_TOUCH"]
    object: T | None = None
    uid: str = ""
    """SEEN and GONE: of the object."""
    version: str = ""
    """GONE: the resource version by which it is; what is newer is back. It may only have left what is watched."""
    why: str = ""
    """LOST_TOUCH: the reason, for a person."""
    error: JobyardError | None = None
    """LOST_TOUCH: what the cluster answered last, by class. It is asked again in any case."""
    inventory: Inventory | None = None
    """SYNCED after a list of all there is; None where a stream was only opened again."""


class Cluster(Protocol):
    """The Kubernetes API as we need it.

    Every method raises Rejected (a definite no, by class: NotFound, Conflict, NoRoom) or Unavailable (maybe; the same call may be
    repeated). Manifests go through untouched.
    """

    async def create(self, kind: Kind[T], namespace: str, manifest: Manifest, *, dry_run: bool = False) -> T:
        """Creates the object. With `dry_run`, only asks whether it could be, with strict field validation."""
        ...

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T: ...

    async def list(self, kind: Kind[T], namespace: str, *, labels: str = "", fields: str = "") -> list[T]:
        """All objects that the selectors match. A failed list is an error, never an empty list."""
        ...

    async def page(self, kind: Kind[T], namespace: str, *, labels: str, size: int, after: str = "") -> tuple[builtins.list[T], str]:
        """At most `size` objects, and what to ask the next with ('' when there are no more). Of a kind whose struct is Other, the server
        sends nothing but metadata. Raises WatchExpired when it forgot where it was."""
        ...

    async def patch(self, kind: Kind[T], namespace: str, name: str, change: Mapping[str, Any]) -> T:
        """Applies a JSON merge patch."""
        ...

    async def delete(self, kind: Kind[T], namespace: str, name: str, *, uid: str = "", version: str = "", grace: int | None = None) -> None:
        """Deletes the object and what it owns, in the background. Gone already is fine; another object of that name is left alone, and with
        `version` one that has changed since: Conflict.

        `grace`: seconds that a pod has to end, instead of its own; 0 takes it away at once, even from a node that is dead."""
        ...

    async def find_kind(self, api_version: str, name: str) -> Kind[Other]:
        """Where the API serves a kind of object that lives in a namespace. Raises NotFound when it knows none."""
        ...

    async def may(self, verb: str, kind: Kind[Any], namespace: str, *, subresource: str = "") -> bool | None:
        """Whether we have the right to `verb` objects of the kind; None where the cluster does not say."""
        ...

    def watch(
        self,
        kind: Kind[T],
        namespace: str,
        *,
        labels: str = "",
        fields: str = "",
        first: Callable[[], Iterator[Selection]] | None = None,
    ) -> AsyncIterator[Change[T]]:
        """Every object there is, SYNCED, then every change, until cancelled. With `first`, no more is told at the beginning than it selects
        (each selection is asked for when the one before was answered): of what is over there may be much, and hardly ever a change.

        Never raises. Closed streams, 410, outages, credentials that ran out and missing rights pass by themselves: LOST_TOUCH tells why
        there is no news, from the first failure on while nothing was told yet, and the watch goes on; SYNCED follows when it is back.
        """
        ...

    def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "",
        tail: int | None = None,
        since: timedelta | None = None,
        follow: bool = False,
        timestamps: bool = False,
    ) -> AsyncGenerator[str, None]:
        """The log's lines, without line ends: the last `tail` of them, and none that is older than `since`. With `timestamps`, each begins
        with its time (RFC 3339) and a space."""
        ...
