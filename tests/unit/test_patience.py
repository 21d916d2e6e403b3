"""How anything is tried again."""

from __future__ import annotations

import asyncio

import pytest

from jobyard.model.errors import Conflict, NoAnswer, Unavailable
from jobyard.patience import LEAST, PATIENCE, patiently
from tests.faketime import in_fake_time


def test_a_call_that_hangs_is_given_up_when_the_patience_is() -> None:
    async def hangs() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(NoAnswer, match="60 s"):
            await patiently(hangs)
        return loop.time() - begun

    assert in_fake_time(main()) == pytest.approx(PATIENCE)


def test_one_that_hangs_after_it_was_refused_tells_the_refusal() -> None:
    calls = 0

    async def refuses_then_hangs() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            await asyncio.get_running_loop().create_future()
        raise Unavailable(server="s", what="is away")

    async def main() -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(Unavailable, match="is away"):
            await patiently(refuses_then_hangs)
        return loop.time() - begun

    assert in_fake_time(main()) <= PATIENCE + LEAST
    assert calls == 3


@pytest.mark.parametrize("hangs", [False, True], ids=["again and again", "and then hangs"])
def test_what_is_in_the_way_for_longer_than_the_patience_is_no_refusal(hangs: bool) -> None:
    """A source would set aside what it asked for."""

    async def conflicts() -> None:
        if hangs and asyncio.get_running_loop().time() > 1030:
            await asyncio.get_running_loop().create_future()
        raise Conflict(action="create Secret creds", status=409, reason="AlreadyExists", message='secrets "creds" already exists')

    with pytest.raises(Unavailable, match=r'create Secret creds within 60 s: secrets "creds" already exists; perhaps'):
        in_fake_time(patiently(conflicts))


def test_a_time_out_of_the_call_s_own_is_its_own_error() -> None:
    async def times_out() -> None:
        async with asyncio.timeout(1):
            await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        in_fake_time(patiently(times_out))
