"""What retention takes: page by page, whatever happens to a single run, and nothing that a source still cares for."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec
import pytest

from jobyard.contracts import Cluster
from jobyard.engine import home
from jobyard.engine.home import End
from jobyard.engine.sweep import delete_stopped, find_expired, sweep
from jobyard.model import names
from jobyard.model.errors import Conflict, Forbidden, JobyardError, NoAnswer, Unavailable, WatchExpired
from jobyard.model.objects import ConfigMap, Job, JobStatus, Kind, Other, OwnerReference
from jobyard.model.retention import UNRELEASED, Keeping
from jobyard.model.run import State
from tests.unit.samples import COMPLETE, NOW, changed, job_record, map_record, request, stopped

DAY = timedelta(days=1)
DONE = msgspec.convert(COMPLETE, JobStatus)
END = End(state=State.SUCCEEDED, finished=NOW)


class FixedClock:
    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


class Server:
    """Keeps records; a page holds two, and the n-th page may be forgotten."""

    def __init__(self, *records: ConfigMap | Job) -> None:
        self.records = list(records)
        self._paged = [each for each in records if isinstance(each, ConfigMap) or names.ENDED in each.metadata.labels]
        self.calls: list[str] = []
        self.refused: dict[str, JobyardError] = {}
        """By the uid of the record that can't be deleted."""
        self.forgets = 0
        """How many of the second pages the server has forgotten."""

    async def page(self, kind: Kind[Any], namespace: str, *, labels: str, size: int, after: str = "") -> tuple[list[Other], str]:
        begin = int(after or 0)
        if begin and self.forgets:
            self.forgets -= 1
            raise WatchExpired(action="list", status=410, reason="Expired", message="too old")
        self.calls.append("page")
        mine = [each for each in self._paged if ("jobs" if isinstance(each, Job) else "configmaps") == kind.plural][begin : begin + 2]
        there = {each.metadata.uid for each in self.records}
        found = [Other(metadata=each.metadata) for each in mine if each.metadata.uid in there]
        return found, str(begin + 2) if len(mine) == 2 else ""

    async def delete(self, kind: Kind[Any], namespace: str, name: str, *, uid: str = "", version: str = "") -> None:
        self.calls.append(f"delete {uid}")
        if uid in self.refused:
            raise self.refused[uid]
        (known,) = (each.metadata for each in self.records if each.metadata.uid == uid)
        if version not in ("", known.resource_version):
            raise Conflict(action="delete", status=409, reason="Conflict", message="it has changed")
        self.records = [each for each in self.records if each.metadata.uid != uid]

    def left(self) -> list[str]:
        return [each.metadata.uid for each in self.records]

    async def list(self, kind: Kind[Any], namespace: str, *, labels: str = "", fields: str = "") -> list[Job]:
        wanted = [each for each in self.records if isinstance(each, Job)]
        if names.EXPIRING in labels:
            return [each for each in wanted if names.EXPIRING in each.metadata.labels]
        return [each for each in wanted if names.ENDED not in each.metadata.labels]


def released(uid: str) -> ConfigMap:
    seen: ConfigMap = map_record(request(uid), uid)
    return cast(ConfigMap, changed(seen, **home.release(seen, END, NOW)["metadata"]))


def unreleased(uid: str, trigger: str) -> ConfigMap:
    """A run that has ended, and that its source never let go of."""
    seen = map_record(request(uid, trigger=trigger), uid)
    return cast(ConfigMap, changed(seen, labels={names.STATE: "succeeded"}, annotations={names.FINISHED: NOW.isoformat()}))


async def swept(server: Server, *, after: timedelta = DAY, keep: int = 0, cared_for: Collection[str] | None = ()) -> list[str]:
    """The uids of the runs that go when retention is a day."""
    found = await sweep(cast(Cluster, server), FixedClock(NOW + after), "n", Keeping(runs=DAY), keep, cared_for)
    return [run.uid for run in found]


