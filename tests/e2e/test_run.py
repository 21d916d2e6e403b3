"""`jobyard run` and its sisters, as a person or a program would use them."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.cluster.rights import needed
from tests.conftest import LOCAL, ClusterUnderTest
from tests.e2e.conftest import Jobyard
from tests.manifests import job, step, workflow
from tests.restricted import restricted_kubeconfig

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / "tests/seeds/jobernetes"
Begin = Callable[..., subprocess.Popen[str]]


def write(folder: Path, tree: object, name: str = "w.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(tree))
    return path


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """The output up to the line that holds `text`."""
    seen = ""
    assert process.stdout is not None
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} was not printed:\n{seen}")


def run_id(text: str) -> str:
    found = re.search(r"Run ([a-z0-9-]+):", text)
    assert found
    return found[1]


def test_what_stands_beside_a_job_is_there_before_it(jobyard: Jobyard, tmp_path: Path) -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"COLOUR": "blue"}}
    reads = job("reads", "test $COLOUR = blue", container={"envFrom": [{"configMapRef": {"name": "settings"}}]})
    file = write(tmp_path, {"apiVersion": "v1", "kind": "List", "items": [reads, settings]})
    answer = jobyard("run", "--dry-run", file)
    assert "before them: ConfigMap settings" in answer.out
    answer = jobyard("run", file)
    assert answer.code == 0, answer.out + answer.err
    rights = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all"}, "rules": []}
    answer = jobyard("run", write(tmp_path, {"apiVersion": "v1", "kind": "List", "items": [reads, rights]}))
    assert (answer.code, "kind ClusterRole, which a run can't create" in answer.err) == (2, True)
    assert "apply it first" in answer.err


@pytest.mark.parametrize("example", sorted(ROOT.glob("examples/*")), ids=lambda path: path.name)
def test_every_example_runs(jobyard: Jobyard, example: Path) -> None:
    answer = jobyard("run", example)
    assert answer.code == 0, answer.out + answer.err
    assert "succeeded" in answer.out


@pytest.mark.parametrize("model", ["first.yaml", "second.yaml", "."])
def test_the_readmes_jobernetes_models_run_unmodified(jobyard: Jobyard, model: str, space: str) -> None:
    answer = jobyard("run", SEEDS / model, "--output", "json", "--cleanup", "never")
    assert answer.code == 0, answer.out + answer.err
    last = answer.lines[-1]
    assert last["state"] == "succeeded"
    steps = {each["name"]: each for each in last["steps"]}
    assert set(steps) >= {"sleep_one", "dream_a", "dream_b", "wakeup/phase-three-a", "wakeup/phase-three-b", "wakeup/nested/phase-three-c"}

    def before(earlier: str, later: str) -> None:
        assert steps[earlier]["finished"] <= steps[later]["started"], f"{later} waits for {earlier}"

    before("sleep_one", "dream_a")
    before("sleep_one", "dream_b")
    together = [
        line for line in answer.lines if {each["name"] for each in line["steps"] if each["state"] == "running"} >= {"dream_a", "dream_b"}
    ]
    assert together, "what may run at once does"
    for name in [each for each in steps if each.startswith("wakeup/")]:
        before("dream_a", name)
    if model != "first.yaml":
        before("dream_a", "sleep_hickup_a")
        before("dream_b", "sleep_hickup_b")


def test_a_failed_step_shows_its_reason_its_exit_code_and_its_last_lines(jobyard: Jobyard, tmp_path: Path) -> None:
    script = "for i in $(seq 1 30); do echo line $i; done; echo 'no such table: sales'; exit 3"
    answer = jobyard("run", write(tmp_path, workflow("w", step("load", script), step("report", "true", "load"))))
    assert answer.code == 1
    assert "Container main exited with code 3." in answer.out
    assert "exit code 3" in answer.out
    assert "no such table: sales" in answer.out
    assert "line 30" in answer.out
    assert "line 5\n" not in answer.out, "the last 20 lines, not all"
    assert re.search(r"- report\s+skipped\s+NeedsFailed", answer.out)


def test_runs_show_logs_and_why_tell_of_it_afterwards(jobyard: Jobyard, tmp_path: Path) -> None:
    flow = write(
        tmp_path,
        workflow(
            "nightly",
            step("extract", "echo got 5; echo '{\"rows\": 5}' > /dev/termination-log"),
            step("load", "echo loading; exit 4", "extract"),
        ),
    )
    ended = jobyard("run", flow, "-o", "json")
    assert ended.code == 1
    run = ended.lines[-1]
    assert {"id", "workflow", "state", "reason", "started", "finished", "steps"} <= set(run)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", run["started"])
    assert run["steps"][0]["outputs"] == {"rows": 5}
    listed = jobyard("runs", "-o", "json").lines
    assert [(each["name"], each["state"]) for each in listed] == [(run["name"], "failed")]
    shown = jobyard("show", run["name"], "-o", "json").lines[0]
    assert shown["steps"] == run["steps"]
    assert "load" in jobyard("show", run["name"]).out
    assert jobyard("logs", run["name"]).out.splitlines() == ["extract | got 5", "load | loading"]
    assert jobyard("logs", run["name"], "load").out == "loading\n"
    why = jobyard("why", run["name"])
    assert why.out.startswith("Step load failed. Container main exited with code 4.")
    assert jobyard("why", run["steps"][1]["job"]).out.startswith("Job load-")


def test_what_is_not_there_is_said_so_with_a_hint(jobyard: Jobyard, tmp_path: Path) -> None:
    for command in ("show", "logs", "cancel", "why"):
        answer = jobyard(command, "nothing")
        assert answer.code == 2
        assert f"no run {'' if command == 'cancel' else 'or Job '}nothing in namespace" in answer.err
        assert "Traceback" not in answer.err
    ended = jobyard("run", write(tmp_path, job("one")), "-o", "json").lines[-1]
    assert f'did you mean "{ended["name"]}"?' in jobyard("show", ended["name"][:-1]).err
    answer = jobyard("logs", ended["name"], "on")
    assert (answer.code, 'did you mean "one"?' in answer.err) == (2, True)


def test_no_runs_yet(jobyard: Jobyard) -> None:
    answer = jobyard("runs")
    assert (answer.code, answer.out) == (0, "")
    assert "No runs yet" in answer.err


def test_parameters_are_set_checked_and_required(jobyard: Jobyard, tmp_path: Path) -> None:
    parameters = [
        {"name": "day", "type": "date", "required": True, "description": "which day"},
        {"name": "size", "type": "choice", "choices": ["small", "large"], "default": "small"},
    ]
    flow = write(tmp_path, workflow("w", step("a", "echo {{ params.day }} $JOBYARD_PARAM_SIZE"), parameters=parameters))
    missing = jobyard("run", flow)
    assert (missing.code, "parameter day: no value" in missing.err, "--set day=VALUE (which day)" in missing.err) == (2, True, True)
    wrong = jobyard("run", flow, "--set", "day=2026-02-30")
    assert (wrong.code, "expected a date" in wrong.err) == (2, True)
    wrong = jobyard("run", flow, "--set", "day=2026-02-03", "--set", "size=lage")
    assert (wrong.code, 'did you mean "large"?' in wrong.err) == (2, True)
    wrong = jobyard("run", flow, "--set", "dy=2026-02-03")
    assert (wrong.code, 'did you mean "day"?' in wrong.err) == (2, True)
    assert jobyard("run", flow, "--set", "day").code == 2
    good = jobyard("run", flow, "--set", "day=2026-02-03", "--set", "size=large", "-o", "json")
    assert good.code == 0
    assert jobyard("logs", good.lines[-1]["name"]).out == "2026-02-03 large\n"


def test_a_run_file_is_run_and_checked_like_its_workflow(jobyard: Jobyard, tmp_path: Path) -> None:
    parameters = [{"name": "day", "type": "date", "required": True}, {"name": "size", "type": "integer", "default": 1}]
    write(tmp_path, workflow("etl", step("a", "echo {{ params.day }} {{ params.size }}"), parameters=parameters), "etl.json")
    run = {"apiVersion": "jobyard.dev/v1", "kind": "Run", "workflow": "etl.json", "parameters": {"day": "2026-02-03", "size": 2}}
    file = write(tmp_path, run, "run.json")
    assert jobyard("check", file).code == 0
    ran = jobyard("run", file, "-o", "json")
    assert jobyard("logs", ran.lines[-1]["name"]).out == "2026-02-03 2\n"
    assert jobyard("logs", jobyard("run", file, "--set", "size=3", "-o", "json").lines[-1]["name"]).out == "2026-02-03 3\n", "--set wins"
    again = jobyard("rerun", ran.lines[-1]["name"], "-o", "json").lines[-1]["name"]
    assert jobyard("logs", again).out == "2026-02-03 2\n", "with the same values"
    wrong = jobyard("check", write(tmp_path, {**run, "parameters": {"size": "two"}}, "run.json"))
    assert wrong.code == 2
    assert 'the text "two" as parameter size, expected an integer' in wrong.out
    assert "no value for parameter day" in wrong.out


def test_nothing_is_created_before_a_file_is_clean(jobyard: Jobyard, tmp_path: Path) -> None:
    flow = write(tmp_path, workflow("w", step("a"), {**step("b"), "need": ["a"]}))
    answer = jobyard("run", flow)
    assert answer.code == 2
    assert 'unknown key "need" in spec.steps[1]; did you mean "needs"?' in answer.err
    assert "nothing was created" in answer.err
    assert jobyard("runs").out == ""


def test_a_dry_run_creates_nothing(jobyard: Jobyard, tmp_path: Path) -> None:
    flow = write(tmp_path, workflow("w", step("a"), step("b", "true", "a")))
    answer = jobyard("run", flow, "--dry-run")
    assert (answer.code, "Nothing was created" in answer.out) == (0, True)
    assert [each["step"] for each in jobyard("run", flow, "--dry-run", "-o", "json").lines] == ["a", "b"]
    assert jobyard("runs").out == ""


def test_kill_9_and_resume_give_each_step_exactly_one_job(jobyard: Jobyard, begin: Begin, tmp_path: Path) -> None:
    flow = write(
        tmp_path, workflow("w", step("a", "sleep 1"), step("b", "sleep 1", "a"), step("c", "sleep 1", "a"), step("d", "true", "b", "c"))
    )
    process = begin("run", flow)
    seen = read_until(process, "a running")
    process.kill()
    process.wait()
    found = jobyard("show", run_id(seen), "-o", "json").lines[0]
    assert found["state"] in ("running", "pending")
    again = begin("run", "--resume", run_id(seen))
    read_until(again, "b running")
    again.kill()
    again.wait()
    ended = jobyard("run", "--resume", run_id(seen), "-o", "json")
    assert ended.code == 0, ended.out + ended.err
    last = ended.lines[-1]
    assert {each["name"]: (each["state"], each["attempt"]) for each in last["steps"]} == dict.fromkeys("abcd", ("succeeded", 1))
    assert len({each["job"] for each in last["steps"]}) == 4
    once_more = jobyard("run", "--resume", run_id(seen), "-o", "json")
    assert once_more.lines[-1]["steps"] == last["steps"], "a second resume finds it ended"


def test_ctrl_c_leaves_the_jobs_alone_and_says_how_to_come_back(jobyard: Jobyard, begin: Begin, tmp_path: Path) -> None:
    process = begin("run", write(tmp_path, workflow("w", step("a", "sleep 5"), step("b", "true", "a"))))
    seen = read_until(process, "a running")
    process.send_signal(signal.SIGINT)
    seen += read_until(process, "cancels the run")
    assert process.wait(60) == 130
    come_back = re.search(r"Come back with:\n  jobyard (run --resume \S+)", seen)
    assert come_back
    ended = jobyard(*come_back[1].split(), "-o", "json")
    assert (ended.code, ended.lines[-1]["state"]) == (0, "succeeded")


def test_ctrl_c_twice_cancels(jobyard: Jobyard, begin: Begin, tmp_path: Path) -> None:
    process = begin("run", write(tmp_path, workflow("w", step("a", "sleep 60"), step("b", "true", "a"))))
    seen = read_until(process, "a running")
    process.send_signal(signal.SIGINT)
    read_until(process, "cancels the run")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert jobyard("show", run_id(seen), "-o", "json").lines[0]["state"] == "cancelled"


def test_a_run_is_cancelled_from_elsewhere_and_its_follower_sees_it(jobyard: Jobyard, begin: Begin, tmp_path: Path) -> None:
    process = begin("run", write(tmp_path, workflow("w", step("a", "sleep 60"))))
    seen = read_until(process, "a running")
    answer = jobyard("cancel", run_id(seen))
    assert (answer.code, "cancelled" in answer.out) == (0, True)
    assert "a cancelled" in read_until(process, "a cancelled")
    assert process.wait(60) == 1


def test_logs_follow_a_run_to_its_end(jobyard: Jobyard, begin: Begin, tmp_path: Path) -> None:
    process = begin("run", write(tmp_path, workflow("w", step("a", "echo one; sleep 1; echo two"), step("b", "echo three", "a"))))
    seen = read_until(process, "a running")
    followed = jobyard("logs", run_id(seen), "-f")
    assert followed.out.splitlines() == ["a | one", "a | two", "b | three"]


def test_timeout_parallelism_and_cleanup_on_the_command_line(jobyard: Jobyard, tmp_path: Path) -> None:
    flow = write(tmp_path, workflow("w", step("a", "sleep 30"), step("b", "sleep 30")))
    answer = jobyard("run", flow, "--timeout", "2s", "--parallelism", "1", "-o", "json")
    assert (answer.code, answer.lines[-1]["reason"]) == (1, "Timeout")
    assert any({each["name"]: each["reason"] for each in line["steps"]}["b"] == "WaitingForLimit" for line in answer.lines)
    assert jobyard("run", flow, "--timeout", "soon").code == 2
    assert jobyard("run", "--resume", "x", "--timeout", "2s").code == 2


def test_plain_manifests_run_too(jobyard: Jobyard, tmp_path: Path) -> None:
    write(tmp_path, job("one", "echo 1"), "one.json")
    write(tmp_path, {"apiVersion": "v1", "kind": "List", "items": [job("two", "echo 2"), job("three", "echo 3")]}, "more.json")
    answer = jobyard("run", tmp_path, "-o", "json")
    assert (answer.code, {each["name"] for each in answer.lines[-1]["steps"]}) == (0, {"one", "two", "three"})
    assert jobyard("run", tmp_path / "one.json").code == 0, "twice is no collision"


def test_a_manifest_of_another_namespace_is_refused_with_its_line(jobyard: Jobyard, tmp_path: Path) -> None:
    manifest = job("one")
    manifest["metadata"]["namespace"] = "elsewhere"
    answer = jobyard("run", write(tmp_path, manifest))
    assert (answer.code, "namespace elsewhere, while the run is in" in answer.err, "nothing was created" in answer.err) == (2, True, True)


def test_no_cluster_names_both_ways_and_an_unreachable_one_says_so(jobyard: Jobyard, tmp_path: Path) -> None:
    flow = write(tmp_path, job("one"))
    answer = jobyard("run", flow, cluster=False, HOME=str(tmp_path))
    assert answer.code == 3
    assert "--local" in answer.err
    assert "--kubeconfig" in answer.err
    away = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        "current-context": "x",
    }
    path = write(tmp_path, away, "away.json")
    answer = jobyard("runs", "--kubeconfig", path, cluster=False)
    assert (answer.code, "can't be reached" in answer.err, "Traceback" in answer.err) == (3, True, False)
    assert jobyard("runs", "--kubeconfig", path, "--context", "y", cluster=False).code == 3
    answer = jobyard("runs", "--local", "--context", "y", cluster=False)
    assert answer.code == 2


def test_a_right_that_is_missing_is_named_before_anything_begins(
    under_test: ClusterUnderTest, space: str, tmp_path: Path, jobyard: Jobyard
) -> None:
    if under_test.name == LOCAL:
        pytest.skip("the local cluster has no RBAC: its token may do everything")

    async def less() -> Path:
        async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as client:
            return await restricted_kubeconfig(client, under_test.kubeconfig, space, tmp_path / "less", needed(["pgboss"]), name="less")

    file = tmp_path / "w.json"
    file.write_text(json.dumps(workflow("w", step("a"))))
    answer = jobyard("run", file, "--kubeconfig", asyncio.run(less()), "-n", space, cluster=False)
    assert answer.code == 3
    assert f"no right to create configmaps, list configmaps, watch configmaps, patch configmaps in namespace {space}" in answer.err
    assert "jobyard manifests --rbac" in answer.err
