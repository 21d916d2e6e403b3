"""Whether a trigger may have runs elsewhere: asked once, again only while it has, and remembered in bounds."""

from __future__ import annotations

import asyncio

from jobyard.engine import elsewhere
from jobyard.engine.elsewhere import Elsewhere, Home
from tests.faketime import in_fake_time

JOB, MAP = ("Job", "etl"), ("ConfigMap", "etl")


class Namespace:
    """Says what it holds, and counts how often it is asked."""

    def __init__(self, *held: tuple[str, Home]) -> None:
        self.held = set(held)
        self.asked = 0

    async def ask(self, trigger: str, where: Home) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        return any(whose == trigger and other != where for whose, other in self.held)


def test_where_a_trigger_has_no_runs_elsewhere_it_is_asked_once() -> None:
    async def scene() -> None:
        namespace = Namespace(("orders", JOB))
        known = Elsewhere(namespace.ask)
        assert await asyncio.gather(*(known.may_be("orders", JOB) for _ in range(50))) == [False] * 50
        await asyncio.sleep(100 * elsewhere.AGAIN)
        assert not await known.may_be("orders", JOB)
        assert namespace.asked == 1

    in_fake_time(scene())


def test_where_it_has_each_request_looks_until_they_are_gone() -> None:
    async def scene() -> None:
        namespace = Namespace(("orders", MAP))
        known = Elsewhere(namespace.ask)
        assert await known.may_be("orders", JOB)
        namespace.held.clear()  # retention took them
        assert await known.may_be("orders", JOB)
        await asyncio.sleep(elsewhere.AGAIN)
        assert not await known.may_be("orders", JOB), "or a message would cost two lists for a year"
        assert namespace.asked == 2

    in_fake_time(scene())


def test_requests_of_two_homes_look_for_each_other_s() -> None:
    async def scene() -> None:
        namespace = Namespace()
        known = Elsewhere(namespace.ask)
        assert not await known.may_be("orders", JOB)
        assert await known.may_be("orders", MAP), "a run of the first may be under way"
        assert await known.may_be("orders", JOB)
        assert not await known.may_be("others", JOB)

    in_fake_time(scene())


def test_what_is_remembered_of_triggers_and_workflows_is_bounded() -> None:
    async def scene() -> None:
        known = Elsewhere(Namespace().ask)
        for number in range(3 * elsewhere.TRIGGERS):
            await known.may_be(f"t{number}", JOB)
        for number in range(3 * elsewhere.HOMES):
            await known.may_be("t0", ("Job", f"etl-{number}"))
        assert len(known._answers) == elsewhere.TRIGGERS
        assert len(known._answers["t0"].homes) <= elsewhere.HOMES + 1

    in_fake_time(scene())
