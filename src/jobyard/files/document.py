"""YAML and JSON as kubectl reads them, with the line and column of every value.

kubectl's rules are those of YAML 1.1 with exceptions: `yes` and `on` are true, `012` is ten, but `1:30` and dates stay strings. Here a
duplicate key is a mistake (kubectl silently takes the last), and values are what JSON can hold.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from jobyard.model.finding import Finding, Position
from jobyard.model.template import Path

SIZE_LIMIT = 10 * 1024 * 1024
_DEPTH_LIMIT = 200
_ALIAS_LIMIT = 100_000
"""How many values aliases may add to what the text itself holds."""

_TRUE = {"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"}
_FALSE = {"n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"}
_NULL = {"", "~", "null", "Null", "NULL"}
_SURROGATES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document of a file: its value, and where each part of it stands."""

    file: str
    tree: Any
    marks: dict[Path, tuple[int, int]] = field(repr=False, default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(repr=False, default_factory=dict)

    def at(self, path: Path = (), *, key: bool = False) -> Position:
        """Where the value at `path` stands (with `key`, the key before it); of what is not there, the nearest thing around it."""
        if key and path in self.keys:
            line, column = self.keys[path]
            return Position(file=self.file, line=line, column=column)
        while path not in self.marks and path:
            path = path[:-1]
        line, column = self.marks.get(path, (1, 1))
        return Position(file=self.file, line=line, column=column)

    def sub(self, path: Path) -> Document:
        """The part at `path`, as a document of its own that knows where it stands."""
        tree = self.tree
        for part in path:
            tree = tree[part]
        size = len(path)
        return Document(
            file=self.file,
            tree=tree,
            marks={each[size:]: mark for each, mark in self.marks.items() if each[:size] == path},
            keys={each[size:]: mark for each, mark in self.keys.items() if each[:size] == path},
        )


class _Mistake(Exception):
    def __init__(self, mark: yaml.Mark | None, what: str, expected: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.line, self.column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        self.what, self.expected, self.remedy = what, expected, remedy


def load(data: bytes, file: str) -> tuple[list[Document], list[Finding]]:
    """The documents of a file, and the mistakes that kept others from being read. Empty documents are left out."""
    documents: list[Document] = []
    try:
        if len(data) > SIZE_LIMIT:
            raise _Mistake(None, f"the file has {len(data):,} bytes", f"at most {SIZE_LIMIT:,}")
        text = _decode(data)
        values = _json_values(text) if file.endswith(".json") else None
        if values is not None:
            text = _SURROGATES.sub("x" * 12, text)  # libyaml refuses them; the values are JSON's, the marks stay right
        for node in _compose(text):
            builder = _Builder()
            tree = builder.build(node, (), 0)
            if tree is not None:
                documents.append(Document(file=file, tree=values if values is not None else tree, marks=builder.marks, keys=builder.keys))
    except _Mistake as mistake:
        position = Position(file=file, line=mistake.line, column=mistake.column)
        return documents, [Finding(position=position, what=mistake.what, expected=mistake.expected, remedy=mistake.remedy)]
    return documents, []


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        mark = yaml.Mark("", error.start, before.count(b"\n"), len(before) - before.rfind(b"\n") - 1, None, 0)
        raise _Mistake(mark, f"byte 0x{data[error.start]:02x} is not UTF-8", "text in UTF-8", "save the file as UTF-8") from None


def _json_values(text: str) -> Any:
    """JSON's own reading of the text, where it is JSON: libyaml refuses some of its escapes' values."""
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_number, parse_int=_whole)
    except (ValueError, RecursionError):
        return None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON: it is read as YAML, where it is text")


def _whole(text: str) -> Any:
    return int(text) if len(text) < 20 else text  # as in YAML: no whole number of Kubernetes is that long


def _number(text: str) -> float:
    return float(text) if abs(float(text)) != float("inf") else _no_number(text)


def _compose(text: str) -> Iterator[yaml.Node]:
    loader = yaml.CSafeLoader(text) if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Mistake(mark, f"not YAML: {_problem(error)}", _expected(error), _hint(text, mark)) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = yaml.Mark("", error.position, before.count("\n"), len(before) - before.rfind("\n") - 1, None, 0)
        raise _Mistake(mark, f"a character that YAML does not allow ({error.character!r})", "", "remove it") from None
    finally:
        loader.dispose()


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


class _Builder:
    """Turns nodes into values, and notes where each stands."""

    def __init__(self) -> None:
        self.marks: dict[Path, tuple[int, int]] = {}
        self.keys: dict[Path, tuple[int, int]] = {}
        self._seen: set[int] = set()
        self._open: set[int] = set()
        self._repeated = 0

    def build(self, node: yaml.Node, path: Path, depth: int) -> Any:
        mark = node.start_mark
        self.marks.setdefault(path, (mark.line + 1, mark.column + 1))
        if id(node) in self._open:
            raise _Mistake(mark, "an alias inside what it stands for", "an end to it")
        if depth > _DEPTH_LIMIT:
            raise _Mistake(mark, f"nested more than {_DEPTH_LIMIT} deep")
        if id(node) in self._seen:
            self._repeated += 1
            if self._repeated > _ALIAS_LIMIT:
                raise _Mistake(mark, "aliases that multiply beyond measure", f"at most {_ALIAS_LIMIT:,} repeated values")
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            return scalar(node)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.build(child, (*path, index), depth + 1) for index, child in enumerate(node.value)]
            return self._mapping(node, path, depth)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: Path, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Mistake(mark, "a key that is a list or a mapping", "a plain key")
            if key_node.value == "<<" and not key_node.style:
                merged = {**self._merge(value_node, path, depth), **merged}
                continue
            value = scalar(key_node)
            key = value if isinstance(value, str) else json.dumps(value)
            if key in own:
                line = self.keys[*path, key][0]
                raise _Mistake(
                    mark, f"the key {key!r} stands here twice", f"it once (it is in line {line} already)", "remove one of the two"
                )
            self.keys[*path, key] = (mark.line + 1, mark.column + 1)
            own[key] = self.build(value_node, (*path, key), depth + 1)
        return {**merged, **own}

    def _merge(self, node: yaml.Node, path: Path, depth: int) -> dict[str, Any]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for each in reversed(nodes):
            if not isinstance(each, yaml.MappingNode):
                raise _Mistake(each.start_mark, "a merge (<<) of what is no mapping", "a mapping")
            merged |= self.build(each, path, depth + 1)
        return merged


def scalar(node: yaml.ScalarNode) -> Any:
    """The value of a scalar by kubectl's rules."""
    text: str = node.value
    tag = node.tag or ""
    if tag == "tag:yaml.org,2002:binary":
        try:
            return base64.b64decode(text, validate=True).decode()
        except ValueError:
            raise _Mistake(node.start_mark, "!!binary that is no base64 of text") from None
    if node.style or tag == "!" or (tag == "tag:yaml.org,2002:str" and not _plain(node)):
        return text
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            return text
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return text


def _plain(node: yaml.ScalarNode) -> bool:
    """Whether nobody wrote a tag: the text between the marks is then just the scalar."""
    return bool(node.start_mark.index + len(node.value) == node.end_mark.index)


def _integer(text: str) -> Any:
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-").replace("_", "")
    try:
        if digits[:2] in ("0b", "0x", "0o"):
            return sign * int(digits, 0)
        if len(digits) > 1 and digits.startswith("0"):
            return sign * int(digits, 8)
        return sign * int(digits) if len(digits) < 20 else text
    except ValueError:
        # 08 is no octal number; like kubectl, take it for a decimal fraction's integer part.
        return sign * int(float(digits)) if digits.isdigit() else text
