"""One Job for each message, on a real RabbitMQ: nothing lost, nothing twice, the limit exact, and every trouble in words."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobyard import external
from jobyard.cluster.client import HttpCluster
from jobyard.contracts import Engine
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.limit_settings import set_limit
from jobyard.engine.namespace import Options
from jobyard.model import names
from jobyard.model.errors import NoAnswer
from jobyard.model.job import read as read_job
from jobyard.model.objects import CONFIG_MAPS, JOBS, SECRETS, WHOLE_JOBS, Job
from jobyard.model.run import Run, RunRequest
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow
from jobyard.patience import Backoff
from jobyard.supervise import Report, Restarts, Stage, Supervised, Through
from jobyard.triggers.amqp.form import Form
from jobyard.triggers.amqp.payload import FOLDER, Payload
from jobyard.triggers.amqp.settings import Brokers, DeadLetters, QueueSettings
from jobyard.triggers.amqp.trigger import AmqpTrigger
from tests.conftest import ClusterUnderTest
from tests.e2e.conftest import COMMAND, environment
from tests.manifests import job
from tests.rabbitmq.people import Person, person
from tests.rabbitmq.server import VirtualHost
from tests.rabbitmq.wire import open_wire
from tests.waiting import BOUND

QUEUE = "orders"


class Soon(Backoff):
    """Whatever was asked for."""

    def delay(self, failures: int, chance: float, asked: float | None = None) -> float:
        return 0.05


SOON = Restarts(backoff=Soon(first=0.05, longest=0.2))
SERVED = Options(service="jobyard")


def runs(script: str = "true", **spec: Any) -> Workflow:
    manifest = job("order", script, ttlSecondsAfterFinished=0, **spec)
    return Workflow(name="order", steps=(Step(name="order", job=Template(manifest, literal=True)),))


def settings(vhost: VirtualHost, url: str = "", **more: Any) -> QueueSettings:
    return QueueSettings(**{"brokers": Brokers(urls=(url or vhost.url,)), "queue": QUEUE, "job": runs(), **more})


class Served:
    """A queue that is served."""

    def __init__(self, cluster: HttpCluster, namespace: str, engine: ClusterEngine, trigger: AmqpTrigger, report: Report) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.engine = engine
        self.trigger = trigger
        self.report = report

    async def jobs(self) -> list[Job]:
        return await self.cluster.list(JOBS, self.namespace, labels=names.SELECTOR)

    async def until_jobs(self, holds: Callable[[list[Job]], bool]) -> list[Job]:
        """The namespace's Jobs, as soon as they are as wanted."""
        seen: dict[str, Job] = {}
        async with asyncio.timeout(BOUND):
            async for change in self.cluster.watch(JOBS, self.namespace, labels=names.SELECTOR):
                if change.type == "SEEN" and change.object is not None:
                    seen[change.object.metadata.uid] = change.object
                elif change.type == "GONE":
                    seen.pop(change.uid, None)
                if change.type != "LOST_TOUCH" and holds(list(seen.values())):
                    return list(seen.values())
        raise AssertionError

    async def until_said(self, word: str) -> str:
        """Why it does not go on, once that has this word."""
        async with asyncio.timeout(BOUND):
            while not (self.report.health.stage is Stage.BACKING_OFF and word in self.report.health.error):
                await self.report.changed.wait()
        return self.report.health.error


def are(count: int) -> Callable[[list[Job]], bool]:
    return lambda jobs: len(jobs) >= count


