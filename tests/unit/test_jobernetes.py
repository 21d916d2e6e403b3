"""Jobernetes models, unmodified, and each kind of mistake in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobyard.model.workflow import Cleanup, order
from jobyard.service.reading import read_file

SEEDS = Path(__file__).parents[1] / "seeds/jobernetes"


def test_the_readmes_first_model_becomes_phases_with_barriers() -> None:
    workflow = read_file(SEEDS / "first.yaml").require()
    needs = {step.name: step.needs for step in workflow.steps}
    assert needs["sleep_one"] == ()
    assert needs["dream_a"] == needs["dream_b"] == ("start_sleep",)
    assert needs["mid_sleep"] == ("dream_a", "dream_b")
    assert needs["wakeup"] == ("wakeup/nested/phase-three-c", "wakeup/phase-three-a", "wakeup/phase-three-b"), (
        "sorted, nested, .yml .yaml .json"
    )
    assert needs["wakeup/phase-three-a"] == ("mid_sleep",)
    assert workflow.cleanup is Cleanup.SUCCEEDED
    assert workflow.namespace == "default"


def test_depends_on_works_inside_a_phase() -> None:
    workflow = read_file(SEEDS / "second.yaml").require()
    needs = {step.name: step.needs for step in workflow.steps}
    assert needs["sleep_hickup_a"] == ("dream_a",)
    assert needs["mid_sleep"] == ("dream_a", "sleep_hickup_a", "dream_b", "sleep_hickup_b")


def test_every_config_key_has_its_effect(tmp_path: Path) -> None:
    text = (SEEDS / "jobermodel.yaml").read_text()
    model = tmp_path / "m.yaml"
    model.write_text(
        text.replace("cleanup: True", "cleanup: no\n  parallelization: 3")
        .replace("'default'", "'nba'")
        .replace("warnings: True", "warnings: False")
    )
    (tmp_path / "test-dir").symlink_to(SEEDS / "test-dir")
    reading = read_file(model)
    workflow = reading.require()
    assert (workflow.parallelism, workflow.namespace, workflow.cleanup) == (3, "nba", Cleanup.NEVER)
    assert (reading.in_cluster, reading.quiet_tls) == (True, True)
    assert workflow.look_every is not None
    assert workflow.look_every.total_seconds() == 5


def test_labels_of_the_original_are_kept_up() -> None:
    workflow = read_file(SEEDS / "first.yaml").require()
    job = workflow.by_name["dream_b"].job
    assert job is not None
    assert job.manifest["metadata"]["labels"] == {"jobernetes_job_name": "dream_b", "jobernetes_phase": "1", "jobernetes_exploded": "False"}


MISTAKES = [
    (
        "job_path: test-dir/0-prepare/phase-one-sleep-5.yaml",
        "job_path: test-dir/none.yaml",
        "m.yaml:8:19: test-dir/none.yaml does not exist",
    ),
    ("        type: directory\n", "", "test-dir/2-finalize is a folder, expected a file; add type: directory"),
    (
        "- dream_a\n",
        "- dream_z\n",
        'sleep_hickup_a depends on dream_z, which is not in this phase, expected a job of the same phase; did you mean "dream_b"?',
    ),
    ("- dream_a\n", "- sleep_one\n", "phases already wait for each other"),
    ("name: dream_b", "name: dream_a", 'a second "dream_a"'),
    ("name: dream_a", "name: 'dream a'", '"dream a" as name, expected a name without spaces; perhaps "dream_a"'),
    ("phase_name: mid_sleep", "phase_nam: mid_sleep", "nothing as phase_name, expected a name"),
    ("cleanup: true", "cleanup: 3", "m.yaml:3:12: the number 3 as cleanup, expected true or false"),
    ("cleanup: true", "cleanup: true\n  parallelization: -1", "the number -1 as parallelization"),
    ("jobernetes:\n", "jobernetes: []\nother:\n", "a list as jobernetes, expected a list of phases"),
]


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_a_mistake_is_found_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, expected: str) -> None:
    (tmp_path / "test-dir").symlink_to(SEEDS / "test-dir")
    (tmp_path / "m.yaml").write_text((SEEDS / "second.yaml").read_text().replace(old, new, 1))
    monkeypatch.chdir(tmp_path)
    found = [str(finding) for finding in read_file(Path("m.yaml")).errors]
    assert any(expected in each for each in found), found


def test_a_cycle_is_printed_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test-dir").symlink_to(SEEDS / "test-dir")
    text = (
        (SEEDS / "second.yaml")
        .read_text()
        .replace("phase-two-sleep-15b.yaml", "phase-two-sleep-15b.yaml\n        depends_on: [sleep_hickup_a]")
    )
    (tmp_path / "m.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert any(
        "m.yaml:12:9: a cycle: dream_a needs sleep_hickup_a needs dream_a" in str(finding) for finding in read_file(Path("m.yaml")).errors
    )


def test_unknown_keys_are_warned_about_never_refused(tmp_path: Path) -> None:
    (tmp_path / "test-dir").symlink_to(SEEDS / "test-dir")
    model = tmp_path / "m.yaml"
    model.write_text((SEEDS / "first.yaml").read_text().replace("cleanup: true", "cleanup: true\n  jobname: test_name\n  refreshtime: 3"))
    reading = read_file(model)
    assert not reading.errors
    assert ["jobname" in str(reading.findings[0]), 'did you mean "refresh_time"?' in str(reading.findings[1])] == [True, True]


def test_a_model_is_found_by_its_content_and_a_folder_stands_for_its_model() -> None:
    assert [step.name for step in read_file(SEEDS).require().steps] == [
        step.name for step in read_file(SEEDS / "second.yaml").require().steps
    ]


def test_wide_phases_take_as_many_needs_as_jobs(tmp_path: Path) -> None:
    (tmp_path / "j.yaml").write_text((SEEDS / "test-dir/0-prepare/phase-one-sleep-5.yaml").read_text())
    phases = "".join(
        f"- phase_name: p{p}\n  jobs:\n" + "".join(f"  - {{name: j{p}-{j}, job_path: j.yaml}}\n" for j in range(200)) for p in range(3)
    )
    (tmp_path / "m.yaml").write_text(f"jobernetes_config: {{}}\njobernetes:\n{phases}")
    workflow = read_file(tmp_path / "m.yaml").require()
    assert sum(len(step.needs) for step in workflow.steps) == 3 * 200 + 2 * 200
    assert len(order({step.name: step.needs for step in workflow.steps})) == 603
