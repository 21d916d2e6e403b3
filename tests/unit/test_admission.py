"""How a request becomes a run when the cluster refuses something: what is left of it, and how often it is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from jobyard.contracts import Cluster
from jobyard.engine import record as records
from jobyard.engine.admission import Admission
from jobyard.engine.attempt import job_name
from jobyard.engine.clock import SystemClock
from jobyard.engine.ledger import Ledger
from jobyard.engine.limiter import Limiter
from jobyard.engine.limits import LIMITS
from jobyard.engine.sight import Sight
from jobyard.model import names
from jobyard.model.errors import (
    Conflict,
    Forbidden,
    JobyardError,
    NoRoom,
    NotFound,
    PlaceUnavailable,
    Rejected,
    Unavailable,
)
from jobyard.model.objects import SECRETS, ConfigMap, Job, JobStatus, Kind, Manifest, Metadata
from jobyard.model.run import Role, RunRequest
from tests.faketime import in_fake_time
from tests.unit.samples import changed, flow, job_record, manifest, request, served

NO = Rejected(action="create Secret", status=405, reason="No", message="no Secrets here")
FULL = NoRoom(action="create", status=403, reason="Forbidden", message="exceeded quota")
HOOK = Forbidden(action="create", status=403, reason="Forbidden", message="the hook says no")


class Server:
    """Keeps what it is given, and refuses what `answers` says of the next creates of a kind."""

    def __init__(self, **answers: list[JobyardError]) -> None:
        self.answers = answers
        self.made: dict[tuple[str, str], Any] = {}
        self.sees_secrets = True
        self.created: list[str] = []

    async def create(self, kind: Kind[Any], namespace: str, tree: Manifest) -> Any:
        if refusals := self.answers.get(kind.name):
            raise refusals.pop(0)
        key = (kind.name, tree["metadata"]["name"])
        if key in self.made:
            raise Conflict(action="create", status=409, reason="AlreadyExists", message=key[1])
        self.made[key] = msgspec.convert(served(tree, key[1], 1), kind.struct)
        self.created.append(kind.name)
        return self.made[key]

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Any:
        if kind.name == "Secret" and not self.sees_secrets:
            raise Forbidden(action="get Secret", status=403, reason="Forbidden", message="no right")
        if (kind.name, name) not in self.made:
            raise NotFound(action="get", status=404, reason="NotFound", message=name)
        return self.made[kind.name, name]

    async def delete(self, kind: Kind[Any], namespace: str, name: str, *, uid: str = "", version: str = "") -> None:
        metadata = self.made[kind.name, name].metadata
        if uid != metadata.uid or version not in ("", metadata.resource_version):
            raise Conflict(action="delete", status=409, reason="Conflict", message=name)
        del self.made[kind.name, name]

    async def may(self, *_: Any, **__: Any) -> bool:
        return True

    def left(self) -> list[str]:
        return sorted(kind for kind, _ in self.made)

    def begin(self, *, ready: int = 0) -> None:
        """The Job has a pod, ready or not."""
        for key, job in self.made.items():
            if isinstance(job, Job):
                self.made[key] = msgspec.structs.replace(changed(job, version=7), status=JobStatus(active=1, ready=ready))

    async def patch(self, kind: Kind[Any], namespace: str, name: str, change: Manifest) -> Any:
        metadata = change["metadata"]
        self.made[kind.name, name] = changed(self.made[kind.name, name], version=8, annotations=metadata.get("annotations"))
        return self.made[kind.name, name]

    async def list(self, *_: Any, **__: Any) -> list[Any]:
        return []


def door(server: Server, **numbers: int) -> Admission:
    cluster, clock, sight = cast(Cluster, server), SystemClock(), Sight()
    data = {name: str(number) for name, number in numbers.items()}
    sight.see(ConfigMap(metadata=Metadata(name=LIMITS, uid="limits", resource_version="1"), data=data))
    ledger, limiter = Ledger(cluster, clock, "n", sight), Limiter(cluster, clock, "n", sight)
    return Admission(cluster, "n", sight, ledger, limiter, sight.see, gives_up=None)


def asked(**more: Any) -> RunRequest:
    """A run of one Job that waits for a Secret which comes with it."""
    first = request("k", key_names_workflow=True)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"p-{first.run_id}"}}
    tree = manifest({"name": "A", "valueFrom": {"secretKeyRef": {"name": f"p-{first.run_id}", "key": "a"}}})
    return request("k", workflow=flow(tree), objects=(secret,), key_names_workflow=True, **more)


def test_a_job_that_a_crash_left_without_its_secret_is_taken_back_when_that_is_refused() -> None:
    async def scene(change: Callable[[Server], None], left: list[str]) -> None:
        server = Server(Secret=[NO] * 9)
        with pytest.raises(Rejected, match="no Secrets here"):
            await door(server).admit(asked())
        assert server.left() == [], "by who made it"
        server.answers = {"Secret": [asyncio.CancelledError()]}  # type: ignore[list-item]
        with pytest.raises(asyncio.CancelledError):
            await door(server).admit(asked())
        assert server.left() == ["Job"], "its process died here"
        server.answers = {"Secret": [NO] * 9}
        change(server)
        if left == ["Job"] and server.sees_secrets:  # what has run had all it needs
            assert (await door(server).admit(asked()))[1]
        else:
            with pytest.raises(Rejected, match="no Secrets here"):
                await door(server).admit(asked())
        assert server.left() == left

    in_fake_time(scene(lambda server: server.begin(), []))
    in_fake_time(scene(lambda server: server.begin(ready=1), ["Job"]))
    in_fake_time(scene(lambda server: setattr(server, "sees_secrets", False), ["Job"]))


def test_a_run_that_a_person_sees_to_wait_is_not_one_job_and_a_record_beside_it() -> None:
    async def scene() -> None:
        server = Server(Secret=[NO])
        record, existed = await door(server).admit(asked(waits=False))
        assert not existed
        assert not isinstance(record, Job)
        assert server.left() == ["ConfigMap", "Secret"], "or the work would be done twice"

    in_fake_time(scene())


def test_a_source_that_waited_for_a_quota_has_its_three_tries_of_an_admission_hook() -> None:
    async def scene(hooked: int) -> None:
        server = Server(Job=[*[FULL] * 5, *[HOOK] * hooked])
        await door(server).admit(request("k", key_names_workflow=True))
        assert server.created == ["Job"]

    in_fake_time(scene(2))
    with pytest.raises(Forbidden, match="the hook says no"):
        in_fake_time(scene(3))


@pytest.mark.parametrize("home", ["Job", "ConfigMap"])
def test_an_object_of_an_earlier_run_that_takes_long_to_go_is_waited_for_and_no_refusal(home: str) -> None:
    """A finalizer may keep it for minutes."""

    class Slow(Server):
        going = True

        async def delete(self, kind: Kind[Any], namespace: str, name: str, *, uid: str = "", version: str = "") -> None:
            if not self.going or kind is not SECRETS:
                await super().delete(kind, namespace, name, uid=uid, version=version)

    async def scene() -> None:
        server, ask = Slow(), asked()
        if home == "ConfigMap":
            ask = request("k", workflow=flow(manifest(), manifest()), objects=ask.objects, key_names_workflow=True)
        name, earlier = ask.objects[0]["metadata"]["name"], request("old")
        labels = {names.MANAGED_BY: "jobyard", names.ROLE: "object", names.RUN: earlier.run_id, names.TRIGGER: "amqp"}
        owner = {"kind": "ConfigMap", "name": names.record("etl", earlier.run_id), "uid": "gone"}
        old = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]}}
        server.made["Secret", name] = msgspec.convert(served(old, name), SECRETS.struct)
        with pytest.raises(Unavailable, match="within 60 s"):
            await door(server).admit(ask)
        assert server.left() == sorted([home, "Secret"]), "the run is there: who asks again goes on with it"
        server.going = False
        record, _ = await door(server).admit(ask)
        assert type(record).__name__ == home
        assert names.INCOMPLETE not in record.metadata.annotations
        assert [owner.uid for owner in server.made["Secret", name].metadata.owner_references] == [record.metadata.uid]

    in_fake_time(scene())


class Busy(Server):
    """Answers every change of a limit's places with `answer`."""

    def __init__(self, answer: JobyardError) -> None:
        super().__init__()
        self.answer: JobyardError | None = answer
        self.patches = 0

    async def create(self, kind: Kind[Any], namespace: str, tree: Manifest) -> Any:
        if kind.name == "ConfigMap" and self.answer is not None:
            self.patches += 1
            raise self.answer
        return await super().create(kind, namespace, tree)


