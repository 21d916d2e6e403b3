"""What the client makes of answers, and which call waits behind which. The server stands in this process."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.cluster.credentials import Credentials, StaticToken
from jobyard.cluster.transport import Answer
from jobyard.model.errors import CredentialsUnavailable, Forbidden, Unauthorized, Unavailable
from jobyard.model.objects import CONFIG_MAPS, JOBS, LEASES, PODS
from tests.faketime import in_fake_time
from tests.in_process import Asked, Serve, answer, client


def always(code: int, body: Any) -> Serve:
    async def serve(request: Asked) -> Answer:
        return answer(code, body)

    return serve


CALLS: list[Callable[[HttpCluster], Awaitable[object]]] = [
    lambda c: c.create(JOBS, "n", {"metadata": {"name": "a"}}),
    lambda c: c.get(JOBS, "n", "a"),
    lambda c: c.list(JOBS, "n"),
    lambda c: c.patch(JOBS, "n", "a", {}),
    lambda c: c.find_kind("batch/v1", "Job"),
    lambda c: c.may("create", JOBS, "n"),
]


@pytest.mark.parametrize(
    "body", [b"<html>Sign in</html>", b"", b"\xff", b"[]", b"{}", b"null", b'{"metadata": {"name": "\xff"}}', b"[" * 9000]
)
@pytest.mark.parametrize("call", CALLS, ids=["create", "get", "list", "patch", "find_kind", "may"])
async def test_an_answer_that_is_no_kubernetes_object_is_told_in_words(
    call: Callable[[HttpCluster], Awaitable[object]], body: bytes
) -> None:
    """An empty object is no empty list, either."""
    cluster = client(always(200, body))
    with pytest.raises(Unavailable, match="not a Kubernetes object"):
        await call(cluster)


NULLS = {
    "metadata": {"name": "a", "uid": "u", "labels": None, "annotations": None, "ownerReferences": None, "creationTimestamp": None},
    "spec": {"template": {"spec": None}, "suspend": None, "nodeName": None},
    "status": {"conditions": None, "containerStatuses": None, "startTime": None, "phase": None},
    "data": None,
    "binaryData": None,
}


@pytest.mark.parametrize("kind", [JOBS, PODS, CONFIG_MAPS, LEASES], ids=str)
async def test_null_is_as_if_the_field_were_not_there(kind: Any) -> None:
    cluster = client(always(200, {"kind": "List", "metadata": {"resourceVersion": "1", "continue": None}, "items": [NULLS]}))
    (found,) = await cluster.list(kind, "n")
    assert (found.metadata.labels, found.metadata.annotations, found.metadata.owner_references) == ({}, {}, ())


async def test_a_list_without_items_is_empty() -> None:
    cluster = client(always(200, {"metadata": {"resourceVersion": "1"}, "items": None}))
    assert await cluster.list(JOBS, "n") == []


async def test_one_object_that_cannot_be_read_is_left_out_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    odd = {"metadata": {"name": "odd", "uid": "o"}, "spec": {"parallelism": "many"}}
    listed = {"metadata": {"resourceVersion": "1"}, "items": [odd, {"metadata": {"name": "good", "uid": "g"}}, "what?"]}
    cluster = client(always(200, listed))
    with caplog.at_level(logging.WARNING, "jobyard.cluster"):
        for _ in range(3):
            assert [each.metadata.name for each in await cluster.list(JOBS, "n")] == ["good"]
    assert sum("Job odd can't be read" in line for line in caplog.messages) == 1
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("code", "body", "may"),
    [(201, {"status": {"allowed": True}}, True), (201, {"status": {"allowed": False}}, False), (403, {}, None), (404, {}, None)],
)
async def test_a_right_is_asked_for(code: int, body: dict[str, Any], may: bool | None) -> None:
    asked: list[dict[str, Any]] = []

    async def serve(request: Asked) -> Answer:
        asked.append(json.loads(request.body)["spec"]["resourceAttributes"])
        return answer(code, body)

    cluster = client(serve)
    assert await cluster.may("create", JOBS, "n") is may
    assert asked == [{"namespace": "n", "verb": "create", "group": "batch", "resource": "jobs", "subresource": ""}]


async def test_a_refusal_for_want_of_a_right_is_a_class_of_its_own() -> None:
    cluster = client(always(403, {"reason": "Forbidden", "message": "no"}))
    with pytest.raises(Forbidden, match="does not allow Jobyard to get Job a: no"):
        await cluster.get(JOBS, "n", "a")


async def test_401_is_asked_once_more_with_the_newest_credentials() -> None:
    class Renewed(Credentials):
        token = "old"

        async def header(self) -> str | None:
            return self.token

        def expire(self, used: str | None = None) -> None:
            self.token = "new"

    seen: list[str] = []

    async def serve(request: Asked) -> Answer:
        seen.append(request.headers["Authorization"])
        return answer(401, {})

    cluster = client(serve, Renewed())
    with pytest.raises(Unauthorized):
        await cluster.get(JOBS, "n", "a")
    assert seen == ["old", "new"]


@pytest.mark.parametrize("asked", ["²", "soon", "-1", "1.5", ""])
async def test_a_retry_after_that_is_no_number_asks_for_nothing(asked: str) -> None:
    async def serve(request: Asked) -> Answer:
        return answer(429, {}, retry_after=asked)

    cluster = client(serve)
    with pytest.raises(Unavailable) as refused:
        await cluster.get(JOBS, "n", "a")
    assert refused.value.retry_after is None


@pytest.mark.parametrize("asked", [300, 301, 10**9, 10**30])
@pytest.mark.parametrize("in_header", [True, False], ids=["header", "body"])
async def test_no_answer_makes_us_wait_longer_than_five_minutes(asked: int, in_header: bool) -> None:
    async def serve(request: Asked) -> Answer:
        details = {} if in_header else {"retryAfterSeconds": asked}
        return answer(429, {"details": details}, retry_after=str(asked) if in_header else None)

    cluster = client(serve)
    with pytest.raises(Unavailable) as refused:
        await cluster.get(JOBS, "n", "a")
    assert refused.value.retry_after == 300


async def test_a_token_that_no_header_can_bear_is_told_and_asked_for_anew() -> None:
    class Mended(StaticToken):
        def expire(self, used: str | None = None) -> None:
            self._token = "good"

    cluster = client(always(200, {"metadata": {"name": "a"}}), Mended("tok\u00e9n"))
    with pytest.raises(CredentialsUnavailable, match="a character that no token may contain") as told:
        await cluster.get(JOBS, "n", "a")
    assert "tok" not in str(told.value).replace("token", "")
    assert (await cluster.get(JOBS, "n", "a")).metadata.name == "a"


def test_a_lease_waits_behind_no_other_call() -> None:
    """Creates that hang fill the door, and 429 closes it for five minutes: a lease passes all the same."""

    async def serve(request: Asked) -> Answer:
        if "/leases" in request.path:
            return answer(200, {"metadata": {"name": "l"}})
        if request.method == "GET":
            return answer(429, {}, retry_after="300")
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def main() -> float:
        loop = asyncio.get_running_loop()
        cluster = client(serve)
        with pytest.raises(Unavailable):
            await cluster.get(JOBS, "n", "a")
        hanging = [asyncio.create_task(cluster.create(JOBS, "n", {"metadata": {"name": str(n)}})) for n in range(40)]
        begun = loop.time()
        await cluster.patch(LEASES, "n", "l", {})
        waited = loop.time() - begun
        for each in hanging:
            each.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        return waited

    assert in_fake_time(main()) < 1
