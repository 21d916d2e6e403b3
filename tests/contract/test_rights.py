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

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.cluster.rights import PARTS, Right, needed
from jobyard.model.errors import NotFound, innermost
from tests import tours
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.restricted import restricted_kubeconfig
from tests.tours import Place

pytestmark = pytest.mark.timeout(400)

AT_ONCE = 10
"""Tours under way: the node makes about four Jobs a second."""
ENOUGH = timedelta(seconds=60)
GIVES_UP = timedelta(seconds=5)
BOUND = 60.0
"""Seconds after which a tour that lacks a right and tells nothing is ended."""
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

    async def go(self, tour: Tour, rights: Sequence[Right], gives_up: timedelta = GIVES_UP) -> End:
        async with self._room, self._namespace() as namespace:
            target = self._folder / namespace
            kubeconfig = await restricted_kubeconfig(self._admin, self._kubeconfig, namespace, target, tuple(rights))
            there = {right.resource for right in rights}
            missing = {resource for resource in SAYS if resource not in there}
            failure = ""
            async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
                place = Place(
                    admin=self._admin, cluster=cluster, namespace=namespace, folder=self._folder, missing=missing, gives_up=gives_up
                )
                try:
                    async with asyncio.timeout(BOUND):
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


@pytest.mark.parametrize(
    ("rights", "tours_", "missed"),
    [
        pytest.param(RUN, (ONE, STEPS, LEADING, SECRETS, OTHERS), (), id="run and git"),
        pytest.param(QUEUE, (ONE,), ("configmaps", "events"), id="pgboss"),
        pytest.param(MESSAGES, (ONE, STEPS, LEADING, PAYLOAD), (), id="amqp"),
    ],
)
async def test_a_printed_set_is_enough(travel: Travel, rights: Sequence[Right], tours_: Sequence[Tour], missed: Sequence[str]) -> None:
    for end in await asyncio.gather(*(travel.go(tour, rights, ENOUGH) for tour in tours_)):
        assert end.failure == ""
        assert len(end.warnings) == len(missed) * end.engines, end.warnings
        assert all(SAYS[each] in " ".join(end.warnings) for each in missed)


@pytest.mark.parametrize("rights", [pytest.param(RUN, id="run and git"), pytest.param(QUEUE, id="pgboss")])
async def test_each_verb_is_needed(travel: Travel, rights: Sequence[Right]) -> None:
    cases = [(right, verb) for right in rights if not right.without for verb in right.verbs]
    ends = await asyncio.gather(*(travel.go(PROVES[right.resource], less(rights, right, verb)) for right, verb in cases))
    for (right, verb), end in zip(cases, ends, strict=True):
        assert end.failure, f"nothing needs {verb} {right.resource}"
        assert end.names(right, verb), f"{verb} {right.resource}: {end}"


async def test_the_payload_of_a_message_needs_its_right(travel: Travel) -> None:
    (secrets,) = (each for each in MESSAGES if each.resource == "secrets")
    end = await travel.go(PAYLOAD, less(MESSAGES, secrets, "create"))
    assert end.failure, "nothing needs it"
    assert end.names(secrets, "create"), end


@pytest.mark.parametrize(
    "rights", [pytest.param(RUN, id="run and git"), pytest.param(QUEUE, id="pgboss"), pytest.param(MESSAGES, id="amqp")]
)
async def test_what_may_be_left_out_is_missed_without_harm_and_said_once(travel: Travel, rights: Sequence[Right]) -> None:
    cases = [right for right in rights if right.without]
    base = [each for each in ("configmaps", "events") if each not in {right.resource for right in rights}]

    async def tour(right: Right) -> None:
        whole = ONE if right.resource == "configmaps" else PROVES[right.resource]
        end = await travel.go(whole, less(rights, right, *right.verbs), ENOUGH)
        assert end.failure == ""
        assert len(end.warnings) == 1 if whole is LEADING else (1 + len(base)) * end.engines, end.warnings
        assert SAYS[right.resource] in " ".join(end.warnings)

    await asyncio.gather(*(tour(right) for right in cases))


async def test_each_verb_of_what_may_be_left_out_is_used(travel: Travel) -> None:
    cases = [(right, verb) for right in RUN if right.without for verb in right.verbs]
    ends = await asyncio.gather(*(travel.go(PROVES[right.resource], less(RUN, right, verb)) for right, verb in cases))
    for (right, verb), end in zip(cases, ends, strict=True):
        assert end.names(right, verb), f"nothing misses {verb} {right.resource}: {end}"


def test_what_is_proven_is_all_that_is_printed() -> None:
    """The page has the rights of `run`, and a message's Jobs those of a queue: their own tours are these."""
    assert PARTS["page"] == PARTS["run"]
    assert PARTS["amqp"][: len(PARTS["pgboss"])] == PARTS["pgboss"]
    assert {right.resource for right in (*RUN, *QUEUE, *MESSAGES)} == set(PROVES)
