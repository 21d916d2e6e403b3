"""List, watch, re-list, diff: every change of a kind in a namespace, told once each, over closed streams, 410 and outages.

A stream that closes is normal (the server ends each after some minutes), and so is 410: our version is too old, so we list again. What
vanished in between no event will ever tell: the old list is held against the new, and what is missing is told as gone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from jobyard.cluster.errors import Status
from jobyard.contracts import Change
from jobyard.model.errors import Rejected, Unauthorized, Unavailable, WatchExpired
from jobyard.model.objects import Kind, Metadata, Object, T
from jobyard.patience import Backoff

_BACKOFF = Backoff(first=0.2, longest=30.0)


class Source(Protocol):
    """What a watch needs of a client."""

    async def list_at(self, kind: Kind[T], namespace: str, *, labels: str, fields: str) -> tuple[list[T], str]: ...

    def stream_changes(
        self, kind: Kind[Any], namespace: str, labels: str, fields: str, version: str, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[str]]: ...


class _Envelope(Object, frozen=True, kw_only=True):
    type: str
    object: msgspec.Raw


class _Versioned(Object, frozen=True, kw_only=True):
    metadata: Metadata = Metadata()


async def watch(source: Source, kind: Kind[T], namespace: str, labels: str, fields: str) -> AsyncIterator[Change[T]]:
    """The changes of `kind`, beginning with all that exists. Raises Rejected when the cluster refuses to list or to watch."""
    known: dict[str, T] = {}
    version = ""
    failures = 0
    while True:
        try:
            if not version:
                listed, version = await source.list_at(kind, namespace, labels=labels, fields=fields)
                for change in _diff(known, listed):
                    yield change
                yield Change("SYNCED")
                failures = 0
            # A random length keeps many watchers from coming back in the same second.
            seconds = random.randint(240, 300)  # noqa: S311 - jitter, not a secret
            async with source.stream_changes(kind, namespace, labels, fields, version, seconds) as lines:
                if failures:
                    yield Change("SYNCED")
                failures = 0
                async for line in lines:
                    version, told = _read(kind, line, known, version)
                    if told:
                        yield told
            # It closed, as streams do. One that closes at once must not be opened in a hot loop.
            await asyncio.sleep(_BACKOFF.draw(1))
        except WatchExpired:
            version = ""
        except Unauthorized:
            failures += 1
            if failures > 3:
                raise
        except Rejected:
            raise
        except Unavailable as error:
            failures += 1
            if failures > 1:
                yield Change("LOST_TOUCH", why=str(error))
            await asyncio.sleep(_BACKOFF.draw(failures, error))


def _diff(known: dict[str, T], listed: list[T]) -> list[Change[T]]:
    """What a fresh list tells against what was known; `known` becomes the list."""
    now = {each.metadata.uid: each for each in listed}
    changes: list[Change[T]] = [Change("GONE", old) for uid, old in known.items() if uid not in now]
    for uid, new in now.items():
        old = known.get(uid)
        if old is None or old.metadata.resource_version != new.metadata.resource_version:
            changes.append(Change("SEEN", new))
    known.clear()
    known.update(now)
    return changes


def _read(kind: Kind[T], line: str, known: dict[str, T], version: str) -> tuple[str, Change[T] | None]:
    """One line of a watch: the version to go on from, and what it tells."""
    if not line.strip():
        return version, None
    try:
        envelope = msgspec.json.decode(line, type=_Envelope)
        if envelope.type == "ERROR":
            status = msgspec.json.decode(envelope.object, type=Status)
            if status.code == 410 or status.reason in ("Expired", "Gone"):
                raise WatchExpired(action=f"watch {kind.plural}", status=410, reason=status.reason, message=status.message)
            raise Unavailable(server="", what=f"ended a watch ({status.message})")
        if envelope.type == "BOOKMARK":
            return msgspec.json.decode(envelope.object, type=_Versioned).metadata.resource_version, None
        seen = msgspec.json.decode(envelope.object, type=kind.struct)
    except msgspec.MsgspecError:
        # Half a line: the connection broke in the middle of it. The stream is opened again from the last whole one.
        raise Unavailable(server="", what="broke off in the middle of a change") from None
    if envelope.type == "DELETED":
        known.pop(seen.metadata.uid, None)
        return seen.metadata.resource_version, Change("GONE", seen)
    known[seen.metadata.uid] = seen
    return seen.metadata.resource_version, Change("SEEN", seen)
