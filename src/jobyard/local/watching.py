"""A watch: the changes after a version, as a stream of JSON lines, with bookmarks, selectors and an honest 410."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
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

    version = request.query.get("resourceVersion", "")
    if version and not version.isdigit():
        raise ApiError(400, f'Invalid value: "{version}": invalid resourceVersion')
    seconds = float(request.query.get("timeoutSeconds") or _DEFAULT_TIMEOUT)
    return _stream(objects, what, matches, int(version or 0), request.flag("allowWatchBookmarks"), seconds)


async def _stream(
    objects: Objects, what: Target, matches: Callable[[Tree], bool], since: int, bookmarks: bool, seconds: float
) -> AsyncIterator[bytes]:
    store = objects.store
    end = asyncio.get_running_loop().time() + seconds
    try:
        changes = store.subscribe(what.resource.full_name, since=since or None)
    except Expired:
        expired = ApiError(410, f"too old resource version: {since} ({store.version})")
        yield _line("ERROR", expired.body())
        return
    try:
        if not since:
            for tree in objects.list(what.resource, what.namespace):
                if matches(tree):
                    yield _line("ADDED", tree)
        while (left := end - asyncio.get_running_loop().time()) > 0:
            version = store.version
            news = await changes.wait(min(left, BOOKMARK_EVERY))
            lines = [line for change in news if (line := _tell(change, matches))]
            if lines:
                yield b"".join(lines)
            elif not news and bookmarks:
                head = {"kind": what.resource.kind, "apiVersion": what.resource.api_version, "metadata": {"resourceVersion": str(version)}}
                yield _line("BOOKMARK", head)
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


def _line(kind: str, tree: Tree) -> bytes:
    return msgspec.json.encode({"type": kind, "object": tree}) + b"\n"
