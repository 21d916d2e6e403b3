"""How much a reading may take: told with file, line and column, in time that grows with the text alone."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobyard.files import borders
from jobyard.files.document import load
from jobyard.service.reading import read_file
from tests.hostile import FLOW, JOB

JOB_IN_A_LINE = "{apiVersion: batch/v1, kind: Job, metadata: {name: good}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: x}]}}}}"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(text: str, name: str = "f.yaml") -> list[str]:
    Path(name).write_text(text)
    return [str(finding) for finding in read_file(Path(name)).errors]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("- " * 100 + "x", "f.yaml"),
        ("[" * 100 + "]" * 100, "f.json"),
        ("a: &a [1]\nb: " + "[" * 98 + "*a" + "]" * 98, "f.yaml"),
    ],
)
def test_a_hundred_deep_is_read_and_one_more_is_not(text: str, name: str) -> None:
    assert load(text.encode(), name)[1] == []
    deeper = f"- {text}" if text[0] == "-" else f"[{text}]" if text[0] == "[" else text.replace("*a", "[*a]")
    (finding,) = load(deeper.encode(), name)[1]
    assert "nested more than 100 deep" in str(finding)


def test_each_border_is_told_where_it_is_crossed() -> None:
    big = "x" * 1_000_000
    assert found("a: 1\nb: " + "[" * 101) == ["f.yaml:2:103: nested more than 100 deep"]
    assert found("[\n" + "1,\n" * 1_000_000 + "]") == [
        "f.yaml:1000000:1: too many values, expected at most 1,000,000, aliases counted; split it"
    ]
    assert found(f"a: &a {big}\nb: [\n" + "*a,\n" * 300 + "]") == [
        "f.yaml:69:1: too much text, expected at most 67,108,864 bytes, aliases counted; split it"
    ]
    mistakes = found(JOB + "".join(f"field{number}: 1\n" for number in range(2_000)))
    assert len(mistakes) == 1_001
    assert mistakes[-1] == "f.yaml:1005:1: more than 1,000 mistakes; fix those before it first"


def test_the_borders_are_those_of_all_that_a_file_names() -> None:
    for number in range(3):
        Path(f"{number}.yaml").write_text("[" + "1," * 400_000 + "]")
    steps = "".join(f"    - {{name: s{number}, manifest: {number}.yaml}}\n" for number in range(3))
    assert "2.yaml:1:" in found(f"apiVersion: jobyard.dev/v1\nkind: Workflow\nspec:\n  steps:\n{steps}")[-1]


@pytest.mark.parametrize("text", ["[" + "1," * 100_000 + "]", (JOB + "---\n") * 500, JOB + "".join(f"field{n}: 1\n" for n in range(900))])
def test_a_reading_ends_when_its_time_is_over(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(borders, "SECONDS", 0.01)
    left = borders.seconds_left.set(0.01)
    try:
        told = found(text)[-1]
    finally:
        borders.seconds_left.reset(left)
    assert re.fullmatch(r"f\.yaml:[0-9]+:[0-9]+: it takes too long to read, expected at most 0\.01 s; split it", told)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lambda n: "kind: List\napiVersion: v1\nitems:\n" + f"- {JOB_IN_A_LINE}\n" * n, id="a List of Jobs"),
        pytest.param(lambda n: f"{JOB_IN_A_LINE}\n---\n" * n, id="documents"),
        pytest.param(
            lambda n: FLOW + "".join(f"    - {{name: s{i}, needs: [s{max(i - 1, 0)}], job: {{}}}}\n" for i in range(n)), id="a chain"
        ),
        pytest.param(
            lambda n: FLOW + "".join(f"    - {{name: s{i}, manifest: job.yaml}}\n" for i in range(n)), id="one file in many steps"
        ),
        pytest.param(lambda n: JOB + "x: {" + ", ".join(f"k{i}: v" for i in range(10 * n)) + "}\n", id="a large mapping"),
    ],
)
def test_the_time_to_read_grows_with_the_text_alone(text: Callable[[int], str]) -> None:
    """Four times the text takes less than eight times as long, in processor time; what is quadratic takes sixteen times."""
    Path("job.yaml").write_text(JOB)

    def seconds(count: int) -> float:
        Path("f.yaml").write_text(text(count).replace("name: good", "generateName: good-"))
        gc.collect()
        gc.disable()  # what other tests left in memory is not this text's
        try:
            begun = time.thread_time()
            read_file(Path("f.yaml"))
            return time.thread_time() - begun
        finally:
            gc.enable()

    seconds(10)
    assert seconds(2_000) < 8 * max(seconds(500), 0.02)
