"""Tells people, or programs, what happened to files in Git. Imported by every command that moves some."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import rich_click as click

if TYPE_CHECKING:
    from jobyard.triggers.git.moves import Move


def print_move(move: Move) -> None:
    """Says a transition to a person."""
    from jobyard.triggers.git.moves import words

    click.echo(words(move))


def print_move_json(move: Move) -> None:
    """Says a transition to a program."""
    from jobyard.service.shapes import move_json

    click.echo(json.dumps(move_json(move)))


def warn(line: str) -> None:
    """Says to a person what keeps a run from running."""
    click.echo(line, err=True)
