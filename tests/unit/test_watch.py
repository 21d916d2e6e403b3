"""A watch, whatever is answered again and again: it goes on, says why there is no news, and asks ever more seldom."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from jobyard.cluster.answers import Listing, Named, Reader
from jobyard.cluster.watch import STEADY, failures_after, watch
from jobyard.contracts import Change
from jobyard.model.errors import (
    CredentialsUnavailable,
    Forbidden,
    InvalidKubeconfig,
    JobyardError,
    Rejected,
    Unauthorized,
    Unavailable,
    Unforeseen,
    WatchExpired,
)
from jobyard.model.objects import JOBS, Job, Kind, Metadata
from tests.faketime import in_fake_time

Stream = Callable[[], AsyncIterator[str]]


def refused(kind: type[Rejected], status: int) -> Rejected:
    return kind(action="watch jobs", status=status, reason="", message="no")


EXPIRED = refused(WatchExpired, 410)
FORBIDDEN = refused(Forbidden, 403)
UNAUTHORIZED = refused(Unauthorized, 401)
AWAY = Unavailable(server="s", what="is away")
LOGGED_OUT = CredentialsUnavailable(server="", what="the plugin failed")
NEVER_LOGGED_IN = InvalidKubeconfig(file="k", what="the plugin failed", expected="a token", remedy="")


class Scripted:
    """An API server that answers by a script: what a list says, and what a stream does."""

    def __init__(self, *, lists: Exception | list[Job] | None = None, stream: Exception | Stream | None = None) -> None:
        self.lists = lists if lists is not None else []
        self.stream = stream
        self.listed = self.streamed = 0
        self.unread: frozenset[str] = frozenset()
        self._reader = Reader()

    async def list_at(self, kind: Kind[Any], namespace: str, *, labels: str, fields: str) -> Listing[Any]:
        self.listed += 1
        if isinstance(self.lists, Exception):
            raise self.lists
        return Listing(items=list(self.lists), version="1", unread=self.unread)

    @asynccontextmanager
    async def stream_changes(
        self, kind: Kind[Any], namespace: str, labels: str, fields: str, version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[str]]:
        self.streamed += 1
        if isinstance(self.stream, Exception):
            raise self.stream
        yield self.stream() if self.stream else silent()

    def read(self, kind: Kind[Any], text: msgspec.Raw) -> Any | Named:
        return self._reader.read(kind, text)


async def silent() -> AsyncIterator[str]:
    await asyncio.sleep(300)
    return
    yield


async def ends_at_once() -> AsyncIterator[str]:
    return
    yield


def saying(*lines: object) -> Stream:
    async def stream() -> AsyncIterator[str]:
        for line in lines:
            yield line if isinstance(line, str) else json.dumps(line)

    return stream


ERROR_410 = {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}
ERROR_500 = {"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}}
BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}


def told_within(source: Scripted, seconds: float) -> list[Change[Job]]:
    """What a watch tells in so much time, which passes at once."""
    changes: list[Change[Job]] = []

    async def follow() -> None:
        async for change in watch(source, JOBS, "n", "", ""):
            changes.append(change)

    async def main() -> None:
        following = asyncio.create_task(follow())
        await asyncio.wait([following], timeout=seconds)
        assert not following.done(), "a watch ended"
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    in_fake_time(main())
    return changes


@pytest.mark.parametrize(
    "source",
    [
        Scripted(stream=EXPIRED),
        Scripted(stream=saying(ERROR_410)),
        Scripted(stream=saying(BOOKMARK, ERROR_410)),
        Scripted(stream=saying(ERROR_500)),
        Scripted(stream=saying("<html>")),
        Scripted(stream=ends_at_once),
        Scripted(stream=AWAY),
        Scripted(stream=FORBIDDEN),
        Scripted(stream=UNAUTHORIZED),
        Scripted(lists=AWAY),
        Scripted(lists=FORBIDDEN),
        Scripted(lists=UNAUTHORIZED),
        Scripted(lists=EXPIRED),
        Scripted(lists=LOGGED_OUT),
        Scripted(lists=NEVER_LOGGED_IN),
        Scripted(lists=ZeroDivisionError("unforeseen")),
        Scripted(stream=ZeroDivisionError("unforeseen")),
    ],
    ids=[
        "410", "410 in the stream", "a bookmark, then 410", "an error in the stream", "a page", "an end", "stream away", "stream 403", "stream 401",
        "list away", "list 403", "list 401", "list 410", "plugin failed", "plugin never worked", "list unforeseen", "stream unforeseen",
    ],
)  # fmt: skip
def test_any_answer_again_and_again_is_met_with_back_off(source: Scripted) -> None:
    told_within(source, 600)
    assert 20 <= source.listed + source.streamed <= 200, (source.listed, source.streamed)


def test_a_stream_that_works_and_ends_is_opened_again_at_once() -> None:
    """The server ends a stream every few minutes: an hour of this is not a failure, and no list follows."""
    source = Scripted()
    assert [each.type for each in told_within(source, 3600)] == ["SYNCED"]
    assert source.listed == 1
    assert 11 <= source.streamed <= 13


@pytest.mark.parametrize("error", [AWAY, FORBIDDEN, UNAUTHORIZED, LOGGED_OUT, NEVER_LOGGED_IN], ids=str)
def test_what_is_answered_first_is_told_at_once_with_its_error(error: JobyardError) -> None:
    first = told_within(Scripted(lists=error), 0.01)[0]
    assert (first.type, first.error, first.why) == ("LOST_TOUCH", error, str(error))


def test_what_nobody_foresaw_ends_no_watch_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "jobyard.cluster"):
        told = told_within(Scripted(lists=ZeroDivisionError("unforeseen")), 600)
    assert {each.type for each in told} == {"LOST_TOUCH"}
    assert isinstance(told[0].error, Unforeseen)
    assert told[0].why == "the cluster sent an answer that Jobyard can't handle (ZeroDivisionError: unforeseen); this is usually temporary"
    (said,) = caplog.records
    assert said.exc_info


def test_it_is_back_when_the_answer_is_another() -> None:
    source = Scripted(lists=FORBIDDEN)

    async def allowed_later() -> list[str]:
        types: list[str] = []
        async for change in watch(source, JOBS, "n", "", ""):
            types.append(change.type)
            if len(types) == 5:
                source.lists = [Job(metadata=Metadata(name="a", uid="a"))]
            if change.type == "SYNCED":
                return types
        raise AssertionError

    assert in_fake_time(allowed_later()) == ["LOST_TOUCH"] * 5 + ["SEEN", "SYNCED"]


def test_an_object_that_cannot_be_read_is_neither_told_nor_gone() -> None:
    job = {"metadata": {"name": "a", "uid": "a", "resourceVersion": "2"}}
    odd = {"metadata": {"name": "a", "uid": "a", "resourceVersion": "3"}, "spec": 1}
    source = Scripted(stream=saying({"type": "ADDED", "object": job}, {"type": "MODIFIED", "object": odd}, ERROR_410))
    source.unread = frozenset(["a"])
    told = told_within(source, 1)
    assert [each.type for each in told if each.object] == ["SEEN"] * sum(each.type == "SEEN" for each in told)
    assert "GONE" not in [each.type for each in told]
    source.stream = saying({"type": "ADDED", "object": job}, {"type": "DELETED", "object": odd})
    told = told_within(source, 0.0001)
    assert [each.type for each in told] == ["SYNCED", "SEEN", "GONE"]
    assert told[-1].version == "3"


def test_labels_that_are_null_are_none() -> None:
    source = Scripted(stream=saying({"type": "ADDED", "object": {"metadata": {"name": "a", "uid": "a", "labels": None}}}))
    (seen,) = [each.object for each in told_within(source, 0.0001) if each.object]
    assert seen.metadata.labels == {}


def test_failures_are_turns_in_a_row_that_brought_nothing_on() -> None:
    assert failures_after(3, told=True, lasted=0, error=None) == 0
    assert failures_after(3, told=False, lasted=STEADY, error=None) == 0
    assert failures_after(3, told=False, lasted=0, error=None) == 4
    assert failures_after(3, told=True, lasted=0, error=AWAY) == 1
    assert failures_after(3, told=True, lasted=0, error=EXPIRED) == 4
    assert failures_after(3, told=False, lasted=STEADY, error=EXPIRED) == 1
