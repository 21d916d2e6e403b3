"""Jobs that are broken, each in a way that people meet, and what is to be said of each: the list by which `why` is measured."""

from __future__ import annotations

from tests.broken.kind import Broken
from tests.broken.places import FORBIDDEN, PLACES, REFERENCES, WAITS, deadlines
from tests.broken.programs import ENDS, STARTS, TRIES, images


def broken_jobs(registry: str) -> list[Broken]:
    """All of them. `registry`: the address of one that has no images to give."""
    return [*images(registry), *STARTS, *ENDS, *TRIES, *deadlines(registry), *REFERENCES, *PLACES, *WAITS, *FORBIDDEN]
