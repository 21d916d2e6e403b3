"""Each Role that we print is enough, and each verb of it is needed by something that Jobyard does, or missed without harm and said once.

Needs a cluster with RBAC: a real one.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobyard.access import Right
from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.cluster.rights import PARTS, needed
from jobyard.model.errors import NotFound, innermost
from tests import tours
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.restricted import restricted_kubeconfig
from tests.tours import Place

pytestmark = pytest.mark.timeout(400)

AT_ONCE = 14
"""Tours under way: the node makes about four Jobs a second."""
ENOUGH = timedelta(seconds=60)
GIVES_UP = timedelta(seconds=12)
BOUND, HANGS = 240.0, 60.0
"""Seconds after which a tour is ended; one that hangs without its right (nothing is heard, or nothing is explained) sooner."""
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "beside"}, "spec": {"clusterIP": "None", "selector": {"a": "b"}}}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "kept"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}
SAYS = {"configmaps": "without ConfigMaps", "events": "without events", "pods/log": "without pod logs", "leases": "lease tour"}
"""What the log says, once, of a resource that a part has to do without."""

Tour = Callable[[Place], Coroutine[Any, Any, None]]


RUN = needed(("run", "git"), secrets=True, kinds=("Service", "PersistentVolumeClaim"))
QUEUE = needed(("pgboss",))
MESSAGES = needed(("amqp",), secrets=True)

ONE, STEPS, LEADING, PAYLOAD = tours.of_one_job, tours.of_several_steps, tours.leading, tours.with_a_payload
SERVING = tours.serving
SECRETS, OTHERS = partial(tours.with_objects, objects=(tours.SECRET,)), partial(tours.with_objects, objects=(SERVICE, CLAIM))
PROVES: dict[str, Tour] = {
    "jobs": ONE,
    "pods": ONE,
    "pods/log": ONE,
    "configmaps": STEPS,
    "events": STEPS,
    "leases": LEADING,
    "secrets": SECRETS,
    "services": OTHERS,
    "persistentvolumeclaims": OTHERS,
}
"""Which tour uses a resource."""


@dataclass(frozen=True, kw_only=True)
class End:
    """What became of a tour."""

    failure: str
    warnings: tuple[str, ...]
    engines: int

    def names(self, right: Right, verb: str) -> bool:
        """Whether a person is told which right is missing: in the API server's words, or in ours."""
        told = " ".join([self.failure, *self.warnings])
        return f'cannot {verb} resource "{right.resource}"' in told or f"{verb} {right.resource}" in told


