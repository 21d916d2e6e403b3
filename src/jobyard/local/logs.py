"""A container's log: a file of lines, each with its time and stream, that can be followed while it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

LINE_LIMIT = 256 * 1024
"""Bytes after which a line is cut in two."""
SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes of one log; what comes after is counted, not kept, so that one Job cannot fill the disk."""


class LogFile:
    """One container run's log. Written by one pipe reader a stream."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size
        self._rest = {"stdout": b"", "stderr": b""}
        self._news = asyncio.Event()
        self._open = {"stdout", "stderr"}
        self.ended = asyncio.Event()
        """Set once both streams have ended."""
        self.closed = False

    def end_of(self, stream: str) -> None:
        """No more will come from this stream."""
        self._open.discard(stream)
        if not self._open:
            self.ended.set()

    async def again(self) -> None:
        """Waits for the streams' end, and begins anew: what wrote was not the container."""
        await self.ended.wait()
        self._file.truncate(0)
        self._size, self._open = 0, {"stdout", "stderr"}
        self._rest = {"stdout": b"", "stderr": b""}
        self.ended.clear()

    def write(self, data: bytes, stream: str) -> None:
        if self._size >= SIZE_LIMIT:
            return
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        while len(rest) > LINE_LIMIT:
            lines.append(rest[:LINE_LIMIT])
            rest = rest[LINE_LIMIT:]
        self._rest[stream] = rest
        self._put(lines, stream)

    def _put(self, lines: list[bytes], stream: str) -> None:
        if not lines or self.closed:
            return
        if self._size < SIZE_LIMIT:
            head = f"{datetime.now(UTC).strftime('%Y-%m-%dT%H:%M:%S.%f')}000Z {stream} ".encode()
            text = b"".join(head + line + b"\n" for line in lines)
            try:
                self._file.write(text)
            except OSError:
                self._size = SIZE_LIMIT  # the disk is full: the Job goes on without a log
                return
            self._size += len(text)
        self._wake()

    def close(self) -> None:
        for stream, rest in self._rest.items():
            if rest:
                self._put([rest], stream)
        self.closed = True
        self._file.close()
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, position: int) -> AsyncIterator[bytes]:
        """The lines from `position` on, until the log is closed."""
        with self.path.open("rb") as file:
            file.seek(position)
            while True:
                news, closed = self._news, self.closed
                if chunk := file.read():
                    yield chunk
                elif closed:
                    return
                else:
                    await news.wait()


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """What a client wants of a log."""

    tail: int | None = None
    since: datetime | None = None
    limit_bytes: int | None = None
    timestamps: bool = False


def select(path: Path, query: LogQuery) -> tuple[list[bytes], int]:
    """The lines that a query wants, as they are to be sent, and how far the file was read."""
    try:
        data = path.read_bytes()
    except OSError:
        return [], 0
    end = data.rfind(b"\n") + 1
    lines = data[: max(end - 1, 0)].split(b"\n") if end else []  # \r ends none: a line may hold it
    if query.since is not None:
        lines = [line for line in lines if _time(line) >= query.since]
    if query.tail is not None:
        lines = lines[-query.tail :] if query.tail else []
    return [strip(line, query.timestamps) + b"\n" for line in lines], end


def strip(line: bytes, timestamps: bool) -> bytes:
    """A stored line as a client sees it."""
    time, _, rest = line.partition(b" ")
    text = rest.partition(b" ")[2]
    return time + b" " + text if timestamps else text


def _time(line: bytes) -> datetime:
    """When a line was written; of half a line, as of a full disk, it is as good as now."""
    try:
        return datetime.fromisoformat(line[:26].decode() + "+00:00")
    except ValueError:
        return datetime.now(UTC)