def released(count: int) -> Callable[[list[Job]], bool]:
    return lambda jobs: sum(names.ENDED in each.metadata.labels for each in jobs) >= count


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Asks again and again, a broker say, that tells nothing by itself."""
    async with asyncio.timeout(BOUND):
        while True:
            if await holds():
                return


@asynccontextmanager
async def serving(
    cluster: HttpCluster,
    namespace: str,
    asked: QueueSettings,
    through: Callable[[Engine], Engine] = lambda engine: engine,
    restarts: Restarts = SOON,
) -> AsyncIterator[Served]:
    async with open_engine(cluster, SystemClock(), namespace, SERVED) as engine:
        trigger, clock = AmqpTrigger("orders", asked, namespace), SystemClock()
        report = Report("orders", clock)
        adopting = asyncio.create_task(engine.adopt())
        running = asyncio.create_task(Supervised(trigger, report, clock, restarts).run(through(engine)))
        try:
            yield Served(cluster, namespace, engine, trigger, report)
        finally:
            for task in (running, adopting):
                task.cancel()
            await asyncio.gather(running, adopting, return_exceptions=True)


@pytest.fixture
async def producer(vhost: VirtualHost) -> AsyncIterator[Person]:
    """Somebody who publishes to a queue that is there."""
    vhost.declare(QUEUE)
    async with person(vhost) as found:
        yield found


# --- what it is for ---


@pytest.mark.parametrize("payload", [Payload.SECRET, Payload.ENV, pytest.param(Payload.FILE, marks=pytest.mark.bubblewrap)])
async def test_each_message_is_handed_to_a_job_of_its_own(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person, payload: Payload
) -> None:
    value = f"$(cat {FOLDER}/MESSAGE)" if payload is Payload.FILE else "$MESSAGE"
    asked = settings(vhost, job=runs(f"case \"{value}\" in 'hello-'?' $''(QUEUE)') exit 0;; esac; exit 1"), payload=payload)
    for number in range(3):
        await producer.publish(QUEUE, f"hello-{number} $(QUEUE)".encode(), f"id-{number}")
    async with serving(cluster, namespace, asked) as served:
        jobs = await served.until_jobs(released(3))
        assert [each.metadata.labels[names.STATE] for each in jobs] == ["succeeded"] * 3
    assert await producer.waiting(QUEUE) == 0
    owners = [each.metadata.owner_references[0].uid for each in await cluster.list(SECRETS, namespace, labels=names.SELECTOR)]
    assert sorted(owners) == ([] if payload is Payload.ENV else sorted(each.metadata.uid for each in jobs))


async def test_an_event_message_becomes_the_originals_job(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    await producer.publish(QUEUE, b'{"content": {"a": 1}, "environment": {"EXTRA": "plain"}}', "1")
    async with serving(cluster, namespace, settings(vhost, job=Form(image="worker:1", job_name="setup"))) as served:
        (made,) = await served.until_jobs(are(1))
        await until(lambda: _is_empty(producer))
        whole = await cluster.get(WHOLE_JOBS, namespace, made.metadata.name)
        assert made.metadata.name.startswith("setup-")
        (container,) = whole.spec["template"]["spec"]["containers"]
        (secret,) = await cluster.list(SECRETS, namespace, labels=names.SELECTOR)
        assert container["envFrom"] == [{"secretRef": {"name": secret.metadata.name}}]


async def _is_empty(producer: Person) -> bool:
    return await producer.waiting(QUEUE) == 0


async def test_a_message_that_is_published_twice_is_one_job_and_another_body_another(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    for body in (b"a", b"a", b"b", b"a"):
        await producer.publish(QUEUE, body, "same")
    async with serving(cluster, namespace, settings(vhost)) as served:
        await served.until_jobs(released(2))
        await producer.publish(QUEUE, b"a", "same")
        await producer.publish(QUEUE, b"c", "same")
        await served.until_jobs(released(3))
        await until(lambda: _is_empty(producer))
        assert len(await served.jobs()) == 3, "a Job that was released still answers for its message"


async def test_messages_without_an_id_are_all_run_and_that_is_said_once(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(4):
        vhost.publish(QUEUE, b"the same")
    with caplog.at_level(logging.WARNING, "jobyard.amqp"):
        async with serving(cluster, namespace, settings(vhost)) as served:
            await served.until_jobs(released(4))
            assert served.trigger.memory.without_id == 4
    assert sum("has no id" in each.getMessage() for each in caplog.records) == 1


# --- the limit ---


async def test_the_limit_is_exact_and_nothing_is_held_while_it_is_full(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    for number in range(9):
        await producer.publish(QUEUE, b"x", str(number))
    most = 0

    def note(jobs: list[Job]) -> bool:
        nonlocal most
        most = max(most, sum(not read_job(each).state.is_end and names.ENDED not in each.metadata.labels for each in jobs))
        return released(9)(jobs)

    async with serving(cluster, namespace, settings(vhost, job=runs("sleep 0.3"), limit=3)) as served:
        watching = asyncio.create_task(served.until_jobs(note))
        await served.until_jobs(are(3))
        await until(lambda: _is(producer, 6))
        await watching
    assert most == 3
    assert await producer.waiting(QUEUE) == 0


async def _is(producer: Person, count: int) -> bool:
    return await producer.waiting(QUEUE) <= count


async def test_a_limit_of_the_namespace_holds_messages_in_their_queue(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    await set_limit(cluster, namespace, "namespace", "0")
    await producer.publish(QUEUE, b"x", "1")
    async with serving(cluster, namespace, settings(vhost)) as served:
        await asyncio.wait([asyncio.create_task(served.until_jobs(are(1)))], timeout=1)
        assert await producer.waiting(QUEUE) == 1
        await set_limit(cluster, namespace, "namespace", "1")
        await served.until_jobs(released(1))


async def test_runs_of_an_earlier_process_count_and_are_released(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    asked = settings(vhost, job=runs("sleep 3"), limit=1)
    await producer.publish(QUEUE, b"x", "1")
    await producer.publish(QUEUE, b"x", "2")
    async with serving(cluster, namespace, asked) as served:
        await served.until_jobs(are(1))
        await until(lambda: _is(producer, 1))
    async with serving(cluster, namespace, asked) as served:

        def one_at_a_time(jobs: list[Job]) -> bool:
            assert sum(not read_job(each).state.is_end for each in jobs) <= 1
            return released(2)(jobs)

        await served.until_jobs(one_at_a_time)


# --- what can't be a Job ---


async def test_what_can_not_be_a_job_is_set_aside_with_the_reason(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    await producer.publish(QUEUE, b"no json", "1", {"theirs": 7})
    await producer.publish(QUEUE, b'{"content": 1}', "2")
    async with serving(cluster, namespace, settings(vhost, job=Form(image="worker:1"))) as served:
        await served.until_jobs(are(1))
        await until(lambda: _is_there(producer, f"{QUEUE}.dead"))
        letter = await producer.take(f"{QUEUE}.dead")
        assert letter is not None
        assert (letter.body, letter.message_id, letter.headers["theirs"]) == (b"no json", "1", 7)
        assert letter.headers["x-jobyard-queue"] == QUEUE
        assert "not JSON" in str(letter.headers["x-jobyard-reason"])
    assert await producer.waiting(QUEUE) == 0


async def _is_there(producer: Person, queue: str) -> bool:
    with contextlib.suppress(Exception):
        return await producer.waiting(queue) > 0
    await producer.reopen()
    return False


async def test_what_the_cluster_refuses_for_good_is_set_aside_under_its_jobs_name(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    vhost.declare("mine")
    await producer.publish(QUEUE, b"x", "1")
    asked = settings(vhost, job=runs(backoffLimit=-1), dead_letters=DeadLetters(routing_key="mine"))
    async with serving(cluster, namespace, asked):
        await until(lambda: _is_there(producer, "mine"))
        letter = await producer.take("mine")
        assert letter is not None
        assert str(letter.headers["x-jobyard-job"]).startswith("order-")
        assert "backoffLimit" in str(letter.headers["x-jobyard-reason"])


async def test_where_a_message_can_not_be_set_aside_the_queue_stands_still_and_loses_nothing(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    await producer.publish(QUEUE, b"no json", "1")
    asked = settings(vhost, job=Form(image="worker:1"), dead_letters=DeadLetters(exchange="dlx"))
    async with serving(cluster, namespace, asked) as served:
        assert "set aside" in await served.until_said("there is no exchange dlx")
        assert await producer.waiting(QUEUE) == 1
        assert served.trigger.memory.given_back == 1
        vhost.broker.ask("PUT", f"/api/exchanges/{vhost.name.replace('/', '%2F')}/dlx", {"type": "fanout", "durable": True})
        assert "no queue takes it" in await served.until_said("no queue takes it")
        await served.until_said("jobyard triggers resume")
        assert served.trigger.memory.given_back == 2, "it is given back once for each failure, and no more"
        assert await producer.waiting(QUEUE) == 1
        vhost.declare("letters")
        vhost.broker.ask("POST", f"/api/bindings/{vhost.name.replace('/', '%2F')}/e/dlx/q/letters", {"routing_key": ""})
        served.trigger.resume()
        await until(lambda: _is_there(producer, "letters"))


async def test_with_dead_letters_turned_off_a_person_is_asked(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    await producer.publish(QUEUE, b"no json", "1")
    async with serving(cluster, namespace, settings(vhost, job=Form(image="worker:1"), dead_letters=None)) as served:
        await served.until_said("jobyard triggers resume")
        assert served.trigger.memory.given_back == 1
        assert await producer.waiting(QUEUE) == 1


# --- what passes ---


class Away(Through):
    """A cluster that is away for as long as it is told."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.is_away = True
        self.trials = 0

    async def submit(self, request: RunRequest) -> Run:
        if self.is_away:
            raise NoAnswer(what="the cluster is away")
        return await super().submit(request)

    async def try_out(self, request: RunRequest) -> None:
        self.trials += 1
        if self.trials >= 20:
            self.is_away = False
        if self.is_away:
            raise NoAnswer(what="the cluster is away")
        await super().try_out(request)


