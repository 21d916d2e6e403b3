"""What the API answers becomes our thin structs. Between us and it may stand a proxy that answers with something else."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from jobyard.model.objects import Kind, Object, T

log = logging.getLogger("jobyard.cluster")

Shape = TypeVar("Shape")

REMEMBERED = 1000
"""Objects that can't be read, of which it is remembered that it was said."""


class Unreadable(ValueError):
    """No JSON, or not of the expected shape; the text says what, for the log."""


class Named(Object, frozen=True, kw_only=True):
    """The least that an object is known by."""

    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class Identity(Object, frozen=True, kw_only=True):
    """An object of which no more can be read than who it is."""

    metadata: Named = Named()


class _ListMeta(Object, frozen=True, kw_only=True):
    resource_version: str
    continue_: str | None = msgspec.field(default=None, name="continue")


class Page(Object, frozen=True, kw_only=True):
    """A page of a list. What names no version is no list: a proxy's `{}` must not tell that all is gone."""

    metadata: _ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


class _Resource(Object, frozen=True, kw_only=True):
    name: str = ""
    kind: str = ""
    namespaced: bool = False


class Resources(Object, frozen=True, kw_only=True):
    """What a group and version serves."""

    resources: tuple[_Resource, ...]


class _Verdict(Object, frozen=True, kw_only=True):
    allowed: bool


class Review(Object, frozen=True, kw_only=True):
    """A SelfSubjectAccessReview that was answered."""

    status: _Verdict


def decode(text: bytes | str | msgspec.Raw, shape: type[Shape]) -> Shape:
    """An answer as `shape`. A null is as if the field were not there, as it is for Kubernetes. Raises Unreadable."""
    try:
        try:
            return msgspec.json.decode(text, type=shape)
        except msgspec.ValidationError:
            return msgspec.convert(_without_nulls(msgspec.json.decode(text)), type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from None


def _without_nulls(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_nulls(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [_without_nulls(each) for each in tree if each is not None]
    return tree


@dataclass(frozen=True, kw_only=True)
class Listing(Generic[T]):
    """What a list told."""

    items: list[T]
    version: str
    """The resource version that it is of: a watch goes on from here."""
    unread: frozenset[str] = frozenset()
    """The uids of objects that are there and can't be read: they are not gone."""


class Reader:
    """Reads the objects of lists and watches. One that can't be read is left out, and that is said once."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], None] = {}

    def read(self, kind: Kind[T], text: msgspec.Raw) -> T | Named:
        """The object; or, where it can't be read, what it is known by."""
        try:
            return decode(text, kind.struct)
        except Unreadable as error:
            who = self._identity(text)
            self._say(kind, who, error)
            return who

    def _identity(self, text: msgspec.Raw) -> Named:
        try:
            return decode(text, Identity).metadata
        except Unreadable:
            return Named()

    def _say(self, kind: Kind[Any], who: Named, why: Unreadable) -> None:
        key = (kind.plural, who.uid or f"{who.namespace}/{who.name}")
        if key in self._said:
            return
        if len(self._said) >= REMEMBERED:
            self._said.pop(next(iter(self._said)))
        self._said[key] = None
        log.warning("%s %s can't be read and is ignored (%s)", kind.name, who.name or "(without a name)", why)
