"""The pure core of the amqp trigger: which message is the same, what a pod is handed, what can't be a Job, how many may be in hand."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.engine import job_home
from jobyard.model import names
from jobyard.model.errors import Conflict, Forbidden, NoAnswer, NotFound, Rejected, Unauthorized
from jobyard.model.run import Reason, RunRequest
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow
from jobyard.triggers.amqp import json_text, keys
from jobyard.triggers.amqp.event_message import variables
from jobyard.triggers.amqp.form import Form, full_image
from jobyard.triggers.amqp.keys import IdSource, Kind, NoIdSource, read_source
from jobyard.triggers.amqp.message import Message, Unfit
from jobyard.triggers.amqp.orders import KEPT, order
from jobyard.triggers.amqp.payload import FOLDER, SECRET_LIMIT, VARIABLE_LIMIT, Payload
from jobyard.triggers.amqp.settings import Brokers, QueueSettings
from jobyard.triggers.amqp.verdicts import Fate, verdict
from jobyard.triggers.amqp.window import MOST, Window, must_close, opening

BROKERS = Brokers(urls=("amqp://localhost",))
FORM = Form(image="registry/worker:1.2", job_name="setup", version="1.2")


def settings(**more: Any) -> QueueSettings:
    return QueueSettings(**{"brokers": BROKERS, "queue": "customer-created", "job": FORM, **more})


def ask(message: Message, nonce: str = "n", **more: Any) -> RunRequest:
    return order("customers", "/", settings(**more), message, nonce, "jobs")


def body(content: Any = "hello", **more: Any) -> bytes:
    return json.dumps({"content": content, **more}).encode()


def container(request: RunRequest) -> dict[str, Any]:
    step = request.workflow.steps[0]
    assert step.job is not None
    found: dict[str, Any] = step.job.manifest["spec"]["template"]["spec"]["containers"][0]
    return found


def data(request: RunRequest) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in request.objects[0]["data"].items()}


# --- keys ---


def test_the_same_message_has_the_same_key_and_another_body_queue_host_or_id_another() -> None:
    source = IdSource()

    def key(vhost: str = "/", queue: str = "q", id_: str | None = "1", content: bytes = b"a", nonce: str = "n") -> str:
        return keys.key(vhost, queue, source, id_, content, nonce)

    assert key() == key(nonce="other")
    assert len({key(), key(vhost="x"), key(queue="x"), key(id_="2"), key(content=b"b"), key(id_=None), key(id_=None, nonce="m")}) == 7
    assert key(vhost="a", queue="bc") != key(vhost="ab", queue="c")
    assert key(id_="n") != key(id_=None)


@pytest.mark.parametrize(
    ("source", "message", "expected"),
    [
        ("message_id", Message(body=b"", message_id="7"), "7"),
        ("message_id", Message(body=b""), None),
        ("header:order", Message(body=b"", headers={"order": 7}), "7"),
        ("header:order", Message(body=b"", headers={"order": "7"}), '"7"'),
        ("header:order", Message(body=b"", headers={"order": {"a": 1}}), None),
        ("header:order", Message(body=b"", headers={"order": True}), None),
        ("header:order", Message(body=b""), None),
        ("json:/a/1/b~1c", Message(body=b'{"a": [0, {"b/c": "x"}]}'), '"x"'),
        ("json:/a/9", Message(body=b'{"a": [0]}'), None),
        ("content", Message(body=b"whatever"), ""),
    ],
)
def test_an_id_is_found_where_the_settings_say(source: str, message: Message, expected: str | None) -> None:
    assert keys.identity(read_source(source), message) == expected


def test_a_message_without_an_id_has_a_key_for_each_delivery() -> None:
    message = Message(body=body())
    assert ask(message, nonce="1").key != ask(message, nonce="2").key
    assert ask(message, id_from=IdSource(kind=Kind.CONTENT), nonce="1").key == ask(message, id_from=IdSource(kind=Kind.CONTENT)).key


def test_a_message_that_is_no_json_has_no_id_in_json() -> None:
    with pytest.raises(Unfit):
        keys.identity(read_source("json:/id"), Message(body=b"{"))


@pytest.mark.parametrize("text", ["", "id", "header:", "json:a", "json:", "content:x", "message_id:x"])
def test_what_is_no_source_of_ids_is_refused(text: str) -> None:
    with pytest.raises(NoIdSource):
        read_source(text)


# --- JSON as JavaScript writes it ---


@pytest.mark.parametrize(
    ("given_", "written"),
    [
        ('"hello"', '"hello"'),
        ('{"b": 1, "a": [1.0, 2.50, -0.0, 1e21, 1e-7, 0.000001, 123456789012345678901234567890]}', None),
        ('{"10": 1, "9": 2, "b": 3, "a": 4, "01": 5}', '{"9":2,"10":1,"b":3,"a":4,"01":5}'),
        ("1.0", "1"),
        ("2.50", "2.5"),
        ("-0.0", "0"),
        ("1e21", "1e+21"),
        ("1.5e300", "1.5e+300"),
        ("1e20", "100000000000000000000"),
        ("1e-7", "1e-7"),
        ("0.000001", "0.000001"),
        ("1e999", "null"),
        ('"\\ud800"', '"\\ud800"'),
        ('"é\\u0001\\u2028"', '"é\\u0001\u2028"'),
        ("true", "true"),
        ("null", "null"),
    ],
)
def test_content_is_written_as_javascript_does(given_: str, written: str | None) -> None:
    found = json_text.write(json_text.parse(given_))
    assert written is None or found == written


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_whatever_is_written_reads_the_same(value: Any) -> None:
    def same(a: Any, b: Any) -> bool:
        if isinstance(a, float) and not math.isfinite(a):
            return b is None
        if isinstance(a, float):
            return float(b) == a
        if isinstance(a, dict):
            return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        if isinstance(a, list):
            return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
        return bool(a == b)

    assert same(value, json.loads(json_text.write(value)))


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "[" * 100_000, "{'a': 1}"])
def test_what_is_no_json_is_said_to_be_none(text: str) -> None:
    with pytest.raises(json_text.NotJson):
        json_text.parse(text)


# --- kubernetes-event-jobs' messages and Jobs ---


def test_an_event_message_becomes_the_originals_variables() -> None:
    given_ = body({"a": 1}, environment={"EXTRA": "plain text", "COUNT": 2, "TARGET": "mine"})
    found = variables(given_, "jobs", "setup", "setup-abc")
    checksum = hashlib.sha1(b'jobs:setup:{"a":1}', usedforsecurity=False).hexdigest()
    assert found == {
        "ISSUER": "goci/kubernetes-event-job",
        "TARGET": "mine",
        "MESSAGE": '{"a":1}',
        "CHECKSUM": checksum,
        "EXTRA": "plain text",
        "COUNT": "2",
    }


@pytest.mark.parametrize(
    "given_", [b"no json", b"[]", b'"text"', b"{}", b'{"content": 1, "environment": ["A"]}', b"\xff", b'{"content": ' + b"[" * 5000]
)
def test_what_is_no_event_message_is_unfit_and_not_quoted(given_: bytes) -> None:
    with pytest.raises(Unfit) as caught:
        ask(Message(body=given_))
    assert given_.decode(errors="replace") not in str(caught.value)


def test_the_job_is_the_originals_field_by_field() -> None:
    form = Form(
        image=full_image("worker", "1.2", "registry"),
        job_name="setup",
        version="1.2",
        environment=({"name": "A", "value": "b"},),
        service_account="robot",
        resources={"requests": {"cpu": "1"}},
        labels={"team": "a", "jobitem": "mine"},
    )
    request = ask(Message(body=body(), message_id="1"), job=form)
    step = request.workflow.steps[0]
    assert step.job is not None
    job = step.job.manifest
    secret = request.objects[0]["metadata"]["generateName"]
    labels = {
        "team": "a",
        "app.kubernetes.io/component": "job",
        "app.kubernetes.io/managed-by": "goci-kubernetes-event-job",
        "jobgroup": "kubernetes-event-jobs",
        "app.kubernetes.io/name": "customer-created-processor",
        "app.kubernetes.io/version": "1.2",
        "app.kubernetes.io/part-of": "jobs",
        "jobitem": "setup",
    }
    assert job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"] == labels
    assert {**job["spec"], "template": None} == {
        "parallelism": 1,
        "backoffLimit": 5,
        "ttlSecondsAfterFinished": 21600,
        "activeDeadlineSeconds": 3600,
        "template": None,
    }
    assert job["spec"]["template"]["spec"] == {
        "restartPolicy": "OnFailure",
        "serviceAccountName": "robot",
        "containers": [
            {
                "name": "processor",
                "image": "registry/worker:1.2",
                "env": [{"name": "A", "value": "b"}],
                "envFrom": [{"secretRef": {"name": secret}}],
                "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "25m", "memory": "96Mi"}},
            }
        ],
    }
    assert secret == names.record("setup", request.run_id) + "-"
    assert data(request)["TARGET"].decode() == names.record("setup", request.run_id)
    assert request.objects[0]["immutable"] is True


def test_without_a_job_name_the_queue_names_the_jobs() -> None:
    assert ask(Message(body=body(), message_id="1"), job=replace(FORM, job_name=""), queue="Orders/New").prefix == "orders-new"


@given(queue=st.text(min_size=1), name=st.text(), version=st.text())
def test_whatever_a_queue_is_called_its_jobs_have_names_and_labels_that_kubernetes_takes(queue: str, name: str, version: str) -> None:
    request = ask(Message(body=body(), message_id="1"), queue=queue, job=replace(FORM, job_name=name, version=version))
    step = request.workflow.steps[0]
    assert step.job is not None
    assert names.is_object_name(names.record(request.prefix, request.run_id))
    for value in step.job.manifest["metadata"]["labels"].values():
        assert value == names.label_value(value)


# --- payloads ---


def test_a_runs_record_is_its_job_whatever_the_payload() -> None:
    for payload in Payload:
        request = ask(Message(body=body(), message_id="1"), payload=payload)
        assert job_home.is_plain(request)


def test_a_literal_payload_is_neither_expanded_nor_filled_nor_kept() -> None:
    hostile = "$(PATH) $$ {{ params.day }} {{ steps.a.outputs.b }}"
    request = ask(Message(body=body(hostile), message_id="1"), payload=Payload.ENV)
    entries = {each["name"]: each["value"] for each in container(request)["env"]}
    assert entries["MESSAGE"] == json.dumps(hostile).replace("$", "$$")
    assert job_home.is_plain(request)
    written = job_home.write_job(request, request.run_id)
    assert written is not None
    assert "params.day" not in json.dumps(written["metadata"])
    assert "params.day" in json.dumps(written["spec"])


def test_files_are_mounted_and_take_any_bytes() -> None:
    job = Workflow(name="w", steps=(Step(name="w", job=Template({"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}})),))
    request = ask(Message(body=b"\xff\0", message_id="1"), payload=Payload.FILE, job=job)
    assert data(request)["MESSAGE"] == b"\xff\0"
    assert container(request)["volumeMounts"][0]["mountPath"] == FOLDER
    with pytest.raises(Unfit):
        ask(Message(body=b"\xff\0", message_id="1"), job=job)


def test_what_is_too_large_is_unfit() -> None:
    fits = "x" * (VARIABLE_LIMIT - len("MESSAGE=") - 1 - 2)
    ask(Message(body=body(fits)))
    for payload, content in ((Payload.SECRET, fits + "x"), (Payload.ENV, fits + "x"), (Payload.FILE, "x" * SECRET_LIMIT)):
        with pytest.raises(Unfit):
            ask(Message(body=body(content)), payload=payload)


@pytest.mark.parametrize("name", ["", "A B", "ä", "a/b", "..", ".", "x" * 254, "A\n"])
def test_a_variable_whose_name_no_secret_takes_is_unfit(name: str) -> None:
    with pytest.raises(Unfit) as caught:
        ask(Message(body=body(environment={name: "v"})))
    assert name in ("", ".", "..") or name not in str(caught.value)


def test_a_job_stays_for_an_hour_after_its_release_at_least() -> None:
    def ttl(given_: int) -> Any:
        job = Workflow(
            name="w", steps=(Step(name="w", job=Template({"spec": {"ttlSecondsAfterFinished": given_, "template": {"spec": {}}}})),)
        )
        step = ask(Message(body=b"x"), job=job).workflow.steps[0]
        return step.job.manifest["spec"]["ttlSecondsAfterFinished"] if step.job else None

    assert [ttl(0), ttl(KEPT - 1), ttl(KEPT + 1)] == [KEPT, KEPT, KEPT + 1]


# --- failures ---


def refused(kind: type[Rejected], status: int, reason: str = "Invalid") -> Rejected:
    return kind(action="create Job x", status=status, reason=reason, message="why")


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (Unfit(why="no"), Fate.SET_ASIDE),
        (refused(Rejected, 422), Fate.SET_ASIDE),
        (refused(Rejected, 413), Fate.SET_ASIDE),
        (refused(Forbidden, 403, "Forbidden"), Fate.SET_ASIDE),
        (refused(Rejected, 409, Reason.NAME_TAKEN), Fate.SET_ASIDE),
        (refused(Forbidden, 403, Reason.NO_RIGHT), Fate.GIVEN_BACK),
        (refused(Unauthorized, 401), Fate.GIVEN_BACK),
        (refused(NotFound, 404), Fate.GIVEN_BACK),
        (refused(Conflict, 409, "AlreadyExists"), Fate.GIVEN_BACK),
        (NoAnswer(what="nothing"), Fate.GIVEN_BACK),
        (TimeoutError(), Fate.GIVEN_BACK),
        (RuntimeError("secret"), Fate.GIVEN_BACK),
    ],
)
def test_only_what_never_passes_sets_a_message_aside(error: BaseException, fate: Fate) -> None:
    found = verdict(error)
    assert found.fate is fate
    assert "secret" not in found.why


# --- the window ---


class Broker:
    """A broker and runs, as the window must take them: at any moment anything that may happen."""

    def __init__(self, limit: int, waiting: int) -> None:
        self.limit, self.waiting = limit, waiting
        self.prefetch = 0
        self.mine: list[bool] = []
        """In hand from the open consumer: whether each was launched."""
        self.earlier: list[bool] = []
        self.acknowledged = 0
        """Unfinished runs whose messages were acknowledged."""
        self.done = 0
        self.most = 0

    @property
    def window(self) -> Window:
        return Window(slots=self.limit, active=self.acknowledged, earlier=len(self.earlier), prefetch=self.prefetch)

    def events(self) -> list[str]:
        found = []
        if self.prefetch and len(self.mine) < self.prefetch and self.waiting:
            found.append("deliver")
        if False in self.mine or False in self.earlier:
            found.append("launch")
        if True in self.mine or True in self.earlier:
            found.append("acknowledge")
        if self.acknowledged:
            found.append("end")
        if not self.prefetch and opening(self.window):
            found.append("open")
        return found

    def close(self) -> None:
        self.earlier += self.mine
        self.mine, self.prefetch = [], 0

    def do(self, event: str) -> None:
        match event:
            case "deliver":
                self.waiting -= 1
                self.mine.append(False)
            case "launch":
                hand = self.mine if False in self.mine else self.earlier
                hand[hand.index(False)] = True
            case "acknowledge":
                if True in self.mine and must_close(self.window, is_open_ones=True, leaves_active=True):
                    self.close()
                hand = self.mine if True in self.mine else self.earlier
                hand.remove(True)
                self.acknowledged += 1
            case "end":
                self.acknowledged -= 1
                self.done += 1
            case "open":
                self.prefetch = opening(self.window)
        self.most = max(self.most, self.acknowledged + len(self.mine) + len(self.earlier))


@given(st.data(), st.integers(1, 8), st.integers(0, 30))
def test_the_window_keeps_the_limit_whatever_happens_and_always_goes_on(data: st.DataObject, limit: int, waiting: int) -> None:
    broker = Broker(limit, waiting)
    while broker.done < waiting:
        events = broker.events()
        assert events, "nothing can happen any more, and messages are left"
        broker.do(data.draw(st.sampled_from(events)))
        assert broker.most <= limit
        assert broker.window.set_aside <= limit
        # A message that was launched never has to wait for a run to end.
        assert not (True in broker.mine + broker.earlier and "acknowledge" not in events + broker.events())


def test_a_window_takes_no_more_in_hand_than_is_of_use() -> None:
    assert opening(Window(slots=10**6, active=5)) == MOST
    assert opening(Window(slots=10, active=10)) == 0
    assert not must_close(Window(slots=10**6, active=5, prefetch=MOST), is_open_ones=True, leaves_active=True)
