"""Where the local cluster's objects live: memory, and behind it SQLite, so that a killed cluster starts as it ended.

One counter versions everything. Whoever subscribes is told each change in order; a bounded log lets a watch go on from an older
version, and answers Expired for one that is too old, as etcd's compaction does.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from jobyard.local.private import open_private

Tree = dict[str, Any]

LOG_LENGTH, LOG_SIZE = 20_000, 64 * 1024 * 1024
"""How many changes, and bytes of them, are remembered: a large object may change as often as a small one."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS object (resource TEXT, namespace TEXT, name TEXT, body BLOB NOT NULL, PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 0), version INTEGER NOT NULL);
INSERT OR IGNORE INTO counter VALUES (0, 1);
"""


class Expired(Exception):
    """The version asked for is no longer in the log."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change: the object as it is now (for DELETED: as it was last, at the version of its deletion), and as it was before."""

    version: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    resource: str
    object: Tree
    before: Tree | None
    size: int = 0
    """Bytes of the object."""


class Subscription:
    """The changes of some resources, in order, as they happen. `bounded`: twice as many as are remembered may wait to be taken; more end it."""

    def __init__(self, resources: frozenset[str] | None, *, bounded: bool = False) -> None:
        self.resources = resources
        self.pending: deque[Change] = deque()
        self.is_over = False
        self._bounded = bounded
        self._size = 0
        self._news = asyncio.Event()

    def tell(self, change: Change) -> None:
        if self.is_over or (self.resources is not None and change.resource not in self.resources):
            return
        self.pending.append(change)
        self._size += change.size
        self._news.set()
        if self._bounded and (len(self.pending) > 2 * LOG_LENGTH or self._size > 2 * LOG_SIZE):
            self.is_over = True
            self.pending.clear()

    async def wait(self, seconds: float | None = None) -> builtins.list[Change]:
        """All changes since the last call; waits for the first. An empty list after `seconds`."""
        if not self.pending:
            self._news.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                return []
        changes = list(self.pending)
        self.pending.clear()
        self._size = 0
        return changes


class Store:
    """All objects. Used from one thread; objects are never changed in place."""

    def __init__(self, path: Path | None) -> None:
        self._objects: dict[str, dict[tuple[str, str], Tree]] = {}
        self._log: deque[Change] = deque()
        self._log_size = 0
        self._subscriptions: set[Subscription] = set()
        self._oldest = 1
        self._database: sqlite3.Connection | None = None
        self.version = 1
        if path is not None:
            self._database = _open(path)
            self._load(self._database)

    def _load(self, database: sqlite3.Connection) -> None:
        self.version = int(database.execute("SELECT version FROM counter").fetchone()[0])
        self._oldest = self.version
        for resource, namespace, name, body in database.execute("SELECT resource, namespace, name, body FROM object"):
            self._objects.setdefault(resource, {})[namespace, name] = msgspec.json.decode(body)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def get(self, resource: str, namespace: str, name: str) -> Tree | None:
        return self._objects.get(resource, {}).get((namespace, name))

    def list(self, resource: str, namespace: str = "") -> list[Tree]:
        """All objects of a resource, of one namespace or of all, by namespace and name."""
        objects = self._objects.get(resource, {})
        return [objects[key] for key in sorted(objects) if not namespace or key[0] == namespace]

    def list_resources(self) -> builtins.list[str]:
        """The resources of which there are objects, or were."""
        return list(self._objects)

    def everything(self) -> Iterator[tuple[str, Tree]]:
        """Every object there is, with its resource."""
        for resource, objects in list(self._objects.items()):
            for tree in list(objects.values()):
                yield resource, tree

    def put(self, resource: str, tree: Tree) -> Tree:
        """Writes an object, new or changed; returns it with its new version."""
        metadata = tree["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        objects = self._objects.setdefault(resource, {})
        before = objects.get(key)
        self.version += 1
        tree = {**tree, "metadata": {**metadata, "resourceVersion": str(self.version)}}
        body = msgspec.json.encode(tree)
        objects[key] = tree
        self._write(resource, key, body)
        self._tell(Change(self.version, "MODIFIED" if before else "ADDED", resource, tree, before, len(body)))
        return tree

    def remove(self, resource: str, namespace: str, name: str) -> Tree | None:
        """Takes an object away; returns it as it was, at the version of its deletion."""
        before = self._objects.get(resource, {}).pop((namespace, name), None)
        if before is None:
            return None
        self.version += 1
        tree = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self.version)}}
        self._write(resource, (namespace, name), None)
        self._tell(Change(self.version, "DELETED", resource, tree, before))
        return tree

    def _write(self, resource: str, key: tuple[str, str], body: bytes | None) -> None:
        if self._database is None:
            return
        with self._database as database:
            database.execute("BEGIN")
            if body is None:
                database.execute("DELETE FROM object WHERE resource = ? AND namespace = ? AND name = ?", (resource, *key))
            else:
                database.execute("INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?)", (resource, *key, body))
            database.execute("UPDATE counter SET version = ?", (self.version,))

    def _tell(self, change: Change) -> None:
        self._log.append(change)
        self._log_size += change.size
        while len(self._log) > LOG_LENGTH or self._log_size > LOG_SIZE:
            oldest = self._log.popleft()
            self._oldest, self._log_size = oldest.version, self._log_size - oldest.size
        for subscription in self._subscriptions:
            subscription.tell(change)

    def subscribe(self, *resources: str, since: int | None = None, bounded: bool = False) -> Subscription:
        """The changes of `resources` (none named: of all) after version `since` (default: now). Raises Expired."""
        subscription = Subscription(frozenset(resources) or None, bounded=bounded)
        if since is not None:
            if since < self._oldest:
                raise Expired
            for change in self._log:
                if change.version > since:
                    subscription.tell(change)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)


def _open(path: Path) -> sqlite3.Connection:
    os.close(open_private(str(path), os.O_RDWR | os.O_CREAT))  # SQLite gives the files beside it the same mode
    for beside in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{beside}").chmod(0o600)
    database = sqlite3.connect(path, isolation_level=None)
    # Off: a killed process loses nothing, since the system has the pages; only a power cut could, and then the processes are gone too.
    database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; {_SCHEMA}")
    return database
