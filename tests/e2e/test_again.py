"""Running once more, limits and cleaning up, as a user types them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import yaml

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.engine.limit_settings import keep_limits
from jobyard.model.errors import Conflict
from jobyard.model.objects import LEASES
from jobyard.service.board import Board
from tests.conftest import ClusterUnderTest
from tests.e2e.conftest import COMMAND, Jobyard, environment
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
    assert row == {"limit": "database", "places": 1, "holders": [], "service": None}
    assert jobyard("limits", "unset", "database").code == 0
    assert "No limits in namespace" in jobyard("limits", "list").err
    assert jobyard("limits", "set", "Not A Name", "1").code == 2


def test_a_service_s_settings_win_over_a_limit_that_is_set_by_hand(jobyard: Jobyard, under_test: ClusterUnderTest, space: str) -> None:
    def keep(held_by: str | None = None, **numbers: int) -> None:
        asyncio.run(_keep(under_test, space, held_by, numbers))

    keep(database=2, gpu=1)
    refused = jobyard("limits", "set", "database", "7")
    assert refused.code == 2
    assert f"limit database in namespace {space} is set by service yard, whose settings win" in refused.err
    assert "if that service is gone, `jobyard limits unset database" in refused.err
    assert jobyard("limits", "set", "disk", "7").code == 0
    rows = [json.loads(line) for line in jobyard("limits", "list", "-o", "json").out.splitlines()]
    assert [(row["limit"], row["places"], row["service"]) for row in rows] == [
        ("database", 2, "yard"),
        ("disk", 7, None),
        ("gpu", 1, "yard"),
    ]
    assert jobyard("limits", "list").out.splitlines()[1].split() == ["database", "2", "0", "service", "yard"]

    assert jobyard("limits", "unset", "database").code == 0
    assert jobyard("limits", "set", "database", "7").code == 0
    keep("yard-1", database=2)
    for words in (("set", "database", "7"), ("unset", "database")):
        refused = jobyard("limits", *words)
        assert (refused.code, "gone" in refused.err) == (2, False)
    assert "gpu" not in jobyard("limits", "list").out, "what the settings name no more is set no more"
    keep("", database=2)
    assert "Service yard, whose settings name this limit, does not run just now" in jobyard("limits", "set", "database", "7").err


def test_a_run_that_is_left_says_whether_a_service_is_there_to_drive_it(
    jobyard: Jobyard, under_test: ClusterUnderTest, space: str, tmp_path: Path
) -> None:
    file = write(tmp_path, workflow("flow", step("a"), step("b", "true", "a")))
    alone = jobyard("run", file, "--detach", "-o", "json")
    assert (alone.lines[-1]["driven"], "No Jobyard service drives the run" in alone.err) == (False, True)
    asyncio.run(_keep(under_test, space, "yard-1", {}))
    asyncio.run(_pause(under_test, space))
    words = f"jobyard triggers pause --kubeconfig {under_test.kubeconfig} -n {space} o"
    env = environment(_JOBYARD_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="7")
    assert subprocess.run(COMMAND, capture_output=True, text=True, env=env, check=False).stdout == "plain,ops\n"
    served = jobyard("run", file, "--detach", "-o", "json")
    assert (served.lines[-1]["driven"], "No Jobyard service" in served.err) == (True, False)


async def _pause(under_test: ClusterUnderTest, space: str) -> None:
    async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as cluster:
        await Board(cluster, space, "yard").pause("ops", "me", datetime.now(UTC))


async def _keep(under_test: ClusterUnderTest, space: str, held_by: str | None, numbers: Mapping[str, int]) -> None:
    """As a service does that has these limits in its settings. `held_by`: who holds its Lease, if there is one."""
    async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as cluster:
        await keep_limits(cluster, space, "yard", numbers)
        if held_by is None:
            return
        spec = {"holderIdentity": held_by, "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        with suppress(Conflict):
            manifest = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "yard"}, "spec": spec}
            await cluster.create(LEASES, space, manifest)
        await cluster.patch(LEASES, space, "yard", {"spec": spec})


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
