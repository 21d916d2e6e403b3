"""A queue of RabbitMQ as a source for the crash harness: one broker for all of a process' scenarios, a virtual host for each."""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import functools
import tempfile
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import aio_pika

from jobyard.cluster.client import HttpCluster
from jobyard.engine import incomplete, tidying
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.namespace import Options
from jobyard.model import names
from jobyard.model.objects import JOBS
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow
from jobyard.patience import Backoff
from jobyard.supervise import Report, Restarts, Supervised
from jobyard.triggers.amqp.settings import DEAD, Brokers, QueueSettings
from jobyard.triggers.amqp.trigger import AmqpTrigger
from tests.crash.place import Place
from tests.manifests import Tree, job
from tests.rabbitmq.server import Broker, VirtualHost, open_broker

QUEUE, ADDRESS = "orders", "address"
DEAD_ONE = "dead"
"""The name of a message that can't be a Job: it is not text."""
LOOK_EVERY = 0.05
SOON = Restarts(backoff=Backoff(first=0.1, longest=0.5))


@functools.cache
def broker() -> Broker:
    """Ends with this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobyard-rabbitmq-", ignore_cleanup_errors=True)))
    return stack.enter_context(open_broker(folder))


def fill(folder: Path, files: Mapping[str, Tree]) -> None:
    """A message for each file: its body is what its Job has to find, or, of the dead one, no text."""
    vhost = broker().create_virtual_host()
    vhost.declare(QUEUE, x_queue_type="quorum")
    for name in files:
        vhost.publish(QUEUE, b"\xff" if name == DEAD_ONE else name.encode(), {"message_id": name, "delivery_mode": 2})
    (folder / "done").mkdir()
    (folder / ADDRESS).write_text(vhost.url)
    (folder / "vhost").write_text(vhost.name)


def look(folder: Path) -> tuple[list[str], dict[str, str]]:
    """What is still in the queue, and how the rest ended. A dead letter may be there twice: it is told at least once."""
    vhost = VirtualHost(broker=broker(), name=(folder / "vhost").read_text())
    done = {file.name: file.read_text() for file in (folder / "done").glob("*")}
    left = [_name(each) for each in vhost.take_all(QUEUE)]
    return left, done | {_name(each): "dead" for each in vhost.take_all(QUEUE + DEAD)}


def _name(message: Mapping[str, Any]) -> str:
    return str(message["properties"].get("message_id", base64.b64decode(message["payload"])))


def opened(cluster: HttpCluster, namespace: str, folder: Path, process: int) -> AbstractAsyncContextManager[ClusterEngine]:
    """A service's engine: what its own died over is taken away."""
    return open_engine(cluster, SystemClock(), namespace, Options(service="jobyard"))


async def serve(place: Place) -> None:
    """Serves the queue until it is empty, and all that came of it is released; writes down how each run ended."""
    manifest = job("order", 'test "$MESSAGE" = good', ttlSecondsAfterFinished=0)
    flow = Workflow(name="order", steps=(Step(name="order", job=Template(manifest, literal=True)),))
    # Room for all: Jobs that lack their Secrets must not keep their own messages out, or they would be deleted after a minute and made again.
    settings = QueueSettings(brokers=Brokers(urls=((place.folder / ADDRESS).read_text(),)), queue=QUEUE, job=flow, limit=5)
    trigger, clock = AmqpTrigger("orders", settings, place.namespace), SystemClock()
    incomplete.LATE, tidying.EVERY = timedelta(seconds=10), timedelta(seconds=2)  # the harness waits for them
    adopting = asyncio.create_task(place.engine.adopt())
    serving = asyncio.create_task(Supervised(trigger, Report("orders", clock), clock, SOON).run(place.engine))
    try:
        while True:
            if await _is_over(place):
                break
            await asyncio.sleep(LOOK_EVERY)
    finally:
        for each in (serving, adopting):
            each.cancel()
        await asyncio.gather(serving, adopting, return_exceptions=True)


async def _is_over(place: Place) -> bool:
    records = await place.cluster.list(JOBS, place.namespace, labels=names.RECORD_SELECTOR)
    for each in records:
        if names.ENDED in each.metadata.labels:
            run = await place.engine.find(each.metadata.labels[names.RUN])
            (place.folder / "done" / run.origin["message"]).write_text(str(run.state))
    if not records or any(names.ENDED not in each.metadata.labels for each in records):
        return False
    async with await aio_pika.connect((place.folder / ADDRESS).read_text()) as link:
        return await _count(link, QUEUE) == 0 and await _count(link, QUEUE + DEAD) > 0


async def _count(link: aio_pika.abc.AbstractConnection, queue: str) -> int:
    with contextlib.suppress(aio_pika.exceptions.AMQPError):
        async with link.channel() as channel:
            return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0
    return 0