async def test_an_outage_of_the_cluster_costs_a_quorum_queue_one_delivery(cluster: HttpCluster, namespace: str, vhost: VirtualHost) -> None:
    vhost.declare(QUEUE, x_queue_type="quorum", x_delivery_limit=2)
    async with person(vhost) as producer:
        await producer.publish(QUEUE, b"x", "1")
        gone: list[Away] = []

        def through(engine: Engine) -> Engine:
            gone.append(Away(engine))
            return gone[0]

        async with serving(cluster, namespace, settings(vhost), through) as served:
            assert "the cluster is away" in await served.until_said("away")
            await served.until_jobs(released(1))
            assert served.trigger.memory.given_back == 1
            assert gone[0].trials >= 20


# --- crashes, cuts and restarts ---


class Dies:
    """As if the process were killed before or after a call, once."""

    def __init__(self, call: str, *, after: bool = False) -> None:
        self.call, self.is_after, self.times = call, after, 1

    def before(self, call: str) -> None:
        if not self.is_after:
            self._die(call)

    def after(self, call: str, seconds: float) -> None:
        if self.is_after:
            self._die(call)

    def _die(self, call: str) -> None:
        if self.call in call and self.times:
            self.times -= 1
            raise OSError("as if cut")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", ["create Job", "create Secret", "amqp: acknowledge", "amqp: consume no more", "amqp: consume orders"])