class Said(logging.Handler):
    """The warnings of this process, by a word in them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def about(self, word: str) -> tuple[str, ...]:
        return tuple(line for line in self.lines if word in line)


class Travel:
    """Sends tours on their way, each in a namespace and as an account of its own."""

    def __init__(self, admin: HttpCluster, kubeconfig: Path, folder: Path, said: Said) -> None:
        self._admin = admin
        self._kubeconfig = kubeconfig
        self._folder = folder
        self._said = said
        self._room = asyncio.Semaphore(AT_ONCE)

    async def go(
        self, tour: Tour, rights: Sequence[Right], gives_up: timedelta = GIVES_UP, *, of: Sequence[Right] = (), bound: float = BOUND
    ) -> End:
        """`of`: the set that the tour believes to have, where it has less."""
        async with self._room, self._namespace() as namespace:
            target = self._folder / namespace
            kubeconfig = await restricted_kubeconfig(self._admin, self._kubeconfig, namespace, target, tuple(rights))
            there = {right.resource for right in of or rights}
            missing = {resource for resource in SAYS if resource not in there}
            failure = ""
            async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
                place = Place(
                    admin=self._admin, cluster=cluster, namespace=namespace, folder=self._folder, missing=missing, gives_up=gives_up
                )
                try:
                    async with asyncio.timeout(bound):
                        await tour(place)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is what is asked for
                    failure = "".join(traceback.format_exception(innermost(error)))
            return End(failure=failure, warnings=self._said.about(namespace), engines=len(place.engines))

    @asynccontextmanager
    async def _namespace(self) -> AsyncIterator[str]:
        name = f"t-{uuid.uuid4().hex[:10]}"
        await self._admin.create_namespace(name)
        try:
            yield name
        finally:
            with suppress(NotFound):
                await self._admin.call("DELETE", f"/api/v1/namespaces/{name}", f"delete Namespace {name}")


@pytest.fixture
async def travel(under_test: ClusterUnderTest, cluster: HttpCluster, tmp_path: Path) -> AsyncIterator[Travel]:
    if under_test.name != KUBERNETES:
        pytest.skip("the local cluster has no RBAC: its token may do everything")
    said = Said()
    log = logging.getLogger("jobyard")
    log.addHandler(said)
    yield Travel(cluster, under_test.kubeconfig, tmp_path, said)
    log.removeHandler(said)


def less(rights: Sequence[Right], right: Right, *verbs: str) -> list[Right]:
    """The set without these verbs of a right."""
    left = [replace(each, verbs=tuple(verb for verb in each.verbs if verb not in verbs)) if each is right else each for each in rights]
    return [each for each in left if each.verbs]


async def test_each_printed_set_is_enough(travel: Travel) -> None:
    ways = [(RUN, tour) for tour in (ONE, STEPS, LEADING, SERVING, SECRETS, OTHERS)]
    ways += [(MESSAGES, tour) for tour in (ONE, STEPS, LEADING, SERVING, PAYLOAD)]
    ends = await asyncio.gather(travel.go(ONE, QUEUE, ENOUGH), *(travel.go(tour, rights, ENOUGH) for rights, tour in ways))
    assert [end.failure for end in ends if end.failure] == []
    queue, *others = ends
    assert [line for end in others for line in end.warnings] == []
    assert_said_once(queue, "configmaps", "events")


async def test_each_verb_is_needed(travel: Travel) -> None:
    cases = [(RUN, right, verb, PROVES[right.resource]) for right in RUN for verb in right.verbs]
    cases += [(QUEUE, right, verb, ONE) for right in QUEUE if not right.without for verb in right.verbs]
    cases += [(MESSAGES, right, "create", PAYLOAD) for right in MESSAGES if right.resource == "secrets"]

    def hangs(right: Right, verb: str) -> bool:
        return verb == "watch" or right.resource == "events"

    cases.sort(key=lambda case: not hangs(case[1], case[2]))
    ways = [
        travel.go(tour, less(rights, right, verb), of=rights, bound=HANGS if hangs(right, verb) else BOUND)
        for rights, right, verb, tour in cases
    ]
    ends = await asyncio.gather(*ways)
    for (_, right, verb, _), end in zip(cases, ends, strict=True):
        assert end.failure or (right.without and end.warnings), f"nothing needs {verb} {right.resource}"
        assert end.names(right, verb), f"{verb} {right.resource}: {end}"


async def test_what_may_be_left_out_is_missed_without_harm_and_said_once(travel: Travel) -> None:
    cases = [(rights, right) for rights in (RUN, QUEUE, MESSAGES) for right in rights if right.without]

    async def leave_out(rights: Sequence[Right], right: Right) -> None:
        tour = ONE if right.resource == "configmaps" else PROVES[right.resource]
        end = await travel.go(tour, less(rights, right, *right.verbs), ENOUGH)
        assert end.failure == ""
        assert_said_once(end, right.resource, *(("configmaps", "events") if rights is QUEUE else ()))

    await asyncio.gather(*(leave_out(*case) for case in cases))


def assert_said_once(end: End, *missed: str) -> None:
    """By each engine, or by the lease; logs by the one engine that was asked for them."""
    for resource in missed:
        lines = [line for line in end.warnings if SAYS[resource] in line]
        assert len(lines) == (end.engines if resource in ("configmaps", "events") else 1), end
    assert len(end.warnings) == sum(any(SAYS[each] in line for each in missed) for line in end.warnings), end


def test_what_is_proven_is_all_that_is_printed() -> None:
    """The page has the rights of `run`, and a message's Jobs those of a queue: their tours are the same."""
    assert PARTS["page"] == PARTS["run"]
    assert PARTS["amqp"][: len(PARTS["pgboss"])] == PARTS["pgboss"]
    assert {right.resource for right in (*RUN, *QUEUE, *MESSAGES)} == set(PROVES)