def test_what_is_refused_of_a_place_is_no_refusal_of_the_request() -> None:
    async def scene(answer: JobyardError) -> None:
        with pytest.raises(PlaceUnavailable, match="no place in a limit can be taken in namespace n"):
            await door(Busy(answer), namespace=5).admit(request("k", key_names_workflow=True))

    in_fake_time(scene(HOOK))
    in_fake_time(scene(Rejected(action="create", status=422, reason="Invalid", message="Too long")))


def test_who_is_slower_than_others_at_a_place_waits_for_it() -> None:
    async def scene() -> None:
        server = Busy(Conflict(action="patch", status=409, reason="Conflict", message="others are faster"))
        waiting = asyncio.create_task(door(server, namespace=5).admit(request("k", key_names_workflow=True)))
        await asyncio.sleep(60)
        assert not waiting.done()
        assert server.patches <= 300, "with a pause after each"
        server.answer = None
        assert isinstance((await waiting)[0], Job)

    in_fake_time(scene())


def either(key: str = "click-7", *, key_names_workflow: bool) -> RunRequest:
    """A run that is a Job where it starts at once, and a ConfigMap where it can't."""
    return request(key, trigger="page", key_names_workflow=key_names_workflow, waits=False)


class Slow(Server):
    """Each call takes a while. Of runs it tells by name alone."""

    async def create(self, kind: Kind[Any], namespace: str, tree: Manifest) -> Any:
        await asyncio.sleep(0.01)
        return await super().create(kind, namespace, tree)

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Any:
        await asyncio.sleep(0.01)
        return await super().get(kind, namespace, name)

    async def page(self, *_: Any, **__: Any) -> tuple[list[Any], str]:
        return [], ""


