"""The board of a service: one ConfigMap, NAME-triggers, in which its leader says how its triggers stand, and others say what they want of it.

What stands there is input: people and other programs may write it. Each entry is typed and bounded where it is read; one that is damaged
counts as if it were not there.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import structs

from jobyard.contracts import Cluster
from jobyard.model import names
from jobyard.model.errors import Conflict, Forbidden, JobyardError, NotFound, WrongInput
from jobyard.model.finding import did_you_mean
from jobyard.model.objects import CONFIG_MAPS, ConfigMap
from jobyard.patience import patiently
from jobyard.supervise import Stage

log = logging.getLogger("jobyard.service")

ROLE = "triggers"
"""The value of the label `jobyard.dev/role` on a board."""
ENTRY_LIMIT = 60_000
"""Characters of an entry."""
_STANDS, _PAUSED, _POKED = "stands", "paused", "poked"
_SUFFIX = "-triggers"

WORDS = 500
"""Characters of a text in an entry that are kept: escaped, each may take six."""

Word = Annotated[str, msgspec.Meta(max_length=1000)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


QUEUES_TOLD = 50
"""Of how many of a trigger's queues is told."""


class Level(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a queue stands that a trigger serves."""

    queue: Word
    waiting: int | None = None
    """None while it is not known."""
    more: bool = False
    """There are more than that."""
    oldest: Moment | None = None
    """Since when the one waits that has waited longest."""
    runs: int = 0
    """How many of its runs go on."""
    waits: Word = ""
    """What it waits for, in one stable word."""
    until: Moment | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a trigger stands, as its leader said last."""

    state: Word
    since: Moment
    said: Moment
    """When this was written."""
    by: Word = ""
    """The process that leads."""
    alone: bool = False
    """It is the only replica, and takes no lease: none tells whether it still runs."""
    failures: int = 0
    error: Word = ""
    until: Moment | None = None
    queues: Annotated[tuple[Level, ...], msgspec.Meta(max_length=QUEUES_TOLD)] = ()
    """Of a trigger that serves queues: those with something to tell come first."""


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants a trigger to take nothing new."""

    by: Word
    at: Moment


class Poke(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody heard that a source has something new."""

    at: Moment
    commit: Word = ""


Entry = TypeVar("Entry", Standing, Pause, Poke)


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What stands on a board, by trigger."""

    service: str = ""
    standings: Mapping[str, Standing] = field(default_factory=dict)
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    pokes: Mapping[str, Poke] = field(default_factory=dict)
    trouble: JobyardError | None = None
    """Why nobody can say what stands there: it may not be seen, or something else has its name."""

    @property
    def triggers(self) -> list[str]:
        return sorted({*self.standings, *self.pauses})

    def standing(self, trigger: str) -> Standing | None:
        """How a trigger stands, by what its leader said last and what people have asked for since: that is heeded at once, and told later."""
        said, pause = self.standings.get(trigger), self.pauses.get(trigger)
        if said is not None and pause is not None:
            return structs.replace(said, state=Stage.PAUSED, since=pause.at, error=f"paused by {pause.by}", until=None)
        if said is not None and said.state == Stage.PAUSED and said.until is None:
            return structs.replace(said, state=Stage.STARTING, error="")
        return said


class NoSuchTrigger(WrongInput):
    """The service has no trigger of this name. `hint` follows it."""

    sentence = "service {service} has no trigger {trigger}{hint}"
    service: str
    trigger: str
    hint: str


class NoSuchService(WrongInput):
    """No service has reported in the namespace, or several have and none is named."""

    sentence = "{what} in namespace {namespace}; {remedy}"
    what: str
    namespace: str
    remedy: str


class NotOurBoard(JobyardError):
    """Something that is no board has the name of one."""

    sentence = (
        f"ConfigMap {{name}} in namespace {{namespace}} is not Jobyard's (it lacks the label {names.ROLE}={ROLE}) and is left alone: "
        "no trigger can be paused while it is there. Delete it, or give the service another name (`metadata.name` in its settings)"
    )
    exit_code = 3
    name: str
    namespace: str


def board_name(service: str) -> str:
    """The name of a service's board."""
    return f"{service}{_SUFFIX}"


def is_board(found: ConfigMap) -> bool:
    """Whether this is a board, by label and name."""
    name = found.metadata.name
    return found.metadata.labels.get(names.ROLE) == ROLE and name.endswith(_SUFFIX) and name != _SUFFIX


def read(found: ConfigMap) -> Notes:
    """What a board says."""
    return Notes(
        service=found.metadata.name.removesuffix(_SUFFIX),
        standings=_entries(found, _STANDS, Standing),
        pauses=_entries(found, _PAUSED, Pause),
        pokes=_entries(found, _POKED, Poke),
    )


def _entries(board: ConfigMap, kind: str, shape: type[Entry]) -> dict[str, Entry]:
    read: dict[str, Entry] = {}
    for key, text in board.data.items():
        if key.startswith(f"{kind}.") and len(text) <= ENTRY_LIMIT:
            try:
                read[key.removeprefix(f"{kind}.")] = msgspec.json.decode(text, type=shape)
            except (msgspec.MsgspecError, RecursionError):
                log.debug("%s of %s can't be read", key, board.metadata.name)
    return read


def find_trigger(notes: Notes, trigger: str) -> str:
    """The trigger of this name. Raises NoSuchTrigger."""
    if trigger not in notes.triggers:
        hint = did_you_mean(trigger, notes.triggers) or f"there are: {', '.join(notes.triggers) or 'none'}"
        raise NoSuchTrigger(service=notes.service, trigger=trigger, hint=f"; {hint}")
    return trigger


class Board:
    """The board of one service."""

    def __init__(self, cluster: Cluster, namespace: str, service: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._service = service
        self.name = board_name(service)

    async def look(self) -> Notes:
        """What stands there now."""
        try:
            return self._read(await self._cluster.get(CONFIG_MAPS, self._namespace, self.name))
        except NotFound:
            return Notes(service=self._service)

    def _read(self, found: ConfigMap) -> Notes:
        if is_board(found):
            return read(found)
        return Notes(service=self._service, trouble=self._not_ours())

    def _not_ours(self) -> NotOurBoard:
        return NotOurBoard(name=self.name, namespace=self._namespace)

    async def watch(self) -> AsyncIterator[Notes]:
        """What stands there, and again whenever that changes, until cancelled. Also that nothing does; and that it may not be seen, as often as
        that is answered."""
        seen = Notes(service=self._service)
        async for change in self._cluster.watch(CONFIG_MAPS, self._namespace, fields=f"metadata.name={self.name}"):
            if change.type == "SEEN" and change.object is not None:
                seen = self._read(change.object)
            elif change.type == "GONE":
                seen = Notes(service=self._service)
            elif change.type == "LOST_TOUCH" and isinstance(change.error, Forbidden):
                yield replace(seen, trouble=change.error)
                continue
            elif change.type == "LOST_TOUCH":
                continue
            yield seen

    async def tell(self, standings: Mapping[str, Standing | None]) -> None:
        """How triggers stand; None for one that is not served any more: what was said of it goes. A pause of it stays: it is a person's."""
        change: dict[str, str | None] = {}
        for name, standing in standings.items():
            change[f"{_STANDS}.{name}"] = None if standing is None else _encode(standing)
            if standing is None:
                change[f"{_POKED}.{name}"] = None
        await self._write(change)

    async def pause(self, trigger: str, by: str, at: datetime) -> None:
        """Asks that a trigger takes nothing new until somebody resumes it."""
        await self._write({f"{_PAUSED}.{trigger}": _encode(Pause(by=by[:WORDS], at=at))})

    async def resume(self, trigger: str) -> None:
        """Takes the pause away."""
        await self._write({f"{_PAUSED}.{trigger}": None})

    async def poke(self, trigger: str, at: datetime, commit: str = "") -> None:
        """Hands on what a process heard that does not lead."""
        await self._write({f"{_POKED}.{trigger}": _encode(Poke(at=at, commit=commit[:WORDS]))})

    async def _write(self, data: Mapping[str, str | None]) -> None:
        """Raises NotOurBoard, and what the cluster answers."""

        async def once() -> None:
            try:
                if not is_board(await self._cluster.get(CONFIG_MAPS, self._namespace, self.name)):
                    raise self._not_ours()
                await self._cluster.patch(CONFIG_MAPS, self._namespace, self.name, {"data": dict(data)})
            except NotFound:
                labels = {names.MANAGED_BY: names.JOBYARD, names.ROLE: ROLE}
                kept = {key: text for key, text in data.items() if text is not None}
                metadata = {"name": self.name, "labels": labels}
                manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": kept}
                await self._cluster.create(CONFIG_MAPS, self._namespace, manifest)

        await patiently(once, over=(Conflict,))  # two may make it in the same moment


async def find_boards(cluster: Cluster, namespace: str) -> dict[str, Notes]:
    """What the boards in a namespace say, by service."""
    found = await cluster.list(CONFIG_MAPS, namespace, labels=f"{names.SELECTOR},{names.ROLE}={ROLE}")
    return {notes.service: notes for notes in map(read, filter(is_board, found))}


async def find_board(cluster: Cluster, namespace: str, service: str | None) -> tuple[Board, Notes]:
    """The board of the service that is meant: the one of this name, or the only one. Raises NoSuchService."""
    boards = await find_boards(cluster, namespace)
    if service is not None and service in boards:
        return Board(cluster, namespace, service), boards[service]
    if service is not None and boards:
        there = f"those that have: {', '.join(sorted(boards))}"
        raise NoSuchService(what=f"no service {service} has reported", namespace=namespace, remedy=did_you_mean(service, boards) or there)
    if not boards:
        what = f"no service{f' {service}' if service else ''} has reported"
        raise NoSuchService(what=what, namespace=namespace, remedy="start one with `jobyard serve`, or name its namespace with -n")
    if len(boards) > 1:
        raise NoSuchService(
            what=f"{len(boards)} services", namespace=namespace, remedy=f"--service names one of {', '.join(sorted(boards))}"
        )
    name = next(iter(boards))
    return Board(cluster, namespace, name), boards[name]


def _encode(entry: Any) -> str:
    return msgspec.json.encode(entry).decode()