async def test_whatever_call_fails_each_message_is_one_job(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person, call: str, after: bool
) -> None:
    for number in range(4):
        await producer.publish(QUEUE, b"x", str(number))
    with external.observe(Dies(call, after=after)):
        async with serving(cluster, namespace, settings(vhost, limit=2)) as served:
            jobs = await served.until_jobs(released(4))
            await until(lambda: _is_empty(producer))
    assert len({each.metadata.uid for each in jobs}) == 4


@pytest.mark.parametrize("seed", range(3))
async def test_connections_that_are_cut_again_and_again_lose_nothing_and_double_nothing(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person, seed: int
) -> None:
    count = 60
    for number in range(count):
        await producer.publish(QUEUE, b"x", str(number))
    async with open_wire(vhost.broker.port, seed) as wire:
        wire.budget = (1500, 4500)
        asked = settings(vhost, vhost.url.replace(str(vhost.broker.port), str(wire.port)), limit=5)
        async with serving(cluster, namespace, asked) as served:
            await served.until_jobs(released(count))
            await until(lambda: _is_empty(producer))
            assert len(await served.jobs()) == count
        assert wire.cuts > 3


async def test_told_to_stop_it_ends_what_it_has_begun_and_takes_nothing_new(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    for number in range(40):
        await producer.publish(QUEUE, b"x", str(number))
    async with serving(cluster, namespace, settings(vhost, job=runs(suspend=True), limit=None)) as served:
        await served.until_jobs(are(1))
    jobs, left = len(await cluster.list(JOBS, namespace, labels=names.SELECTOR)), await producer.waiting(QUEUE)
    assert jobs + left == 40, "each is a Job, or waits, and none is both"


# --- troubles in words ---


async def test_a_queue_that_is_missing_is_waited_for_and_one_that_is_made_anew_is_used(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost
) -> None:
    async with serving(cluster, namespace, settings(vhost)) as served:
        assert f"queue {QUEUE} in virtual host {vhost.name} does not exist" in await served.until_said("does not exist")
        vhost.declare(QUEUE, x_max_length=1000)
        async with person(vhost) as producer:
            await producer.publish(QUEUE, b"x", "1")
            await served.until_jobs(released(1))
            vhost.delete(QUEUE)
            await served.until_said("orders in virtual host")
            vhost.declare(QUEUE)
            await producer.reopen()
            await producer.publish(QUEUE, b"x", "2")
            await served.until_jobs(released(2))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://guest:wrong-secret@127.0.0.1:{port}/", "does not accept the user or the password"),
        ("amqp://guest:guest@127.0.0.1:{port}/nowhere", "does not let the user into the virtual host"),
        ("amqp://guest:guest@127.0.0.1:1/", "does not listen"),
        ("amqp://guest:guest@no-such-host.invalid/", "can't be reached"),
    ],
)
async def test_a_broker_that_is_not_for_us_is_told_in_words(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, url: str, words: str
) -> None:
    async with serving(cluster, namespace, settings(vhost, url.format(port=vhost.broker.port))) as served:
        said = await served.until_said(words)
        assert "secret" not in said