@pytest.mark.parametrize("key_names_workflow", [True, False])
def test_of_two_that_ask_for_the_same_run_in_one_moment_one_finds_the_run_of_the_other_in_its_home(key_names_workflow: bool) -> None:
    async def scene(later: float) -> None:
        server = Slow(Job=[FULL])

        async def second() -> tuple[Any, bool]:
            await asyncio.sleep(later)
            return await door(server).admit(either(key_names_workflow=key_names_workflow))

        first, other = await asyncio.gather(door(server).admit(either(key_names_workflow=key_names_workflow)), second())
        assert sorted(existed for _, existed in (first, other)) == [False, True]
        assert first[0].metadata.uid == other[0].metadata.uid
        assert len(server.left()) == 1

    for milliseconds in range(0, 60, 3):
        in_fake_time(scene(milliseconds / 1000))


@pytest.mark.parametrize("key_names_workflow", [True, False])
def test_a_run_that_could_not_start_at_once_is_found_when_it_is_asked_for_again(key_names_workflow: bool) -> None:
    async def scene() -> None:
        server = Slow(Job=[FULL])
        first, existed = await door(server).admit(either(key_names_workflow=key_names_workflow))
        assert (type(first), existed) == (ConfigMap, False)
        again, existed = await door(server).admit(either(key_names_workflow=key_names_workflow))
        assert (again.metadata.name, type(again), existed) == (first.metadata.name, ConfigMap, True)

    in_fake_time(scene())


def test_whose_name_the_job_of_the_same_run_in_the_other_home_has_finds_that_run() -> None:
    async def scene() -> None:
        server = Slow(Job=[FULL])
        asked = either(key_names_workflow=True)
        first, _ = await door(server).admit(asked)
        assert isinstance(first, ConfigMap)
        stored = records.stored(first, {})
        assert stored is not None
        name = job_name(stored.workflow, asked.run_id, Role.STEP, stored.workflow.steps[0].name, 1)
        assert name == first.metadata.name == job_record(asked).metadata.name, "one name in both homes"
        made = {**manifest(), "metadata": {"name": name, "labels": {names.RUN: asked.run_id, names.ROLE: "step"}}}
        server.made["Job", name] = msgspec.convert(served(made, "its Job"), Job)
        kept, calls = server.get, 0

        async def late(kind: Kind[Any], namespace: str, name: str) -> Any:
            nonlocal calls
            calls += kind.name == "ConfigMap"
            if kind.name == "ConfigMap" and calls == 1:  # it was asked for before it was made
                raise NotFound(action="get", status=404, reason="NotFound", message=name)
            return await kept(kind, namespace, name)

        server.get = late  # type: ignore[method-assign]
        again, existed = await door(server).admit(asked)
        assert (again.metadata.uid, existed) == (first.metadata.uid, True)
        assert server.left() == ["ConfigMap", "Job"]

    in_fake_time(scene())
