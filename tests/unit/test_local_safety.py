"""What keeps one object from ending the local cluster: the one try block, objects as Kubernetes keeps them, sums and sets without an end."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.local import bodies, indexes, pod_env, times
from jobyard.local.controller import drive
from jobyard.local.cron_sync import schedule
from jobyard.local.garbage import EventCollector
from jobyard.local.indexes import Indexes
from jobyard.local.objects import Objects
from jobyard.local.queue import Key, WorkQueue
from jobyard.local.requests import decode
from jobyard.local.resources import CONFIG_MAPS, EVENTS, JOBS, PODS, Resource
from jobyard.local.status import ApiError
from jobyard.local.store import LOG_SIZE, Change, Expired, Store
from jobyard.schema.values import LARGEST, quantity

Tree = dict[str, Any]


class Clumsy:
    """A controller that stumbles over some names, in notes and in looks."""

    watches: tuple[Resource, ...] = (CONFIG_MAPS,)

    def __init__(self) -> None:
        self.queue = WorkQueue()
        self.looks: list[str] = []
        self.seen = asyncio.Event()

    def note(self, change: Change) -> None:
        name = change.object["metadata"]["name"]
        if name == "unnoted":
            raise KeyError(name)
        self.queue.add((name,))

    def look(self, key: Key) -> None:
        self.looks.append(key[0])
        if key[0] == "bad":
            self.queue.add(key)  # what it did before it stumbled has it looked at again
            raise OverflowError("date value out of range")
        if key[0] == "last":
            self.seen.set()


async def test_a_look_that_raises_ends_nothing_but_itself_and_is_tried_again_later(caplog: pytest.LogCaptureFixture) -> None:
    store, clumsy = Store(None), Clumsy()
    for name in ("bad", "unnoted", "good"):
        store.put("configmaps", {"metadata": {"name": name, "namespace": "n"}})
    with caplog.at_level(logging.ERROR, "jobyard.local"):
        driving = asyncio.create_task(drive(Objects(store), clumsy))
        await asyncio.sleep(0)
        store.put("configmaps", {"metadata": {"name": "bad", "namespace": "n"}})  # a change brings it no sooner
        store.put("configmaps", {"metadata": {"name": "last", "namespace": "n"}})
        async with asyncio.timeout(10):
            await clumsy.seen.wait()
        driving.cancel()
    assert (clumsy.looks.count("bad"), clumsy.looks.count("good")) == (1, 1)
    told = [record.getMessage() for record in caplog.records]
    assert any(
        "Clumsy looks at bad again in 1 s: OverflowError: date value out of range (test_local_safety.py:" in line for line in told
    ), told
    assert any("could not take note of configmaps unnoted: KeyError" in line for line in told)
    assert not any(record.exc_info for record in caplog.records)


def test_who_fails_again_and_again_waits_longer_and_who_succeeds_is_forgiven() -> None:
    queue = WorkQueue()
    assert [queue.failed(("a",)) for _ in range(12)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    queue.succeeded(("a",))
    assert queue.failed(("a",)) == 1


async def test_a_key_is_due_once_however_often_a_time_was_named() -> None:
    queue = WorkQueue()
    for seconds in (1000, 2000, 0, 3000):
        queue.add_at(("a",), times.after(times.now(), seconds))
    assert await queue.take() == ("a",)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await queue.take()


def test_an_object_is_kept_as_go_keeps_it() -> None:
    tree: Tree = {
        "metadata": {"name": "x", "labels": {"a": None}, "finalizers": [None]},
        "spec": {
            "parallelism": None,
            "template": {"spec": {"containers": [None, {"env": [{}], "resources": {"limits": {"cpu": 1.5, "memory": None}}}]}},
        },
        "status": {"conditions": [{}]},
    }
    kept, _ = decode(JOBS, tree, "Strict")
    assert kept["metadata"] == {"name": "x", "labels": {"a": ""}, "finalizers": [""]}
    assert "parallelism" not in kept["spec"]
    first, second = kept["spec"]["template"]["spec"]["containers"]
    assert first == {"name": ""}
    assert second == {"name": "", "env": [{"name": ""}], "resources": {"limits": {"cpu": "1.5", "memory": "0"}}}
    assert kept["status"]["conditions"] == [{"type": "", "status": ""}]
    part, _ = decode(JOBS, {"spec": {"suspend": True}}, "Strict", whole=False)
    assert part == {"spec": {"suspend": True}}, "a patch says no more than it says"


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"spec": {"parallelism": 2**31}}, "cannot unmarshal number 2147483648 into Go value of type int32"),
        ({"spec": {"activeDeadlineSeconds": 2**63}}, "type int64"),
        ({"spec": {"completions": 1.0}}, "cannot unmarshal number 1.0"),
        ({"status": {"startTime": "now"}}, 'parsing time "now"'),
        ({"status": {"startTime": "2026-02-30T00:00:00Z"}}, "parsing time"),
        ({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "1x"}}}]}}}}, "quantities must match"),
        ({"spec": {"template": {"spec": {"containers": {}}}}}, "cannot unmarshal object"),
    ],
)
def test_what_no_field_can_hold_is_refused(tree: Tree, words: str) -> None:
    with pytest.raises(ApiError, match=words):
        decode(JOBS, tree, "Ignore")
    with pytest.raises(ApiError, match="cannot unmarshal array"):
        decode(PODS, {"metadata": []}, "Ignore")


@given(one=st.sets(st.integers(0, 30)), other=st.sets(st.integers(0, 30)), end=st.integers(0, 31))
def test_sets_of_indexes_are_sets(one: set[int], other: set[int], end: int) -> None:
    first, second = indexes.of(one), indexes.of(other)
    assert indexes.read(str(first)) == first
    assert (first.count, bool(first)) == (len(one), bool(one))
    assert first | second == indexes.of(one | other)
    assert first.shared(second) == len(one & other)
    assert first.below(end) == indexes.of(each for each in one if each < end)
    assert list(first.missing(end)) == [each for each in range(end) if each not in one]
    assert [each in first for each in range(32)] == [each in one for each in range(32)]
    assert indexes.problem(str(first), 31) == ""


def test_a_set_of_two_milliards_takes_no_room_and_no_time() -> None:
    whole = indexes.read("0-2147483646")
    assert (whole.count, whole.shared(Indexes(((5, 5),)))) == (2**31 - 1, 1)
    assert next(indexes.Indexes().missing(2**31 - 1)) == 0
    assert indexes.read("²,-1,x,1-0,9999999999999") == Indexes()
    assert "too large index" in indexes.problem("0-2147483647", 2**31 - 1)
    assert "non-increasing" in indexes.problem("3,1", 5)


def test_time_ends_where_it_ends() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert times.after(now, 10**15) == times.after(times.LAST, 1) == times.LAST
    assert times.after(now, -(10**15)) == times.FIRST
    assert times.stamp(times.FIRST) == "0001-01-01T00:00:00Z"
    assert times.parse("0001-01-01T00:00:00+14:00") == times.FIRST
    assert times.parse("9999-12-31T23:59:59-14:00") == times.LAST


@pytest.mark.parametrize(
    ("text", "value"), [("1" * 5000, LARGEST), ("1e" + "9" * 5000, LARGEST), ("1e-" + "9" * 5000, 0), ("0." + "0" * 5000 + "1", 1e-9)]
)
def test_amounts_without_an_end_are_read(text: str, value: float) -> None:
    found = quantity(text)
    assert found is not None
    assert min(float(found), float(LARGEST)) == float(value)


@pytest.mark.parametrize(
    "text",
    [
        "* * * * * *",
        "² * * * *",
        "*/0 * * * *",
        "61 * * * *",
        "@every 1ns",
        "",
        "x",
        "TZ=UTC * * * * *",
        "0 0 31 2 *",
        "1-0 * * * *",
        "0," * 5000,
    ],
)
def test_schedules_that_are_none_are_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError):
        schedule(text, None, times.now())


@pytest.mark.parametrize("zone", ["../UTC", "/etc/localtime", "Europe", "a\0b", "x" * 5000, "tzdata.zi"])
def test_zones_that_are_none_are_said_to_be_none(zone: str) -> None:
    with pytest.raises(ValueError):
        schedule("* * * * *", zone, times.now())


def test_the_newest_start_that_was_missed_is_found_from_now_back() -> None:
    now = datetime(2026, 3, 29, 12, 0, 0, 500_000, tzinfo=UTC)
    past = schedule("0 * * * *", "Europe/Berlin", now.replace(microsecond=0) + timedelta(seconds=1), reverse=True)
    assert next(past) == now.replace(microsecond=0)


@pytest.mark.parametrize(
    ("body", "media", "words"),
    [
        (b"[" * 101 + b"]" * 101, "application/json", "deeper"),
        (b"[" * 1_000_000, "application/json", "deeper"),
        (b"- " * 100_000, "application/yaml", "deeper"),
        (b"{a: " * 100_000, "application/yaml", "deeper"),
        (b"[" + b"0," * 300_000 + b"0]", "application/json", "more than"),
        (b"- 0\n" * 300_000, "application/yaml", "more than"),
        (b"a: &a 1\nb: *a\n", "application/yaml", "aliases"),
        (b"? [x]\n: y\n", "application/yaml", "unhashable|hashable"),
        (b"!!python/object/apply:os.system [true]", "application/yaml", "could not determine a constructor"),
        (b"a: \xff", "application/yaml", "."),
        (b'"\xff"', "application/json", "."),
        (b"k8s\0\x0a\xff", "application/vnd.kubernetes.protobuf", "."),
    ],
)
def test_bodies_that_nobody_may_walk_are_refused_before_anybody_does(body: bytes, media: str, words: str) -> None:
    with pytest.raises(bodies.Unreadable, match=words):
        bodies.read(body, media)


def test_yaml_is_read_as_kubernetes_reads_it() -> None:
    assert bodies.read(b"a: 2026-01-01\n5: b\nc: {d: [1, true, null]}\n", "application/apply-patch+yaml") == {
        "a": "2026-01-01",
        "5": "b",
        "c": {"d": [1, True, None]},
    }
    assert bodies.read(b"[" * 100 + b"]" * 100, "application/json")
    assert bodies.read(b"", "application/json") == {}


def test_variables_that_refer_to_each_other_have_an_end() -> None:
    doubled = [{"name": "A0", "value": "x" * 1000}, *({"name": f"A{n + 1}", "value": f"$(A{n})$(A{n})"} for n in range(40))]
    many = [{"name": f"B{n}", "value": "x" * 100_000} for n in range(100)]
    secret = {"kind": "Secret", "data": {"k": "eHh4" * 100_000}}
    sources = [{"secretRef": {"name": "s"}}] * 1000
    for container in ({"env": doubled}, {"env": many}, {"envFrom": sources}):
        with pytest.raises(pod_env.ConfigError, match="comes to more than"):
            pod_env.environment({"metadata": {}, "spec": {}}, container, lambda *_: secret)
    with pytest.raises(pod_env.ConfigError, match="comes to more than"):
        pod_env.expanded(["$(A)"] * 1000, {"A": "x" * 100_000})


async def test_what_is_remembered_of_large_objects_has_an_end_and_so_has_what_waits_for_a_slow_reader() -> None:
    store, size = Store(None), 1024 * 1024
    slow, quick = store.subscribe("configmaps", bounded=True), store.subscribe("configmaps")
    first = store.version
    for number in range(LOG_SIZE // size * 3):
        store.put("configmaps", {"metadata": {"name": "x", "namespace": "n"}, "data": {"k": f"{number}" + "x" * size}})
    assert slow.is_over
    assert len(slow.pending) == 0
    assert len(quick.pending) == LOG_SIZE // size * 3, "our own controllers miss nothing"
    with pytest.raises(Expired):
        store.subscribe("configmaps", since=first)
    assert len(store.subscribe("configmaps", since=store.version - 10).pending) == 10


async def test_events_go_an_hour_after_they_last_happened() -> None:
    store, now = Store(None), times.now()
    for name, seconds in (("old", -3601), ("new", -60), ("ahead", 10**15)):
        metadata = {"name": name, "namespace": "n", "uid": name, "creationTimestamp": times.stamp(now)}
        store.put("events", {"kind": "Event", "metadata": metadata, "lastTimestamp": times.stamp(times.after(now, seconds))})
    changes = store.subscribe("events")
    driving = asyncio.create_task(drive(Objects(store), EventCollector(Objects(store))))
    async with asyncio.timeout(10):
        (gone,) = await changes.wait()
    driving.cancel()
    assert (gone.type, gone.object["metadata"]["name"]) == ("DELETED", "old")
    assert [each["metadata"]["name"] for each in Objects(store).list(EVENTS)] == ["ahead", "new"]
