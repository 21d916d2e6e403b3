"""An election whose API server hangs, refuses or comes back: whoever leads stops acting before another may begin."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.cluster.lease import Leadership, Terms, open_leadership
from jobyard.cluster.transport import Answer
from jobyard.engine.clock import SystemClock
from jobyard.model.errors import Unavailable
from jobyard.model.objects import PODS
from tests.faketime import in_fake_time
from tests.in_process import Asked, answer, client

TERMS = Terms()


@dataclass
class Server:
    """An API server that keeps one Lease, and is silent or refuses when told to. It notes when it was asked."""

    silent: bool = False
    odd: bool = False
    """Answers what nobody foresaw."""
    refuses: int = 0
    spec: dict[str, Any] | None = None
    version: int = 0
    asked: list[float] = field(default_factory=list)

    async def __call__(self, request: Asked) -> Answer:
        self.asked.append(asyncio.get_running_loop().time())
        if "/leases" not in request.path:
            return answer(429, {}, retry_after="300")
        if self.silent:
            await asyncio.get_running_loop().create_future()
        if self.odd:
            raise ZeroDivisionError("unforeseen")
        if self.refuses:
            return answer(self.refuses, {"message": "the RoleBinding is gone"})
        if request.method == "GET" and self.spec is None:
            return answer(404, {})
        if request.method != "GET":
            change = json.loads(request.body)
            if self.spec is not None and change["metadata"].get("resourceVersion") != str(self.version):
                return answer(409, {})
            self.spec = {**(self.spec or {}), **change["spec"]}
            self.version += 1
        return answer(200, {"metadata": {"name": "l", "resourceVersion": str(self.version)}, "spec": self.spec})


def cluster(server: Server) -> HttpCluster:
    return client(server)


def leadership(server: Server, me: str = "me") -> Leadership:
    return Leadership(cluster(server), SystemClock(), "n", "l", me, TERMS)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("kind", ["silent", "403", "401", "500"])
def test_acting_ends_before_the_lease_does_whatever_hangs(kind: str) -> None:
    """With what a cancelled call may still take, it is over before another may take the Lease."""
    server = Server()

    async def main() -> tuple[float, list[float]]:
        part = leadership(server)
        running = asyncio.create_task(part.run())
        await part.opened()
        await asyncio.sleep(TERMS.look_every * 2.5)
        renewed = server.asked[-1]
        server.silent, server.refuses = kind == "silent", int(kind) if kind.isdigit() else 0
        await part.closed()
        ended, tries = now() - renewed, [each - renewed for each in server.asked if each > renewed]
        assert not part.leads
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return ended, tries

    ended, tries = in_fake_time(main())
    assert ended == pytest.approx(TERMS.give_up)
    assert ended < TERMS.duration
    assert len(tries) >= 3, "one attempt that hangs is not the only one"


def test_a_renewal_waits_for_no_other_call() -> None:
    server = Server()

    async def main() -> bool:
        client = cluster(server)
        part = Leadership(client, SystemClock(), "n", "l", "me", TERMS)
        with pytest.raises(Unavailable):
            await client.list(PODS, "n")  # 429: the door is closed for five minutes
        running = asyncio.create_task(part.run())
        await part.opened()
        await asyncio.sleep(120)
        still = part.leads and not part.trouble
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return still

    assert in_fake_time(main())


def test_a_renewal_is_one_call() -> None:
    server = Server()

    async def main() -> int:
        part = leadership(server)
        assert await part.run_once()
        before = len(server.asked)
        assert await part.run_once()
        return len(server.asked) - before

    assert in_fake_time(main()) == 1


@pytest.mark.parametrize("status", [401, 403, 400, 500])
def test_a_refusal_ends_no_election_and_is_said_once(status: int, caplog: pytest.LogCaptureFixture) -> None:
    server = Server()

    async def main() -> tuple[str, int]:
        async with open_leadership(cluster(server), SystemClock(), "n", "l", "me", TERMS) as part:
            await part.opened()
            server.refuses = status
            await part.closed()
            begun = len(server.asked)
            await asyncio.sleep(600)
            trouble, asked = part.trouble, len(server.asked) - begun
            server.refuses = 0
            async with asyncio.timeout(TERMS.duration + 1):
                await part.opened()
            assert part.trouble == ""
        return trouble, asked

    with caplog.at_level(logging.WARNING, "jobyard.lease"):
        trouble, asked = in_fake_time(main())
    assert "the RoleBinding is gone" in trouble
    calls = 2 if status == 401 else 1  # credentials may have been renewed: each time it is asked once more
    assert 60 * calls < asked < 180 * calls, "asked again, but ever more seldom"
    assert [line.split(": ")[-1][:24] for line in caplog.messages][-1] == "connected again"
    assert len(caplog.messages) == 2
    assert server.spec is not None
    assert server.spec["holderIdentity"] == "", "given back in the end"


def test_what_nobody_foresaw_ends_no_election(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()

    async def main() -> tuple[str, int]:
        async with open_leadership(cluster(server), SystemClock(), "n", "l", "me", TERMS) as part:
            await part.opened()
            server.odd = True
            await part.closed()
            begun = len(server.asked)
            await asyncio.sleep(600)
            trouble, asked = part.trouble, len(server.asked) - begun
            server.odd = False
            async with asyncio.timeout(TERMS.duration + 1):
                await part.opened()
            server.odd = True  # also giving it back may fail so
        return trouble, asked

    with caplog.at_level(logging.WARNING, "jobyard.lease"):
        trouble, asked = in_fake_time(main())
    assert trouble == "the cluster sent an answer that Jobyard can't handle (ZeroDivisionError: unforeseen); this is usually temporary"
    assert 60 < asked < 250, "asked again, but ever more seldom"
    assert [bool(each.exc_info) for each in caplog.records] == [True, False], "said once, with where it broke"


def test_two_never_act_at_once() -> None:
    """However calls of the one that leads hang, from whenever on, the other begins after it ended."""

    async def main(silent_after: float) -> list[tuple[float, str]]:
        server, other = Server(), Server()
        told: list[tuple[float, str]] = []
        first, second = leadership(server, "first"), leadership(other, "second")

        async def note(part: Leadership, name: str) -> None:
            await part.opened()
            told.append((now(), f"{name} begins"))
            await part.closed()
            told.append((now(), f"{name} ends"))

        noting = [asyncio.create_task(note(first, "first"))]
        running = [asyncio.create_task(first.run())]
        await first.opened()
        other.spec, other.version = server.spec, server.version
        noting.append(asyncio.create_task(note(second, "second")))
        running.append(asyncio.create_task(second.run()))
        end = now() + silent_after
        while now() < end:
            await asyncio.sleep(0.1)
            other.spec, other.version = server.spec, server.version
        server.silent = True
        await second.opened()
        await asyncio.sleep(0.1)
        for task in [*running, *noting]:
            task.cancel()
        await asyncio.gather(*running, *noting, return_exceptions=True)
        return told

    for tenth in range(60):
        told = {what: at for at, what in in_fake_time(main(tenth / 10))}
        assert told["first ends"] <= told["second begins"], told


def test_a_namespace_that_is_not_there_is_told() -> None:
    """Nothing can be created in it: that is no lease that another was faster to take."""
    server = Server(refuses=404)

    async def main() -> str:
        part = leadership(server)
        assert not await part.run_once()
        return part.trouble

    assert "not found: the RoleBinding is gone" in in_fake_time(main())


def test_a_lease_that_was_given_back_is_taken_up_within_a_second() -> None:
    server = Server()

    async def main() -> float:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(open_leadership(cluster(server), SystemClock(), "n", "l", "first", TERMS))
            await first.opened()
            async with open_leadership(cluster(server), SystemClock(), "n", "l", "heir", TERMS) as heir:
                await asyncio.sleep(10.3)
                assert not heir.leads
                begun = now()
                await stack.aclose()
                await heir.opened()
                return now() - begun

    assert in_fake_time(main()) <= 1.0
