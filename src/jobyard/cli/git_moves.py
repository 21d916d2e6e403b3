"""Tells people, or programs, what happened to files in Git. Imported by every command that moves some."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import rich_click as click

from jobyard.cli.hints import say

if TYPE_CHECKING:
    from jobyard.triggers.git.moves import Move


def print_move(move: Move) -> None:
    """Says a transition to a person."""
    from jobyard.triggers.git.moves import told

    for line in told(move):
        say(line, err=False)


def print_move_json(move: Move) -> None:
    """Says a transition to a program."""
    from jobyard.service.shapes import move_json

    click.echo(json.dumps(move_json(move)))


def warn(line: str) -> None:
    """Says to a person what keeps a run from running."""
    say(line)


class Ends:
    """Hands transitions on, and remembers how each file ended last."""

    def __init__(self, say: Callable[[Move], None]) -> None:
        self._say = say
        self._ends: dict[str, str] = {}

    def say(self, move: Move) -> None:
        from jobyard.triggers.git.layout import show

        self._ends[show(move.name)] = str(move.target or "")
        self._say(move)

    @property
    def bad(self) -> list[str]:
        """The files that did not succeed, where they lie now."""
        return [f"{folder}/{file}" for file, folder in self._ends.items() if folder in ("failed", "unknown")]

    def told(self) -> str:
        """In a sentence, which did not succeed."""
        from jobyard.model.errors import number

        return f"{number(len(self.bad), 'file')} of {len(self._ends)} did not succeed: {', '.join(self.bad)}"
