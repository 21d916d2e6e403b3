"""Running once more, limits and cleaning up, as a user types them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.e2e.conftest import Jobyard
from tests.manifests import job, step, workflow


def write(folder: Path, tree: object) -> Path:
    file = folder / "flow.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def test_a_failed_run_is_run_again_from_where_it_failed(jobyard: Jobyard, tmp_path: Path) -> None:
    good = {"name": "good", "default": "no"}
    file = write(
        tmp_path,
        workflow(
            "flow",
            step("first", 'echo \'{"n": "7"}\' > /dev/termination-log'),
            step("second", "echo got {{ steps.first.outputs.n }}; test {{ params.good }} = yes", "first"),
            parameters=[good],
        ),
    )
    first = jobyard("run", file, "-o", "json")
    assert first.code == 1
    run = first.lines[-1]["name"]
    again = jobyard("rerun", run, "--failed")
    assert again.code == 1
    assert "Reused" in again.out
    assert "got 7" in again.out
    whole = jobyard("rerun", run, "-o", "json")
    assert whole.lines[-1]["name"] != run
    assert whole.lines[-1]["steps"][0]["reason"] != "Reused"
    fine = jobyard("run", file, "--set", "good=yes", "-o", "json").lines[-1]["name"]
    nothing = jobyard("rerun", fine, "--failed")
    assert nothing.code == 2
    assert "no step of run" in nothing.err
    assert jobyard("rerun", "nope").code == 2


def test_a_second_failure_raises_the_alarm_again(jobyard: Jobyard, tmp_path: Path) -> None:
    alarm = step("alarm", "echo down again", "load", when="failed")
    file = write(tmp_path, workflow("flow", step("extract"), step("load", "exit 1", "extract"), alarm))
    run = jobyard("run", file, "-o", "json").lines[-1]["name"]
    again = jobyard("rerun", run, "--failed", "-o", "json").lines[-1]
    steps = {each["name"]: each for each in again["steps"]}
    assert {name: each["reason"] for name, each in steps.items() if each["state"] == "succeeded"} == {"extract": "Reused", "alarm": None}
    assert "down again" in jobyard("logs", again["name"], "alarm").out


def test_limits_are_listed_set_kept_and_removed(jobyard: Jobyard, begin: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    assert "No limits in namespace" in jobyard("limits", "list").err
    assert jobyard("limits", "set", "database", "0").out.startswith("Limit database is 0 in namespace ")
    waiting = begin("run", write(tmp_path, workflow("flow", step("a"), limits=["database"], timeout="60s")), "-o", "json")
    assert waiting.stdout is not None
    steps = (json.loads(line)["steps"] for line in waiting.stdout)
    assert "Limit database is 0" in next(each[0]["message"] for each in steps if each and each[0]["reason"] == "WaitingForLimit")
    assert jobyard("limits", "set", "database", "1").code == 0
    assert waiting.wait(100) == 0
    assert jobyard("run", write(tmp_path, workflow("flow", step("a"), limits=["database"]))).code == 0
    (row,) = [json.loads(line) for line in jobyard("limits", "list", "-o", "json").out.splitlines()]
    assert row == {"limit": "database", "places": 1, "holders": []}
    assert jobyard("limits", "unset", "database").code == 0
    assert "No limits in namespace" in jobyard("limits", "list").err
    assert jobyard("limits", "set", "Not A Name", "1").code == 2


def test_clean_deletes_what_retention_says_and_no_more(jobyard: Jobyard, tmp_path: Path) -> None:
    short = jobyard("run", write(tmp_path, workflow("short", step("a"), retention="1s")), "-o", "json").lines[-1]["name"]
    kept = jobyard("run", write(tmp_path, workflow("kept", step("a"))), "-o", "json").lines[-1]["name"]
    assert jobyard("show", short).code == 0
    while short not in jobyard("clean", "--dry-run").out:  # until its second is over
        pass
    cleaned = jobyard("clean")
    assert short in cleaned.out
    assert kept not in cleaned.out
    assert jobyard("show", short).code == 2
    assert jobyard("show", kept).code == 0
    while kept not in jobyard("clean", "--older-than", "1s").out:  # until its second is over
        pass


def test_clean_takes_a_run_whose_command_was_gone_when_it_ended(jobyard: Jobyard, tmp_path: Path) -> None:
    (tmp_path / "j.json").write_text(json.dumps(job("left")))
    left = jobyard("run", "--detach", "j.json", "-o", "json", cwd=tmp_path).lines[-1]["name"]
    while left not in jobyard("clean", "--older-than", "1s").out:  # until its second is over
        pass
    assert jobyard("show", left).code == 2
