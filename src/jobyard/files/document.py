"""YAML and JSON as kubectl reads them, with the line and column of every value.

Scalars are read by kubectl's rules (`scalars`). Here a duplicate key is a mistake (kubectl silently takes the last), values are what JSON
can hold, and nothing beyond the borders (`borders`) is composed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from jobyard.files.borders import SIZE, Budget, TooMuch
from jobyard.files.events import TOO_DEEP, Fields, Items, Mark, Mistake, Place, line_of, mark_of, start_of, values
from jobyard.files.scalars import whole
from jobyard.model.finding import Finding, Position
from jobyard.model.template import Path

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_HALVES = re.compile(r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL)
"""Escapes of JSON. Two halves are one character; half of one is none."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document of a file: its value, and where each part of it stands."""

    file: str
    tree: Any
    place: Place = 0

    def at(self, path: Path = (), *, key: bool = False) -> Position:
        """Where the value at `path` stands (with `key`, the key before it); of what is not there, the nearest thing around it."""
        place, mark = self.place, start_of(self.place)
        for index, part in enumerate(path):
            found = _part(place, part)
            if found is None:
                break
            before, place = found
            mark = before if key and index == len(path) - 1 else start_of(place)
        line, column = line_of(mark)
        return Position(file=self.file, line=line, column=column)

    def sub(self, path: Path) -> Document:
        """The part at `path`, as a document of its own that knows where it stands."""
        tree, place = self.tree, self.place
        for part in path:
            tree = tree[part]
            found = _part(place, part)
            place = found[1] if found else start_of(place)
        return Document(file=self.file, tree=tree, place=place)


def _part(place: Place, part: str | int) -> tuple[Mark, Place] | None:
    """Where a part begins, its key included, and where it stands itself."""
    if isinstance(place, Fields):
        return place.parts.get(part) if isinstance(part, str) else None
    if isinstance(place, Items) and isinstance(part, int) and part < len(place.parts):
        return start_of(place.parts[part]), place.parts[part]
    return None


def load(data: bytes, file: str, budget: Budget | None = None) -> tuple[list[Document], list[Finding]]:
    """The documents of a file, and the mistake that kept others from being read. Empty documents are left out. `budget`: what a reading of
    several files has left."""
    documents: list[Document] = []
    try:
        documents.extend(parse(data, file, budget or Budget()))
    except Mistake as mistake:
        return documents, [mistake.finding(file)]
    except TooMuch as much:
        return documents, [much.finding]
    return documents, []


def parse(data: bytes, file: str, budget: Budget) -> Iterator[Document]:
    """The documents of a file, one after the other, within what a reading has left. Raises Mistake, TooMuch."""
    if len(data) > SIZE:
        raise Mistake(0, f"the file has more than {SIZE:,} bytes", "less", "split it")
    text = _decode(data)
    if not file.endswith(".json"):
        yield from _documents(text, file, budget)
        return
    text = _HALVES.sub(lambda found: "\\ufffd" if found[2] else found[0], text)
    # libyaml takes no halves; the values are JSON's, the places stay right
    documents = list(_documents(_HALVES.sub(lambda found: "x" * 12 if found[1] else found[0], text), file, budget))
    # JSON's own reading comes last: it recurses, and by now nothing is deep
    values = _json_values(text) if len(documents) == 1 else None
    yield from documents if values is None else [Document(file=file, tree=values, place=documents[0].place)]


def _documents(text: str, file: str, budget: Budget) -> Iterator[Document]:
    for tree, place in values(_events(text), file, budget):
        if tree is not None:
            yield Document(file=file, tree=tree, place=place)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        mark = mark_of(before.count(b"\n"), len(before) - before.rfind(b"\n") - 1)
        raise Mistake(mark, f"byte 0x{data[error.start]:02x} is not UTF-8", "text in UTF-8", "save the file as UTF-8") from None


def _json_values(text: str) -> Any:
    """JSON's own reading of the text, where it is JSON: libyaml refuses some of its escapes' values."""
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_number, parse_int=whole)
    except (ValueError, RecursionError):
        return None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON: it is read as YAML, where it is text")


def _number(text: str) -> float:
    return float(text) if abs(float(text)) != float("inf") else _no_number(text)


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, _LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = mark_of(mark.line, mark.column) if mark else 0
        if "nesting depth" in (error.problem or ""):  # libyaml looks ahead, and has a bound of its own, further out than ours
            raise Mistake(at, TOO_DEEP) from None
        raise Mistake(at, f"not YAML: {_problem(error)}", _expected(error), _hint(text, mark)) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        at = mark_of(before.count("\n"), len(before) - before.rfind("\n") - 1)
        raise Mistake(at, f"a character that YAML does not allow ({error.character!r})", "", "remove it") from None


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "it can't be read"
    if problem.startswith("did not find expected"):
        return "something is missing or out of place"
    return re.sub(r",? but found.*", "", problem)


def _expected(error: yaml.MarkedYAMLError) -> str:
    match = re.search(r"did not find expected (.*)", error.problem or "")
    return match[1] if match else ""


def _hint(text: str, mark: yaml.Mark | None) -> str:
    if mark is None:
        return ""
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: mark.column + 1]:
        return "indent with spaces: YAML allows no tabs"
    if mark.line and ": " not in line and re.match(r"\s*[\w-]+:?$", line):
        return "check the indentation of this line and the one before"
    return "check quotes, colons and indentation here and just before"
