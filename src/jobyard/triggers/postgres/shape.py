"""Which pg-boss it is, by the columns of its table of jobs: every version from 7 to 12 is read by one text, with other names in it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

TABLE = "job"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a schema of pg-boss is to be read."""

    schema: str
    """As the database spells it."""
    due: str
    """The column that says when an item is due."""
    has_blocked: bool = False
    """Items may wait for others (12.19 and later)."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What we read."""
        return ("name", "state", self.due, *(["blocked"] if self.has_blocked else []))

    def fill(self, text: str) -> str:
        """The preset's text for this schema."""
        return text.format(
            schema=quoted(self.schema),
            due=self.due,
            not_blocked="AND NOT job.blocked" if self.has_blocked else "",
            in_order="" if self.has_blocked else f"ORDER BY job.{self.due}",
            first="$2" if self.has_blocked else "1",
        )


def shape_of(schema: str, columns: Collection[str]) -> Shape | None:
    """The shape of a table with these columns; None when it is none of pg-boss 7 to 12."""
    if not {"name", "state"} <= set(columns):
        return None
    due = next((each for each in ("start_after", "startafter") if each in columns), None)
    return Shape(schema=schema, due=due, has_blocked="blocked" in columns) if due else None


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def channel(schema: str) -> str:
    """What producers of pg-boss 12.21 and later notify on, where a queue asks for it."""
    return "pgboss_" + hashlib.sha224(schema.encode()).hexdigest()[:24]
