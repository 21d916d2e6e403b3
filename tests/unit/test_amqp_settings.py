"""What a service's settings may say of queues of RabbitMQ, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from jobyard.model.workflow import Workflow
from jobyard.service.amqp_settings import trigger_name
from jobyard.service.settings import read_settings
from jobyard.triggers.amqp.form import Form
from jobyard.triggers.amqp.keys import IdSource, Kind
from jobyard.triggers.amqp.payload import Payload
from jobyard.triggers.amqp.settings import DeadLetters, QueueSettings, Tls
from tests.manifests import job, step, workflow

HEAD = """\
apiVersion: jobyard.dev/v1
kind: Service
spec:
  namespace: jobs
  namespaces: [reports]
  triggers:
    - name: shop
      amqp:
"""


def read(folder: Path, amqp: str, **env: str) -> tuple[list[QueueSettings], list[str], list[str]]:
    """The queues, the mistakes, the warnings."""
    (folder / "job.yaml").write_text(yaml.safe_dump(job("setup")))
    steps = workflow("two", step("a"), step("b"))
    (folder / "flow.yaml").write_text(yaml.safe_dump(steps))
    file = folder / "jobyard.yaml"
    file.write_text(HEAD + "".join(f"        {line}\n" for line in amqp.splitlines()))
    found, findings = read_settings(file, env)
    said = [str(each).removeprefix(f"{folder}/") for each in findings if each.is_error]
    warned = [str(each).removeprefix(f"{folder}/") for each in findings if not each.is_error]
    queues = [each.source for each in found.triggers] if found else []
    assert all(isinstance(each, QueueSettings) for each in queues)
    return [each for each in queues if isinstance(each, QueueSettings)], said, warned


def test_all_that_may_be_said(tmp_path: Path) -> None:
    text = """\
url: [{env: URL}, "amqps://other/x"]
tls: {ca: ca.pem, cert: c.pem, key: k.pem}
queues:
  - queue: customer-created
    job: job.yaml
    namespace: reports
    limit: {env: LIMIT}
    idFrom: header:order
    payload: file
    deadLetter: {exchange: dlx, routingKey: k}
  - queue: Other/queue
    limit: unlimited
    deadLetter: {enabled: false}
    job: {image: worker, imageVersion: "1.10", registry: r.io, environment: {A: b}, labels: {team: x}, serviceAccount: robot, timeout: 60}
"""
    (first, second), mistakes, warnings = read(tmp_path, text, URL="amqp://me:hush@host/x", LIMIT="3")
    assert (mistakes, warnings) == ([], [])
    assert first.brokers.urls == ("amqp://me:hush@host/x", "amqps://other/x")
    assert "hush" not in repr(first)
    assert first.brokers.tls == Tls(ca="ca.pem", cert="c.pem", key="k.pem")
    assert (first.queue, first.namespace, first.limit, first.payload) == ("customer-created", "reports", 3, Payload.FILE)
    assert first.id_from == IdSource(kind=Kind.HEADER, name="order")
    assert first.dead_letters == DeadLetters(exchange="dlx", routing_key="k")
    assert isinstance(first.job, Workflow)
    assert (second.limit, second.dead_letters, second.namespace) == (None, None, "")
    assert second.job == Form(
        image="r.io/worker:1.10",
        version="1.10",
        timeout=60,
        environment=({"name": "A", "value": "b"},),
        labels={"team": "x"},
        service_account="robot",
        restricted=True,
    )


def test_each_queue_is_a_trigger_of_its_own_name(tmp_path: Path) -> None:
    assert trigger_name("shop", "customer-created") == "shop.customer-created"
    names = {trigger_name("shop", each) for each in ("a/b", "a-b", "A/b", "x" * 255, "x" * 254 + "y")}
    assert len(names) == 5
    assert all(len(each) < 100 and "/" not in each for each in names)


def test_a_broker_is_named_by_its_parts(tmp_path: Path) -> None:
    text = 'host: h\nvhost: team/a\nuser: "me:you"\npassword: {env: P}\nqueues: [{queue: q, job: job.yaml}]'
    (found,), mistakes, _ = read(tmp_path, text, P="p@/w")
    assert mistakes == []
    assert found.brokers.urls == ("amqp://me%3Ayou:p%40%2Fw@h:5672/team%2Fa",)
    (found,), _, _ = read(tmp_path, "tls: {}\nqueues: [{queue: q, job: job.yaml}]")
    assert found.brokers.urls == ("amqps://guest:guest@localhost:5671/%2F",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("queues: []", "queues"),
        ("queues: [{queue: q}]", "job"),
        ("queues: [{queue: q, job: nosuch.yaml}]", "nosuch.yaml does not exist"),
        ("queues: [{queue: q, job: job.yaml}, {queue: q, job: job.yaml}]", "a second time the same queue"),
        ("queues: [{queue: q, job: job.yaml, idFrom: id}]", "message_id, header:NAME"),
        ("queues: [{queue: q, job: job.yaml, limit: 0}]", "limit"),
        ("queues: [{queue: q, job: job.yaml, limt: 1}]", "did you mean"),
        ("queues: [{queue: q, job: job.yaml, namespace: elsewhere}]", "one of jobs, reports"),
        ("queues: [{queue: q, job: flow.yaml, payload: env}]", "a workflow of several steps"),
        ("queues: [{queue: q, job: job.yaml, deadLetter: {routingKey: q}}]", "the queue itself"),
        ("url: http://me:hush@host\nqueues: [{queue: q, job: job.yaml}]", "not one of a broker"),
        ("url: amqp://host\nhost: h\nqueues: [{queue: q, job: job.yaml}]", "both url and host"),
        ("queues: [{queue: q, job: {imageVersion: '1'}}]", "image"),
    ],
)
def test_a_mistake_is_told_at_its_place_and_no_password_with_it(tmp_path: Path, text: str, said: str) -> None:
    _, mistakes, _ = read(tmp_path, text)
    assert mistakes
    assert any(said in each for each in mistakes), mistakes
    assert all("hush" not in each and each.split(":")[1].isdigit() for each in mistakes)


def test_a_password_in_plain_is_warned_of(tmp_path: Path) -> None:
    _, _, warnings = read(tmp_path, 'url: "amqp://me:hush@host/"\nqueues: [{queue: q, job: job.yaml}]')
    assert len(warnings) == 1
    assert "hush" not in warnings[0]
