"""What a line of the log is about, for who sorts lines by it: a run, its trigger, a Job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

FIELDS = ("trigger", "run", "job")
_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))


def fields() -> Mapping[str, str]:
    """What is said here and now is about these, by the names of FIELDS."""
    return _ABOUT.get()


@contextmanager
def about(*, trigger: str = "", run: str = "", job: str = "") -> Iterator[None]:
    """What is said in the context, and in tasks that begin in it, is about these too; '' leaves one as it is."""
    told = {"trigger": trigger, "run": run, "job": job}
    token = _ABOUT.set({**_ABOUT.get(), **{name: value for name, value in told.items() if value}})
    try:
        yield
    finally:
        _ABOUT.reset(token)
