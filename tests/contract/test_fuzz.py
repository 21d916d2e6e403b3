"""What is hostile ends nothing but itself: a sample of what `scripts/fuzz` tries. A finding names its seed: `scripts/fuzz objects 17` tries it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ClusterUnderTest
from tests.fuzz.api import requests
from tests.fuzz.files import hostile
from tests.fuzz.kinds import KINDS
from tests.fuzz.objects import calls
from tests.fuzz.requests import requests as webhooks
from tests.fuzz.verdict import traced

SAMPLE = {"local": 100, "kubernetes": 50}
"""Seeds of objects on each cluster."""


@pytest.mark.timeout(600)
async def test_hostile_objects_do_no_harm_to_good_runs_beside_them(under_test: ClusterUnderTest) -> None:
    found = await KINDS["objects"].attempt[under_test.name](under_test.kubeconfig, range(SAMPLE[under_test.name]))
    assert found.words == ()
    assert 0.2 < found.refused / found.calls < 0.9, "where all is refused, or nothing, little is tried"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["files", "requests"])
async def test_hostile_files_and_webhooks_do_no_harm_to_good_files_beside_them(under_test: ClusterUnderTest, kind: str) -> None:
    found = await KINDS[kind].attempt[under_test.name](under_test.kubeconfig, range(SAMPLE[under_test.name]))
    assert found.words == ()
    assert 0.2 < found.refused / found.calls < 0.95, "where all is refused, or nothing, little is tried"


async def test_hostile_requests_are_refused_in_words(local_data: Path) -> None:
    found = await KINDS["api"].attempt["local"](local_data / "local" / "kubeconfig", range(100))
    assert found.words == ()
    assert found.refused < found.calls


def test_a_seed_says_the_same_every_time() -> None:
    for seed in range(50):
        assert calls(seed, "n") == calls(seed, "n")
        assert requests(seed, "n") == requests(seed, "n")
        assert hostile(seed) == hostile(seed)
        assert webhooks(seed, "s") == webhooks(seed, "s")


def test_what_was_traced_back_is_seen(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback (most recent call last): old\n")
    since = log.stat().st_size
    assert traced(log, since) == []
    with log.open("a") as file:
        file.write("Traceback (most recent call last): new\n")
    (words,) = traced(log, since)
    assert "new" in words
    assert traced(None, 0) == []