async def test_what_may_go_goes_before_the_next_page_is_asked_for() -> None:
    server = Server(*(released(each) for each in "abc"))
    assert await swept(server) == ["c", "b", "a"]
    assert server.calls == ["page", "page", "delete a", "delete b", "page", "delete c"]
    assert server.left() == []


async def test_the_newest_are_kept_where_that_is_asked_for() -> None:
    server = Server(*(released(each) for each in "abc"))
    assert await swept(server, keep=1) == ["b", "a"]
    assert server.left() == ["c"]


@pytest.mark.parametrize("keep", [0, 1])
async def test_a_list_whose_place_the_server_forgot_begins_anew(keep: int) -> None:
    server = Server(*(released(each) for each in "abcde"))
    server.refused["a"] = NoAnswer(what="took too long")
    server.forgets = 2
    assert await swept(server, keep=keep) == ["e", "d", "c", "b"][keep:]
    assert server.calls.count("delete a") == 1, "once a sweep"
    server.forgets = 1000
    with pytest.raises(WatchExpired):
        await swept(server)


@pytest.mark.parametrize(
    "error",
    [
        Unavailable(server="s", what="answers 500"),
        NoAnswer(what="took too long"),
        Forbidden(action="delete", status=403, reason="Forbidden", message="a webhook says no"),
    ],
)
async def test_a_run_that_cannot_be_deleted_keeps_no_other(error: JobyardError, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(*(released(each) for each in "abc"))
    server.refused["a"] = server.refused["b"] = error
    with caplog.at_level(logging.WARNING):
        assert await swept(server) == ["c"]
    (said,) = caplog.messages
    assert said == f"namespace n: 2 runs past retention could not be deleted: {error}"


async def test_a_missing_right_is_said_in_a_few_words_and_kept_for_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(released("a"))
    server.refused["a"] = Forbidden(action="delete", status=403, reason="Forbidden", message="no", who="`u`", right="delete configmaps")
    why: list[JobyardError] = []
    with caplog.at_level(logging.WARNING):
        assert await sweep(cast(Cluster, server), FixedClock(NOW + DAY * 3), "n", Keeping(runs=DAY), refused=why) == []
        assert [(str(each), caplog.messages) for each in why] == [("the cluster does not allow `u` to delete: no", [])]
        assert await swept(server) == []
    assert caplog.messages == ["namespace n: 1 run past retention could not be deleted: no right to delete configmaps"]


async def test_an_object_that_is_another_s_by_now_is_none_of_ours() -> None:
    server = Server(released("a"))
    server.refused["a"] = Conflict(action="delete", status=409, reason="Conflict", message="another uid")
    assert await swept(server) == ["a"]


async def test_a_source_s_unreleased_run_is_kept_as_long_as_its_source_is_there() -> None:
    asked = request("job", trigger="orders")
    job = msgspec.structs.replace(job_record(asked, "job"), status=DONE)
    server = Server(unreleased("map", "orders"), job, unreleased("other", "gone"))
    assert await swept(server, after=DAY + UNRELEASED - timedelta(seconds=1)) == []
    assert await swept(server, after=400 * DAY, cared_for={"orders"}) == ["other"]
    assert server.left() == ["map", "job"]
    assert await swept(server, after=400 * DAY) == ["map", "job"]


async def test_what_another_service_began_is_left_to_that_one() -> None:
    """It alone knows what it still serves: the newest run of a source that counts is never released."""
    newest, over, mine, nobodys = unreleased("newest", "orders"), released("over"), released("mine"), released("nobodys")
    owners = {"newest": "b", "over": "b", "mine": "a", "nobodys": None}
    server = Server(
        *(changed(each, labels={names.SERVICE: owners[each.metadata.uid]}) for each in (newest, over, mine, nobodys)),
        expiring("stopped here", service="a"),
        expiring("stopped there", service="b"),
    )
    cluster, clock = cast(Cluster, server), FixedClock(NOW + 400 * DAY)
    assert await delete_stopped(cluster, clock, "n", "a") == 1
    gone = await sweep(cluster, clock, "n", Keeping(runs=DAY), cared_for={"files"}, service="a")
    assert [run.uid for run in gone] == ["nobodys", "mine"]
    assert server.left() == ["newest", "over", "stopped there"]
    assert await delete_stopped(cluster, clock, "n") == 1, "a person cleans up after all of them"
    assert [run.uid for run in await sweep(cluster, clock, "n", Keeping(runs=DAY))] == ["over", "newest"]


async def test_who_does_not_know_the_sources_leaves_all_their_unreleased_runs() -> None:
    server = Server(unreleased("orders", "orders"), unreleased("cli", "cli"), unreleased("page", "page"), released("over"))
    clock = FixedClock(NOW + 400 * DAY)
    found = await find_expired(cast(Cluster, server), clock, "n", Keeping(runs=DAY), 0, None)
    assert [run.uid for run in found] == ["page", "over", "cli"]
    assert await swept(server, after=400 * DAY, cared_for=None) == ["page", "over", "cli"]
    assert server.left() == ["orders"]


async def test_a_person_s_run_whose_command_died_goes_like_any_other() -> None:
    """Nobody has anything to let go of: its retention is not seven days longer."""
    job = msgspec.structs.replace(job_record(request("detached", trigger="cli"), "detached"), status=DONE)
    going = msgspec.structs.replace(job_record(request("goes on", trigger="cli"), "goes on"))
    for cared_for in ((), None, {"orders"}):
        server = Server(unreleased("cli", "cli"), unreleased("page", "page"), job, going)
        assert await swept(server, after=DAY - timedelta(seconds=1), cared_for=cared_for) == []
        assert await swept(server, cared_for=cared_for) == ["page", "detached", "cli"]
        assert server.left() == ["goes on"], "it has not ended"


def expiring(uid: str, **more: Any) -> Job:
    """A Job that we stopped, whose own TTL is over."""
    news: Any = {"labels": {names.EXPIRING: "true"}, "annotations": {names.DELETE_AT: NOW.isoformat()}}
    return cast(Job, changed(stopped(job_record(request(uid, **more), uid), "Cancelled", 2), **news))


async def test_a_copy_that_somebody_made_of_a_stopped_job_is_theirs() -> None:
    ours = expiring("ours")
    owner = OwnerReference(kind="ConfigMap", name="etl", uid="record")
    of_a_record = changed(ours, uid="step", name="step", owner_references=(owner,))
    server = Server(ours, of_a_record, changed(ours, uid="copy", name="mine"))
    assert await delete_stopped(cast(Cluster, server), FixedClock(NOW), "n") == 2
    assert server.left() == ["copy"]


async def test_a_stopped_job_that_cannot_be_deleted_keeps_no_other(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(*(expiring(each) for each in "abcd"))
    server.refused["a"] = error = Unavailable(server="s", what="answers 500: failed calling webhook")
    server.refused["c"] = Forbidden(action="delete", status=403, reason="Forbidden", message="a webhook says no")
    with caplog.at_level(logging.WARNING):
        assert await delete_stopped(cast(Cluster, server), FixedClock(NOW), "n") == 2
    assert server.left() == ["a", "c"]
    assert caplog.messages[0] == f"namespace n: 1 stopped Job could not be deleted: {error}"
    assert len(caplog.messages) == 2, "each reason once"


async def test_a_stopped_job_that_somebody_resumes_while_it_is_looked_at_is_theirs() -> None:
    class Resumed(Server):
        async def list(self, kind: Kind[Any], namespace: str, *, labels: str = "", fields: str = "") -> list[Job]:
            found = await super().list(kind, namespace, labels=labels, fields=fields)
            self.records = [changed(each, version=9) if each.metadata.uid == "a" else each for each in self.records]
            return found

    server = Resumed(expiring("a"), expiring("b"))
    assert await delete_stopped(cast(Cluster, server), FixedClock(NOW), "n") == 1
    assert server.left() == ["a"]
