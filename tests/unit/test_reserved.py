"""Ours is ours: what users write bears none of Jobyard's labels, annotations and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobyard.files import reserved
from jobyard.files.rules.forms import DIGITS
from jobyard.model import names
from jobyard.model.job import render
from jobyard.service.reading import read_file
from tests.unit.test_check import JOB

DOCS = Path(__file__).parents[2] / "docs"
SPELLED = {value for key, value in vars(names).items() if key.isupper() and isinstance(value, str) and value.startswith(names.DOMAIN)}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def findings(text: str) -> list[str]:
    Path("f.yaml").write_text(text)
    return [str(finding) for finding in read_file(Path("f.yaml")).findings]


def noted(notes: str) -> str:
    return JOB.replace("  name: good\n", f"  name: good\n  {notes}\n", 1)


@pytest.mark.parametrize("key", sorted(SPELLED - {names.DOMAIN}))
def test_what_the_engine_writes_nobody_else_does(key: str) -> None:
    remedy = "which only Jobyard writes; remove it: Jobyard keeps its own records there"
    for part in ("label", "annotation"):
        assert f"f.yaml:5:{len(part) + 7}: {part} {key}, {remedy}" in findings(noted(f"{part}s: {{{key}: x}}"))


def test_keys_of_others_and_what_selects_by_ours_are_left_alone() -> None:
    assert findings(noted("labels: {x.jobyard.dev/run: x, jobyard.dev: b, app.kubernetes.io/name: z}")) == []
    spread = "      topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {jobyard.dev/step: a}}}]\n"
    assert findings(JOB.replace("      restartPolicy", f"{spread}      restartPolicy", 1)) == []


@pytest.mark.parametrize("name", ["settings", "model-characterization", "app-7d9f4b6c5d", "kafka-triggers", "not-jobyard-limits"])
def test_names_that_nobody_gives_are_free(name: str) -> None:
    assert findings(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n---\n{JOB}") == []


@pytest.mark.parametrize(
    "name",
    [
        "jobyard",
        "jobyard-limits",
        "jobyard-triggers",
        names.record("etl", names.run_id("git-x", "key 3")),
        names.part(names.run_id("a", "b"), 1),
    ],
)
def test_names_of_ours_are_refused_for_the_kinds_that_we_use(name: str) -> None:
    head = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n---\n"
    assert (
        f"f.yaml:3:18: ConfigMap {name}: Jobyard uses such names itself, expected another name; rename it, also where a Job refers to it"
        in findings(head + JOB)
    )
    assert findings(head.replace("ConfigMap", "Service") + JOB) == []


def test_what_is_for_authors_is_in_the_docs_and_is_none_of_the_engine_s_own() -> None:
    text = (DOCS / "workflow-reference.md").read_text()
    assert not set(reserved.AUTHORS) & SPELLED
    assert all(f"`{each}`" in text for each in reserved.AUTHORS)


def test_an_annotation_for_authors_is_judged_where_it_is_read_and_never_reaches_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserved, "AUTHORS", {"jobyard.dev/priority": DIGITS})
    assert findings(noted('annotations: {jobyard.dev/priority: "3"}')) == []
    assert findings(noted("annotations: {jobyard.dev/priority: high}")) == [
        'f.yaml:5:39: annotation jobyard.dev/priority of the text "high", expected a whole number'
    ]
    assert findings(noted('labels: {jobyard.dev/priority: "3"}')) != []
    Path("f.yaml").write_text(noted('annotations: {jobyard.dev/priority: "3"}'))
    (job,) = read_file(Path("f.yaml")).jobs
    made = render(job.manifest, name="n", labels={}, annotations={}, pod_labels={})
    assert made["metadata"]["annotations"] == {}
