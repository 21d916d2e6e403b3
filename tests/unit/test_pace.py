"""How many calls are under way at once."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from jobyard.cluster.pace import NARROWEST, WIDEST, Pace, Width


def test_a_refusal_halves_the_door_and_closes_it_for_as_long_as_it_asks() -> None:
    width = Width().after(seconds=0.01, refused=True, retry_after=5.0, now=100.0)
    assert (width.calls, width.closed_until) == (WIDEST / 2, 105.0)


def test_many_refusals_of_one_moment_count_once() -> None:
    width = Width()
    for _ in range(20):
        width = width.after(seconds=0.01, refused=True, retry_after=None, now=100.0)
    assert width.calls == WIDEST / 2
    assert width.after(seconds=0.01, refused=True, retry_after=None, now=101.0).calls == WIDEST / 4


def test_rising_latency_narrows_the_door_within_a_second_of_answers() -> None:
    width = Width()
    for _ in range(50):
        width = width.after(seconds=0.02, refused=False, retry_after=None, now=1.0)
    assert width.calls == WIDEST
    slow = width.after(seconds=1.1, refused=False, retry_after=None, now=2.0)
    assert slow.calls == WIDEST / 2
    assert slow.usual == width.usual, "trouble does not become the usual"


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=300))
def test_the_door_stays_within_its_bounds(calls: list[tuple[float, bool]]) -> None:
    width = Width()
    for number, (seconds, refused) in enumerate(calls):
        width = width.after(seconds=seconds, refused=refused, retry_after=None, now=float(number))
        assert NARROWEST <= width.calls <= WIDEST


def test_it_recovers_one_more_call_a_round() -> None:
    width = Width(calls=4.0, usual=0.01)
    for _ in range(4):
        width = width.after(seconds=0.01, refused=False, retry_after=None, now=1.0)
    assert 4.8 < width.calls <= 5.0


async def test_calls_wait_for_their_turn_and_a_cancelled_one_gives_its_place_away() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    pace.width = Width(calls=1.0)
    order: list[str] = []

    async def one(name: str, go: asyncio.Event) -> None:
        async with pace.turn():
            order.append(name)
            await go.wait()

    first, second, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(one(name, go)) for name, go in (("a", first), ("b", second), ("c", third))]
    for _ in range(3):
        await asyncio.sleep(0)
    assert order == ["a"]
    tasks[1].cancel()
    first.set()
    third.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "c"]