async def test_an_account_that_may_only_read_is_enough_and_one_that_may_not_is_told(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person
) -> None:
    await producer.publish(QUEUE, b"x", "1")
    blind = vhost.add_user(f"blind{vhost.broker.port}", "pass")
    async with serving(cluster, namespace, settings(vhost, blind)) as served:
        assert 'the permission read "^orders$"' in await served.until_said("may not be read")
    reader = vhost.add_user(f"reader{vhost.broker.port}", "pass", read=f"^{QUEUE}$")
    async with serving(cluster, namespace, settings(vhost, reader)) as served:
        await served.until_jobs(released(1))
        await producer.publish(QUEUE, b"\xff", "2")
        said = await served.until_said("dead")
        assert f'configure "^{QUEUE}.dead$"' in said
        assert await producer.waiting(QUEUE) == 1


async def test_the_first_broker_that_answers_is_used(cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person) -> None:
    await producer.publish(QUEUE, b"x", "1")
    asked = settings(vhost)
    asked = replace(asked, brokers=Brokers(urls=("amqp://127.0.0.1:1/", vhost.url)))
    async with serving(cluster, namespace, asked) as served:
        await served.until_jobs(released(1))


@pytest.mark.parametrize("payload", [Payload.SECRET, Payload.ENV])
async def test_what_a_message_holds_is_told_nowhere(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person, payload: Payload, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "canary4711"
    with caplog.at_level(logging.DEBUG):
        async with serving(cluster, namespace, settings(vhost, payload=payload)) as served:
            for number, body in enumerate((canary.encode(), f"{canary}\0".encode(), b"\xff" + canary.encode())):
                await producer.publish(QUEUE, body, str(number), {"header": canary})
            await served.until_jobs(released(1))
            await until(lambda: _is_empty(producer))
            await until(lambda: _are_there(producer, f"{QUEUE}.dead", 2))
            (made,) = await served.jobs()
            whole = await cluster.get(WHOLE_JOBS, namespace, made.metadata.name)
            assert canary not in str(whole.metadata)
    assert canary not in caplog.text


async def _are_there(producer: Person, queue: str, count: int) -> bool:
    with contextlib.suppress(Exception):
        return await producer.waiting(queue) >= count
    await producer.reopen()
    return False


# --- served, as a user does it ---


async def test_a_service_serves_queues_each_by_itself_and_tells_of_them(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, producer: Person, under_test: ClusterUnderTest, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job("setup", 'test "$MESSAGE" = hello', ttlSecondsAfterFinished=600)))
    queues = [{"queue": QUEUE, "job": "job.yaml", "limit": 2}, {"queue": "missing", "job": "job.yaml"}]
    trigger = {"name": "shop", "amqp": {"url": {"env": "AMQP_URL"}, "queues": queues}}
    spec = {"namespace": namespace, "listen": "127.0.0.1:0", "replicas": 1, "triggers": [trigger]}
    file = tmp_path / "jobyard.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "jobyard.dev/v1", "kind": "Service", "spec": spec}))
    env = {**environment(), "AMQP_URL": vhost.url}
    where = ["--kubeconfig", str(under_test.kubeconfig), "-n", namespace]
    with subprocess.Popen([*COMMAND, "serve", str(file), *where], env=env, stderr=subprocess.PIPE, text=True) as serving_:
        try:
            for number in range(5):
                await producer.publish(QUEUE, b"hello", str(number))
            served = Served(cluster, namespace, None, None, None)  # type: ignore[arg-type]
            jobs = await served.until_jobs(released(5))
            assert {each.metadata.labels[names.STATE] for each in jobs} == {"succeeded"}
            assert {each.metadata.labels[names.TRIGGER] for each in jobs} == {f"shop.{QUEUE}"}
            told = ""

            async def is_told() -> bool:
                nonlocal told
                words = [*COMMAND, "triggers", "list", *where]
                done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=60, env=env, check=False)
                told = done.stdout
                return "queue missing in virtual host" in " ".join(told.split())

            await until(is_told)
            assert f"shop.{QUEUE}" in told
            assert "running" in told
        finally:
            serving_.terminate()
            _, said = serving_.communicate(timeout=30)
    assert serving_.returncode == 0, said
    assert "guest" not in said


