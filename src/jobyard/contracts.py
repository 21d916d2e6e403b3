"""The product on one screen: what a trigger is handed, and what the engine needs of a cluster.

The command line and, later, the service and the page are call sites of `Engine`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, Protocol

from jobyard.model.errors import JobyardError
from jobyard.model.objects import Kind, Manifest, Other, T
from jobyard.model.run import Outcome, Run, RunRequest, StepView


class Clock(Protocol):
    """What time it is. Everything that decides is handed `now`; only shells hold a Clock."""

    def now(self) -> datetime:
        """The time, in UTC."""
        ...


class Engine(Protocol):
    """The narrow waist between what wants a run and what makes it."""

    async def submit(self, request: RunRequest) -> Run:
        """The run that the request's trigger and key stand for; made if there is none, else the one there is (`existed`).

        When it returns, the run's record is in the cluster: the source may let go. Raises Rejected (never: set it aside) or
        Unavailable (leave it where it is). Cancelled at any point, it may be called again with the same request.
        """
        ...

    async def begin(self, run: Run) -> None:
        """Lets a run that was submitted `held` start. Safe to repeat."""
        ...

    async def abandon(self, run: Run) -> None:
        """Forgets a held run that never began: its source did not let go after all. One that began is left alone."""
        ...

    async def find(self, run_id: str, namespace: str = "") -> Run:
        """The run of this id. Raises NoSuchRun."""
        ...

    async def outcome(self, run: Run) -> Outcome:
        """Drives the run and waits for its end. Any number of callers, processes and restarts may wait for the same run."""
        ...

    async def runs(self, trigger: str) -> list[Run]:
        """The runs of a trigger that were not released, the oldest first: what it still has to care for after a restart."""
        ...

    async def release(self, run: Run) -> None:
        """The source has let go: Kubernetes may now delete the run's Jobs by their own TTL. Safe to repeat."""
        ...

    async def last_lines(self, run: Run, step: StepView, count: int) -> list[str]:
        """The end of the log of a step's newest pod; empty when it can't be had."""
        ...


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


@dataclass(frozen=True)
class Change(Generic[T]):
    """What a watch saw: an object as it now is, or (GONE) as it was last. SYNCED says that all that existed has been told."""

    type: Literal["SEEN", "GONE", "SYNCED", "LOST_TOUCH"]
    object: T | None = None
    why: str = ""
    """LOST_TOUCH: the reason, for a person."""
    error: JobyardError | None = None
    """LOST_TOUCH: what the cluster answered last, by class. It is asked again in any case."""


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

    async def patch(self, kind: Kind[T], namespace: str, name: str, change: Mapping[str, Any]) -> T:
        """Applies a JSON merge patch."""
        ...

    async def delete(self, kind: Kind[T], namespace: str, name: str, *, uid: str = "", grace: int | None = None) -> None:
        """Deletes the object and what it owns, in the background. Gone already is fine; another object of that name is left alone.

        `grace`: seconds that a pod has to end, instead of its own; 0 takes it away at once, even from a node that is dead."""
        ...

    async def find_kind(self, api_version: str, name: str) -> Kind[Other]:
        """Where the API serves a kind of object that lives in a namespace. Raises NotFound when it knows none."""
        ...

    async def may(self, verb: str, kind: Kind[Any], namespace: str, *, subresource: str = "") -> bool | None:
        """Whether we have the right to `verb` objects of the kind; None where the cluster does not say."""
        ...

    def watch(self, kind: Kind[T], namespace: str, *, labels: str = "", fields: str = "") -> AsyncIterator[Change[T]]:
        """Every object there is, SYNCED, then every change, until cancelled.

        Never raises. Closed streams, 410, outages, credentials that ran out and missing rights pass by themselves: LOST_TOUCH tells why
        there is no news, from the first failure on while nothing was told yet, and the watch goes on; SYNCED follows when it is back.
        """
        ...

    def logs(
        self, namespace: str, pod: str, *, container: str = "", tail: int | None = None, follow: bool = False, timestamps: bool = False
    ) -> AsyncIterator[str]:
        """The log's lines, without line ends."""
        ...
