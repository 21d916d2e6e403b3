"""What the service's port answers, apart from who may speak and how long (`contract/test_port`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobyard.port import App, Message
from jobyard.triggers.git.policy import Policy
from jobyard.triggers.git.repository import Repository, Source
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.trigger import GitTrigger
from tests.listener import application

HOOK = {"x-gitlab-token": "s3cret"}
PUSH = json.dumps({"ref": "refs/heads/main", "before": "0", "after": "c" * 40}).encode()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.loads(self.text)
        return found


async def ask(app: App, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
    sent: list[Message] = []
    received = [{"type": "http.request", "body": body}]

    async def receive() -> Message:
        return received.pop(0) if received else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await app({"type": "http", "path": path, "method": method, "headers": raw, "query_string": b""}, receive, send)
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], told, b"".join(each.get("body", b"") for each in sent[1:]).decode())


def trigger(folder: Path, name: str) -> GitTrigger:
    settings = Settings(policy=Policy(default_namespace="default"))
    return GitTrigger(Repository(Source(folder=folder, branch="main", remote="origin")), settings, "https://example.com/x.git", name=name)


async def test_a_webhook_reaches_its_trigger_and_the_only_one_at_the_old_path(tmp_path: Path) -> None:
    ops, etl = trigger(tmp_path, "ops"), trigger(tmp_path, "etl")
    both, one = application(10_000, "s3cret", ops, etl), application(10_000, "s3cret", ops)
    assert (await ask(both, "POST", "/webhooks/etl/gitlab", PUSH, HOOK)).status == 200
    assert (ops.wanted.is_set(), etl.wanted.is_set()) == (False, True)
    for path in ("/webhooks/gitlab", "/webhooks/gitlab/", "/webhooks/ops/gitlab/"):
        again = trigger(tmp_path, "ops")
        assert (await ask(application(10_000, "s3cret", again), "POST", path, PUSH, HOOK)).status == 200
        assert again.wanted.is_set()
    which = await ask(both, "POST", "/webhooks/gitlab", PUSH, HOOK)
    assert (which.status, which.text) == (404, "say which trigger: /webhooks/TRIGGER/gitlab, one of: ops, etl")
    assert (await ask(one, "POST", "/webhooks/opps/gitlab", PUSH, HOOK)).problem["detail"] == "no trigger opps; there are: ops"


async def test_an_error_is_a_problem_with_the_id_of_its_request_but_at_the_old_path_a_sentence(tmp_path: Path) -> None:
    app = application(1000, "s3cret", trigger(tmp_path, "ops"))
    refused = await ask(app, "POST", "/webhooks/ops/gitlab", PUSH, {"x-request-id": "me-1"})
    assert refused.problem == {
        "type": "about:blank",
        "status": 400,
        "detail": "Invalid webhook signature",
        "instance": "/webhooks/ops/gitlab",
        "request": "me-1",
    }
    assert refused.headers["x-request-id"] == "me-1"
    old = await ask(app, "POST", "/webhooks/gitlab", PUSH)
    assert (old.status, old.text) == (400, "Invalid webhook signature")
    odd = await ask(app, "GET", "/nowhere", headers={"x-request-id": "\x1b[2J" * 50})
    assert (odd.status, len(odd.headers["x-request-id"]), odd.problem["status"]) == (404, 32, 404)
    long = await ask(app, "POST", "/webhooks/ops/gitlab", b"x" * 1001, HOOK)
    assert long.problem["detail"] == "Payload Too Large: at most 1,000 bytes"


async def test_probes_may_ask_for_the_head_alone(tmp_path: Path) -> None:
    app = application(1000, "s3cret", trigger(tmp_path, "ops"))
    assert [(await ask(app, method, "/health")).status for method in ("GET", "HEAD", "POST")] == [200, 200, 405]
    starting = await ask(app, "GET", "/readyz")
    assert (starting.status, json.loads(starting.text)) == (503, {"ready": False, "state": "starting"})