async def test_event_jobs_is_a_drop_in_that_takes_changes_of_its_config_map(
    cluster: HttpCluster, namespace: str, vhost: VirtualHost, under_test: ClusterUnderTest
) -> None:
    """The original knows virtual host `/` alone."""
    own = VirtualHost(broker=vhost.broker, name="/")
    first, second = (f"{kind}-{namespace}" for kind in ("first", "second"))
    for queue in (first, second):
        own.declare(queue)
    entry = "jobName: setup\nimage: worker\nimageVersion: 1.10\nparallelism: 2\nenvironment: [{name: A, value: b}]\n"
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "queues"}, "data": {first: entry, second: "image: ["}}
    variables = {
        **environment(),
        "AMQP_HOST": "127.0.0.1",
        "AMQP_PORT": str(vhost.broker.port),
        "AQMP_USERNAME": "guest",
        "AQMP_PASSWORD": "guest",
        "CONFIG_MAP_NAME": "queues",
        "POD_NAMESPACE": namespace,
        "KUBERNETES_JOB_SCOPE": namespace,
        "REPLICAS": "1",
    }
    words = [*COMMAND, "compat", "event-jobs", "--port", "0", "--kubeconfig", str(under_test.kubeconfig)]
    for number in range(3):
        own.publish(first, b'{"content": "hello", "environment": {"EXTRA": "plain"}}', {"message_id": str(number)})
        own.publish(second, b'{"content": 1}', {"message_id": str(number)})
    served = Served(cluster, namespace, None, None, None)  # type: ignore[arg-type]
    with subprocess.Popen(words, env=variables, stderr=subprocess.PIPE, text=True) as serving_:
        try:
            await cluster.create(CONFIG_MAPS, namespace, manifest)
            jobs = await served.until_jobs(are(2))
            whole = await cluster.get(WHOLE_JOBS, namespace, jobs[0].metadata.name)
            assert whole.spec["template"]["spec"]["containers"][0]["image"] == "worker:1.10"
            assert {each.metadata.labels[names.TRIGGER] for each in jobs} == {first}
            (secret, *_) = await cluster.list(SECRETS, namespace, labels=names.SELECTOR)
            assert secret.metadata.owner_references[0].name.startswith("setup-")
            await cluster.patch(CONFIG_MAPS, namespace, "queues", {"data": {first: None, second: "image: late\nparallelism: 1"}})
            await served.until_jobs(lambda jobs: any(each.metadata.labels[names.TRIGGER] == second for each in jobs))
        finally:
            serving_.terminate()
            _, said = serving_.communicate(timeout=30)
            for queue in (first, second):
                own.delete(queue)
    assert serving_.returncode == 0, said
    assert f"ConfigMap queues in namespace {namespace}, {second}:2:1: not YAML" in said, "a bad entry is told at its place"
    assert len([each for each in await served.jobs() if each.metadata.labels[names.TRIGGER] == first]) == 2, "parallelism is 2, not 3"
