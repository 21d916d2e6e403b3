"""A watch: the changes after a version, as a stream of JSON lines, with bookmarks, selectors and an honest 410."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from jobyard.local import selectors
from jobyard.local.objects import Objects
from jobyard.local.requests import Request, Target
from jobyard.local.status import ApiError
from jobyard.local.store import Change, Expired

Tree = dict[str, Any]

BOOKMARK_EVERY = 30.0
_DEFAULT_TIMEOUT = 1800.0


def stream(objects: Objects, request: Request, what: Target) -> AsyncIterator[bytes]:
    """The stream that a watch request asks for. Raises ApiError (400, 410) before it begins."""
    by_label = selectors.labels(request.query.get("labelSelector", ""))
    by_field = selectors.fields(what.resource, request.query.get("fieldSelector", ""))

    def matches(tree: Tree) -> bool:
        inside = not what.namespace or tree["metadata"].get("namespace") == what.namespace
        return inside and by_label(tree) and by_field(tree)

    version = request.number("resourceVersion", 0) or 0
    seconds = request.number("timeoutSeconds") or _DEFAULT_TIMEOUT
    initial = request.flag("sendInitialEvents")
    wish = _Wish(since=0 if initial else version, bookmarks=request.flag("allowWatchBookmarks"), mark_initial=initial, seconds=seconds)
    return _stream(objects, what, matches, wish)


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """How a watch is to run. `mark_initial`: a bookmark says when all that exists has been told (what Go clients call a watch-list)."""

    since: int
    bookmarks: bool
    mark_initial: bool
    seconds: float


async def _stream(objects: Objects, what: Target, matches: Callable[[Tree], bool], wish: _Wish) -> AsyncIterator[bytes]:
    store = objects.store
    end = asyncio.get_running_loop().time() + wish.seconds
    try:
        changes = store.subscribe(what.resource.full_name, since=wish.since or None, bounded=True)
    except Expired:
        expired = ApiError(410, f"too old resource version: {wish.since} ({store.version})")
        yield _line("ERROR", expired.body())
        return
    try:
        if not wish.since:
            version = store.version
            for tree in objects.list(what.resource, what.namespace):
                if matches(tree):
                    yield _line("ADDED", tree)
            if wish.mark_initial:
                yield _bookmark(what, version, {"k8s.io/initial-events-end": "true"})
        while (left := end - asyncio.get_running_loop().time()) > 0:
            version = store.version
            news = await changes.wait(min(left, BOOKMARK_EVERY))
            if changes.is_over:
                return  # who reads so slowly begins anew, as with Kubernetes
            lines = [line for change in news if (line := _tell(change, matches))]
            if lines:
                yield b"".join(lines)
            elif not news and wish.bookmarks:
                yield _bookmark(what, version)
    finally:
        store.unsubscribe(changes)


def _tell(change: Change, matches: Callable[[Tree], bool]) -> bytes | None:
    """A change as this watch sees it: what comes to match is added, what no longer does is deleted."""
    now = matches(change.object)
    before = change.before is not None and matches(change.before)
    if change.type == "DELETED":
        return _line("DELETED", change.object) if now or before else None
    if now:
        return _line("MODIFIED" if before else "ADDED", change.object)
    return _line("DELETED", change.object) if before else None


def _bookmark(what: Target, version: int, annotations: dict[str, str] | None = None) -> bytes:
    metadata: Tree = {"resourceVersion": str(version), "creationTimestamp": None, **({"annotations": annotations} if annotations else {})}
    return _line("BOOKMARK", {"kind": what.resource.kind, "apiVersion": what.resource.api_version, "metadata": metadata})


def _line(kind: str, tree: Tree) -> bytes:
    return msgspec.json.encode({"type": kind, "object": tree}) + b"\n"
