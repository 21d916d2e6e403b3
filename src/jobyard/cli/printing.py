"""Answers on standard output: a table as wide as the terminal, or JSON, an object a line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import rich_click as click

from jobyard.cli import render


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], goes_first: Sequence[str] = ()) -> None:
    """Prints the rows; on a terminal none is wider than it is. `goes_first`: the columns that are left out for that, in this order."""
    for line in fit(head, rows, goes_first):
        click.echo(line)


def fit(head: Sequence[str], rows: Sequence[Sequence[str]], goes_first: Sequence[str] = ()) -> list[str]:
    """The lines of such a table."""
    if not sys.stdout.isatty():
        return render.plain_table(head, rows)
    return render.fitted(head, rows, shutil.get_terminal_size().columns, goes_first)


def print_json(found: Mapping[str, Any]) -> None:
    """Prints one object on a line of its own."""
    click.echo(json.dumps(found))
