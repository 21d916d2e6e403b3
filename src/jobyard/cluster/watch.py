"""List, watch, re-list, diff: every change of a kind in a namespace, told once each, over closed streams, 410 and outages.

A stream that closes is normal (the server ends each after some minutes), and so is 410: our version is too old, so we list again. What
vanished in between no event will ever tell: the old list is held against the new, and what is missing is told as gone.

Whatever is answered again and again is met with back-off, by one rule: it counts the turns (a list where needed, then a stream) that
brought nothing on. Nothing that is answered ends a watch: a token is renewed, a RoleBinding is replaced, a proxy comes back.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Protocol

import msgspec

from jobyard.cluster.answers import Listing, Named, Unreadable, decode
from jobyard.cluster.errors import Status
from jobyard.contracts import Change, Inventory, Selection
from jobyard.model.errors import InvalidKubeconfig, JobyardError, NoAnswer, Rejected, Unavailable, Unforeseen, WatchExpired
from jobyard.model.objects import Kind, Metadata, Object, T
from jobyard.patience import Backoff

log = logging.getLogger("jobyard.cluster")

BACKOFF = Backoff(first=0.2, longest=30.0)
STEADY = 5.0
"""Seconds that a stream lasts which counts as one that works, though nothing happened."""


class Source(Protocol):
    """What a watch needs of a client."""

    async def list_at(self, kind: Kind[T], namespace: str, *, labels: str, fields: str) -> Listing[T]: ...

    def stream_changes(
        self, kind: Kind[Any], namespace: str, labels: str, fields: str, version: str, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[str]]: ...

    def read(self, kind: Kind[T], text: msgspec.Raw) -> T | Named: ...


class _Envelope(Object, frozen=True, kw_only=True):
    type: str
    object: msgspec.Raw


class _Versioned(Object, frozen=True, kw_only=True):
    metadata: Metadata = Metadata()


def failures_after(failures: int, *, told: bool, lasted: float, error: JobyardError | None) -> int:
    """How many turns in a row have now brought nothing on: 0 when this one did. Pure.

    `told`: the stream told a change or a bookmark; `lasted`: its seconds. What one told that 410 soon ended is no progress: a list follows,
    which is dear.
    """
    if lasted >= STEADY or (told and not isinstance(error, WatchExpired)):
        return 0 if error is None else 1
    return failures + 1


First = Callable[[], Iterator[Selection]]


async def watch(
    source: Source, kind: Kind[T], namespace: str, labels: str, fields: str, first: First | None = None
) -> AsyncIterator[Change[T]]:
    """The changes of `kind`, beginning with all that exists, or with what `first` selects of it. Never raises: LOST_TOUCH tells what is
    answered instead."""
    loop = asyncio.get_running_loop()
    view: View[T] = View(source, kind)
    failures = 0
    synced = away = False
    said = ""
    while True:
        error: JobyardError | None = None
        told, opened = False, None
        try:
            if not view.version:
                whole = Selection(labels=labels, fields=fields)
                # Only while nothing is known does it do to list less: what is missing in a later list is gone.
                async for change in _list(source, view, kind, namespace, whole, None if synced else first):
                    yield change
                synced, away = True, False
            # A random length keeps many watchers from coming back in the same second.
            seconds = random.randint(240, 300)  # noqa: S311 - jitter, not a secret
            async with source.stream_changes(kind, namespace, labels, fields, view.version, seconds) as lines:
                opened = loop.time()
                if away:
                    yield Change("SYNCED")
                    away = False
                async for line in lines:
                    if line.strip():
                        seen = view.read(line)
                        told = True
                        if seen is not None:
                            yield seen
        except WatchExpired as expired:
            view.version = ""
            error = expired
        except (Rejected, Unavailable, InvalidKubeconfig) as refused:
            error = refused
        except Exception as broke:  # what is answered is input, also what nobody thought of
            view.version = ""  # a fresh list goes past whatever we broke over
            error = Unforeseen.of(broke)
            if str(error) != said:
                said = str(error)
                log.warning("watching %s in namespace %s goes on in spite of: %s", kind.plural, namespace, error, exc_info=broke)
        lasted = 0.0 if opened is None else loop.time() - opened
        failures = failures_after(failures, told=told, lasted=lasted, error=error)
        if error is not None and (failures > 1 or not synced):
            away = True
            yield Change("LOST_TOUCH", why=str(error), error=error)
        # Also a stream that closed, as streams do, is not opened again at once.
        await asyncio.sleep(BACKOFF.draw(max(failures, 1), error))


async def _list(
    source: Source, view: View[T], kind: Kind[T], namespace: str, whole: Selection, first: First | None
) -> AsyncIterator[Change[T]]:
    """What a fresh list tells. A generator of its own: the objects that were listed are let go of when it ends."""
    items, unread, version = list[T](), set[str](), ""
    for selection in first() if first else (whole,):
        listing = await source.list_at(kind, namespace, labels=selection.labels, fields=selection.fields)
        items += listing.items
        unread |= listing.unread
        version = version or listing.version  # the stream goes on from the first, and tells again what came between
    uids = frozenset(each.metadata.uid for each in items) | unread
    for change in view.listed(Listing(items=items, version=version, unread=frozenset(unread))):
        yield change
    yield Change("SYNCED", inventory=None if first else Inventory(uids=uids, version=version))


class View(Generic[T]):
    """What a watch knows: which objects there are, in which version, and the version of the whole. The objects are kept by whoever wants them."""

    def __init__(self, source: Source, kind: Kind[T]) -> None:
        self._source = source
        self._kind: Kind[T] = kind
        self._known: dict[str, str] = {}
        self.version = ""

    def listed(self, listing: Listing[T]) -> list[Change[T]]:
        """What a fresh list tells against what was known. What is there and can't be read stays as it was."""
        now = {each.metadata.uid: each.metadata.resource_version for each in listing.items}
        now |= {uid: self._known[uid] for uid in listing.unread if uid in self._known}
        changes: list[Change[T]] = [Change("GONE", uid=uid, version=listing.version) for uid in self._known if uid not in now]
        for new in listing.items:
            if self._known.get(new.metadata.uid) != new.metadata.resource_version:
                changes.append(Change("SEEN", new, uid=new.metadata.uid))
        self._known = now
        self.version = listing.version
        return changes

    def read(self, line: str) -> Change[T] | None:
        """What a line of a stream tells; None when that is no change. Raises WatchExpired or Unavailable for one that tells of an error."""
        try:
            envelope = decode(line, _Envelope)
            if envelope.type == "ERROR":
                self._raise(decode(envelope.object, Status))
            if envelope.type == "BOOKMARK":
                self.version = decode(envelope.object, _Versioned).metadata.resource_version or self.version
                return None
        except Unreadable:
            # Half a line: the connection broke in the middle of it. The stream is opened again from the last whole one.
            raise NoAnswer(what="the cluster closed the connection in the middle of a change") from None
        seen = self._source.read(self._kind, envelope.object)
        if isinstance(seen, Named):
            self.version = seen.resource_version or self.version
            gone = envelope.type == "DELETED" and self._known.pop(seen.uid or "", None) is not None
            return Change("GONE", uid=seen.uid or "", version=seen.resource_version or "") if gone else None
        self.version = seen.metadata.resource_version or self.version
        if envelope.type == "DELETED":
            self._known.pop(seen.metadata.uid, None)
            return Change("GONE", seen, uid=seen.metadata.uid, version=seen.metadata.resource_version)
        self._known[seen.metadata.uid] = seen.metadata.resource_version
        return Change("SEEN", seen, uid=seen.metadata.uid)

    def _raise(self, status: Status) -> None:
        if status.code == 410 or status.reason in ("Expired", "Gone"):
            raise WatchExpired(action=f"watch {self._kind.plural}", status=410, reason=status.reason, message=status.message)
        raise NoAnswer(what=f"the cluster ended a watch ({status.message})")
