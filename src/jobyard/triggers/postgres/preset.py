"""Whose tables are counted, and how: one text for each library in `presets/`, with what it needs to say in comments at its top. No code.

A text takes $1, the names of queues, and $2, where counting stops; it answers rows of queue, waiting, seconds of the oldest, seconds until
the next is due. `{schema}` is the schema, quoted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jobyard.triggers.postgres.shape import quoted

PGBOSS = "pgboss"
_FOLDER = Path(__file__).parent / "presets"
_NOTE = re.compile(r"^-- (schema|channel|reads): (.+)$", re.MULTILINE)
_READ = re.compile(r"(\w+)(?: ?\(([^)]*)\))")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A library's text."""

    name: str
    text: str
    schema: str
    """Where its tables are unless somebody says otherwise."""
    channel: str = ""
    """What its producers notify on; '' for nothing."""
    reads: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Its tables, and which columns of theirs are read; a function has none."""


@cache
def presets() -> dict[str, Preset]:
    """All of them, by name."""
    return {file.stem: _read(file) for file in sorted(_FOLDER.glob("*.sql"))}


def _read(file: Path) -> Preset:
    text = file.read_text(encoding="utf-8")
    notes = dict(_NOTE.findall(text))
    reads = tuple(
        (table, tuple(each.strip() for each in columns.split(",") if each.strip()))
        for table, columns in _READ.findall(notes.get("reads", ""))
    )
    return Preset(name=file.stem, text=text, schema=notes["schema"], channel=notes.get("channel", ""), reads=reads)


def grants(schema: str, reads: Sequence[tuple[str, Sequence[str]]], user: str) -> str:
    """The statements that give somebody what reading takes, and no more."""
    lines = [f"GRANT USAGE ON SCHEMA {name(schema)} TO {name(user)};"]
    for table, columns in reads:
        if columns:
            lines.append(f"GRANT SELECT ({', '.join(columns)}) ON {name(schema)}.{table} TO {name(user)};")
        else:
            lines.append(f"GRANT EXECUTE ON FUNCTION {name(schema)}.{table}() TO {name(user)};")
    return " ".join(lines)


def name(text: str) -> str:
    """A name as a person writes it in SQL: quoted only where it must be."""
    return text if re.fullmatch(r"[a-z_][a-z0-9_]*", text) else quoted(text)
