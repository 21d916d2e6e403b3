"""The board of a service: one ConfigMap, NAME-triggers, in which its leader says how its triggers stand, and others say what they want of it.

What stands there is input: people and other programs may write it. Each entry is typed and bounded where it is read; one that is damaged
counts as if it were not there.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from jobyard.contracts import Cluster
from jobyard.model import names
from jobyard.model.errors import Conflict, NotFound, WrongInput
from jobyard.model.finding import did_you_mean
from jobyard.model.objects import CONFIG_MAPS, ConfigMap
from jobyard.patience import patiently

log = logging.getLogger("jobyard.service")

ROLE = "triggers"
"""The value of the label `jobyard.dev/role` on a board."""
ENTRY_LIMIT = 4000
"""Characters of an entry."""
_STANDS, _PAUSED, _POKED = "stands", "paused", "poked"

Word = Annotated[str, msgspec.Meta(max_length=1000)]


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a trigger stands, as its leader said last."""

    state: Word
    since: datetime
    said: datetime
    """When this was written."""
    by: Word = ""
    """The process that leads."""
    failures: int = 0
    error: Word = ""
    until: datetime | None = None


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants a trigger to take nothing new."""

    by: Word
    at: datetime


class Poke(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody heard that a source has something new."""

    at: datetime
    commit: Word = ""


Entry = TypeVar("Entry", Standing, Pause, Poke)


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What stands on a board, by trigger."""

    service: str = ""
    standings: Mapping[str, Standing] = field(default_factory=dict)
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    pokes: Mapping[str, Poke] = field(default_factory=dict)

    @property
    def triggers(self) -> list[str]:
        return sorted({*self.standings, *self.pauses})


class NoSuchTrigger(WrongInput):
    """The service has no trigger of this name. `hint` follows it."""

    sentence = "service {service} has no trigger {trigger}{hint}"
    service: str
    trigger: str
    hint: str


class NoSuchService(WrongInput):
    """No service has said anything in the namespace, or several have and none is named."""

    sentence = "{what} in namespace {namespace}; {remedy}"
    what: str
    namespace: str
    remedy: str


def board_name(service: str) -> str:
    """The name of a service's board."""
    return f"{service}-triggers"


def read(found: ConfigMap | None) -> Notes:
    """What a board says."""
    if found is None or found.metadata.labels.get(names.ROLE) != ROLE:
        return Notes()
    return Notes(
        service=found.metadata.name.removesuffix("-triggers"),
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
            return read(await self._cluster.get(CONFIG_MAPS, self._namespace, self.name))
        except NotFound:
            return Notes(service=self._service)

    async def watch(self) -> AsyncIterator[Notes]:
        """What stands there, and again whenever that changes, until cancelled."""
        async for change in self._cluster.watch(CONFIG_MAPS, self._namespace, fields=f"metadata.name={self.name}"):
            if change.type == "SEEN":
                yield read(change.object)
            elif change.type == "GONE":
                yield Notes(service=self._service)

    async def tell(self, standings: Mapping[str, Standing | None]) -> None:
        """How triggers stand; None for one that is not served any more: what was said of it goes."""
        change: dict[str, str | None] = {}
        for name, standing in standings.items():
            change[f"{_STANDS}.{name}"] = None if standing is None else _encode(standing)
            if standing is None:
                change |= {f"{_PAUSED}.{name}": None, f"{_POKED}.{name}": None}
        await self._write(change)

    async def pause(self, trigger: str, by: str, at: datetime) -> None:
        """Asks that a trigger takes nothing new until somebody resumes it."""
        await self._write({f"{_PAUSED}.{trigger}": _encode(Pause(by=by[:1000], at=at))})

    async def resume(self, trigger: str) -> None:
        """Takes the pause away."""
        await self._write({f"{_PAUSED}.{trigger}": None})

    async def poke(self, trigger: str, at: datetime, commit: str = "") -> None:
        """Hands on what a process heard that does not lead."""
        await self._write({f"{_POKED}.{trigger}": _encode(Poke(at=at, commit=commit[:1000]))})

    async def _write(self, data: Mapping[str, str | None]) -> None:
        """Raises what the cluster answers."""

        async def once() -> None:
            try:
                await self._cluster.patch(CONFIG_MAPS, self._namespace, self.name, {"data": dict(data)})
            except NotFound:
                labels = {names.MANAGED_BY: names.JOBYARD, names.ROLE: ROLE}
                kept = {key: text for key, text in data.items() if text is not None}
                metadata = {"name": self.name, "labels": labels}
                manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": kept}
                await self._cluster.create(CONFIG_MAPS, self._namespace, manifest)

        await patiently(once, over=(Conflict,))  # two may make it in the same moment


async def find_board(cluster: Cluster, namespace: str, service: str | None) -> tuple[Board, Notes]:
    """The board of the service that is meant: the one of this name, or the only one. Raises NoSuchService."""
    found = await cluster.list(CONFIG_MAPS, namespace, labels=f"{names.SELECTOR},{names.ROLE}={ROLE}")
    boards = {notes.service: notes for notes in map(read, found)}
    if service is not None and service in boards:
        return Board(cluster, namespace, service), boards[service]
    if service is not None or not boards:
        what = f"no service {service} has said anything" if service else "no service has said anything"
        raise NoSuchService(what=what, namespace=namespace, remedy="`jobyard serve` runs one, and -n names its namespace")
    if len(boards) > 1:
        raise NoSuchService(
            what=f"{len(boards)} services", namespace=namespace, remedy=f"--service names one of {', '.join(sorted(boards))}"
        )
    name = next(iter(boards))
    return Board(cluster, namespace, name), boards[name]


def _encode(entry: Any) -> str:
    return msgspec.json.encode(entry).decode()
