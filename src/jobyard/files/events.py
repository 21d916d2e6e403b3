"""From the events of YAML to values, with where each stands: in one pass, without recursion. An alias is counted as all that it stands
for, but shares it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from jobyard.files.borders import DEPTH, Budget
from jobyard.files.scalars import scalar
from jobyard.model.finding import Finding, Position

Mark = int
"""A line and a column in one number, for there are as many as values: see `mark_of`."""
_COLUMN = 24
"""Bits of a column: a file has no more bytes."""
TOO_DEEP = f"nested more than {DEPTH} deep"


@dataclass(slots=True)
class Items:
    """Where a list stands, and what is in it."""

    at: Mark
    parts: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class Fields:
    """Where a mapping stands, and what is in it: by key, where the key stands, and where its value does."""

    at: Mark
    parts: dict[str, tuple[Mark, Place]] = field(default_factory=dict)


Place = Mark | Items | Fields
"""Where a value stands."""


class Mistake(Exception):
    """The text is not what it should be."""

    def __init__(self, mark: Mark, what: str, expected: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self._mark, self._what, self._expected, self._remedy = mark, what, expected, remedy

    def finding(self, file: str) -> Finding:
        """The same, for whoever wrote the file."""
        line, column = line_of(self._mark)
        position = Position(file=file, line=line, column=column)
        return Finding(position=position, what=self._what, expected=self._expected, remedy=self._remedy)


def mark_of(line: int, column: int) -> Mark:
    """Line and column, counted from 0, as one."""
    return line << _COLUMN | column


def line_of(mark: Mark) -> tuple[int, int]:
    """Line and column, counted from 1."""
    return (mark >> _COLUMN) + 1, (mark & ((1 << _COLUMN) - 1)) + 1


def start_of(place: Place) -> Mark:
    """Where a value begins."""
    return place if isinstance(place, Mark) else place.at


def values(events: Iterable[yaml.Event], file: str, budget: Budget) -> Iterator[tuple[Any, Place]]:
    """The value of each document. Raises Mistake, TooMuch, and what the events raise."""
    reading = _Reading(file, budget)
    for event in events:
        reading.take(event)
        if isinstance(event, yaml.DocumentEndEvent):
            yield reading.done


@dataclass(slots=True)
class _Weight:
    """What a value costs where it is repeated: values, bytes of text, and how deep it is."""

    nodes: int
    size: int
    height: int


@dataclass(slots=True)
class _List:
    """A list that is not at its end yet. `weight`: what had been counted before it, and how deep it is so far."""

    place: Items
    weight: _Weight
    anchor: str | None
    value: list[Any] = field(default_factory=list)

    def put(self, value: Any, place: Place, text: str | None) -> None:
        self.value.append(value)
        self.place.parts.append(place)

    def end(self) -> None:
        pass


@dataclass(slots=True)
class _Mapping:
    """A mapping that is not at its end yet. `key`: was read, its value is awaited."""

    place: Fields
    weight: _Weight
    anchor: str | None
    value: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    key_at: Mark = 0
    is_merge: bool = False
    merges: list[tuple[Any, Place]] = field(default_factory=list)

    def put(self, value: Any, place: Place, text: str | None) -> None:
        """`text`: of a plain word, as it stands there."""
        if self.key is None:
            self._begin(value, start_of(place), is_merge=text == "<<")
        elif self.is_merge:
            self.merges.append((value, place))
            self.key = None
        else:
            self.value[self.key] = value
            self.place.parts[self.key] = (self.key_at, place)
            self.key = None

    def _begin(self, value: Any, at: Mark, *, is_merge: bool) -> None:
        if isinstance(value, list | dict):
            raise Mistake(at, "a key that is a list or a mapping", "a plain key")
        key = value if isinstance(value, str) else json.dumps(value)
        if key in self.value and not is_merge:
            first, _ = line_of(self.place.parts[key][0])
            expected = f"it once (it is in line {first} already)"
            raise Mistake(at, f"the key {key[:80]!r} appears twice", expected, "remove one of the two")
        self.key, self.key_at, self.is_merge = key, at, is_merge

    def end(self) -> None:
        """Takes in what `<<` brings: what stands there itself wins, then what was merged first."""
        merged: dict[str, Any] = {}
        places: dict[str, tuple[Mark, Place]] = {}
        for value, place in self.merges:
            for each, fields in zip(value, place.parts, strict=True) if isinstance(place, Items) else ((value, place),):
                if not isinstance(fields, Fields):
                    raise Mistake(start_of(fields), "a merge (<<) of something that is not a mapping", "a mapping")
                for key in fields.parts.keys() - merged.keys() if merged else fields.parts:
                    merged[key], places[key] = each[key], fields.parts[key]
        if merged:
            self.value = {**merged, **self.value}
            self.place.parts = {**places, **self.place.parts}


@dataclass(slots=True)
class _Anchored:
    """A value that has a name."""

    value: Any
    place: Place
    weight: _Weight


class _Reading:
    """What was read so far. `done`: the last document that came to its end."""

    def __init__(self, file: str, budget: Budget) -> None:
        self.done: tuple[Any, Place] = (None, 0)
        self._file = file
        self._budget = budget
        self._mark: Mark = 0
        self._nodes = self._size = 0
        self._open: list[_List | _Mapping] = []
        self._anchors: dict[str, _Anchored | None] = {}
        """None: of what is still open."""

    def take(self, event: yaml.Event) -> None:
        start = event.start_mark
        if start is not None:
            self._mark = mark_of(start.line, start.column)
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._begin(_Mapping(Fields(self._mark), self._so_far(), event.anchor))
            case yaml.SequenceStartEvent():
                self._begin(_List(Items(self._mark), self._so_far(), event.anchor))
            case yaml.CollectionEndEvent():
                self._end()
            case yaml.AliasEvent():
                self._alias(event.anchor or "")
            case yaml.DocumentStartEvent():
                self._anchors, self.done = {}, (None, 0)
                self._count(1, 0)

    def _where(self) -> Position:
        line, column = line_of(self._mark)
        return Position(file=self._file, line=line, column=column)

    def _so_far(self) -> _Weight:
        return _Weight(self._nodes, self._size, 1)

    def _count(self, nodes: int, size: int) -> None:
        self._nodes += nodes
        self._size += size
        self._budget.expand(nodes, size, self._where)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        text: str = event.value
        size = len(text) if text.isascii() else len(text.encode())
        self._count(1, size)
        try:
            value = scalar(text, event.tag, quoted=bool(event.style))
        except ValueError:
            raise Mistake(self._mark, "!!binary that is not base64-encoded text") from None
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, self._mark, _Weight(1, size, 0))
        self._put(value, self._mark, 0, None if event.style else text)

    def _begin(self, opened: _List | _Mapping) -> None:
        if len(self._open) == DEPTH:
            raise Mistake(self._mark, TOO_DEEP)
        self._open.append(opened)
        self._count(1, 0)
        if opened.anchor is not None:
            self._anchors[opened.anchor] = None

    def _end(self) -> None:
        closed = self._open.pop()
        closed.end()
        before = closed.weight
        if closed.anchor is not None:
            weight = _Weight(self._nodes - before.nodes, self._size - before.size, before.height)
            self._anchors[closed.anchor] = _Anchored(closed.value, closed.place, weight)
        self._put(closed.value, closed.place, before.height, None)

    def _alias(self, name: str) -> None:
        if name not in self._anchors:
            raise Mistake(self._mark, f"the alias *{name[:80]} without an anchor", f"&{name[:80]} before it")
        known = self._anchors[name]
        if known is None:
            raise Mistake(self._mark, "an alias inside its own anchor", "one that ends")
        if len(self._open) + known.weight.height > DEPTH:
            raise Mistake(self._mark, TOO_DEEP)
        self._count(known.weight.nodes, known.weight.size)
        self._put(known.value, known.place, known.weight.height, None)

    def _put(self, value: Any, place: Place, height: int, text: str | None) -> None:
        """Puts a value where it belongs; at the top, it is the document's."""
        if not self._open:
            self.done = value, place
            return
        into = self._open[-1]
        if height >= into.weight.height:
            into.weight.height = height + 1
        into.put(value, place, text)
