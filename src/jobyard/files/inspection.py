"""Gathers what is wrong with one document, in words and with places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobyard.files.borders import MISTAKES, Budget
from jobyard.files.document import Document
from jobyard.files.secret import is_secret
from jobyard.model.finding import Finding, did_you_mean
from jobyard.model.template import Path as TreePath


@dataclass
class Inspection:
    """Gathers what is wrong with one document. Whatever raises TooMuch here, or walks by it, ends the reading."""

    document: Document
    budget: Budget
    findings: list[Finding] = field(default_factory=list)

    def error(self, path: TreePath, what: str, expected: str = "", remedy: str = "", *, key: bool = False) -> None:
        position = self.document.at(path, key=key)
        self.budget.mistake(position)
        self.findings.append(Finding(position=position, what=what, expected=expected, remedy=remedy))

    def warn(self, path: TreePath, what: str, expected: str = "", remedy: str = "", *, key: bool = False) -> None:
        """What refuses nothing; also by its number."""
        self.step(path)
        if len(self.findings) < MISTAKES:
            position = self.document.at(path, key=key)
            self.findings.append(Finding(position=position, what=what, expected=expected, remedy=remedy, is_error=False))

    def word(self, path: TreePath, value: object) -> str:
        """What kind of thing the value at `path` is, in words; and which, unless that is secret."""
        return quote(self.document, path, value)

    def step(self, path: TreePath) -> None:
        """Something small is done at `path`. Raises TooMuch."""
        self.budget.step(lambda: self.document.at(path))


def did_you_mean_key(tree: Mapping[str, Any], wanted: Iterable[str]) -> str:
    """A hint at a key that looks like one of those wanted."""
    return next((hint for key in tree for hint in [did_you_mean(str(key), wanted)] if hint), "")


def quote(document: Document, path: TreePath, value: object) -> str:
    """What kind of thing a value in a document is, in words; and which, unless what stands at `path` is secret."""
    return kind_of(value) if is_secret(document.tree, path) else word(value)


def word(value: object) -> str:
    """What kind of thing a value is, and which, in words."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'the text "{value[:40]}{"…" if len(value) > 40 else ""}"'
        case int() | float():
            return f"the number {value}"
        case _:
            return kind_of(value)


def kind_of(value: object) -> str:
    """What kind of thing a value is, in words, and nothing of which."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "a mapping"
