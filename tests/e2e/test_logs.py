"""`jobyard logs`, and what leads to it, as a person or a program would use them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest
from tests.e2e.conftest import COMMAND, Jobyard, environment
from tests.kubernetes import prepare
from tests.manifests import Tree, job, step, workflow


def write(folder: Path, tree: Tree) -> Path:
    path = folder / "w.json"
    path.write_text(json.dumps(tree))
    return path


def container(name: str, script: str) -> Tree:
    return {"name": name, "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}


def ended(jobyard: Jobyard, file: Path) -> dict[str, Any]:
    run: dict[str, Any] = jobyard("run", file, "-o", "json").lines[-1]
    return run


def test_the_newest_attempt_is_printed_and_each_other_can_be(jobyard: Jobyard, tmp_path: Path) -> None:
    flow = workflow("w", step("load", "echo I am $HOSTNAME; exit 3", retry={"limit": 1, "backoff": "1s"}))
    run = ended(jobyard, write(tmp_path, flow))
    newest = run["steps"][0]["job"]
    answer = jobyard("logs", run["name"], "load")
    assert answer.out.startswith(f"I am {newest}-")
    assert answer.err == "This is attempt 2 of load; --attempt N prints another, --all prints all of them.\n"
    first = jobyard("logs", run["name"], "load", "--attempt", "1").out
    assert first.startswith("I am load-")
    assert first != answer.out
    every = jobyard("logs", run["name"], "--all").out.splitlines()
    assert re.fullmatch(r"==> load, attempt 1, pod load-\S+: failed, exit code 3 <==", every[0])
    assert every[1::2] == [first.strip(), answer.out.strip()]
    wrong = jobyard("logs", run["name"], "load", "--attempt", "3")
    assert (wrong.code, "has no logs of attempt 3, only of attempts 1 to 2" in wrong.err) == (2, True)
    assert jobyard("logs", run["name"], "--all", "--attempt", "1").code == 2


def test_attempts_that_kubernetes_makes_count_too(jobyard: Jobyard, tmp_path: Path) -> None:
    """By `backoffLimit`: each is another pod of the same Job."""
    flow = workflow("w", step("load", "echo I am $HOSTNAME; exit 3", spec={"backoffLimit": 1}))
    run = ended(jobyard, write(tmp_path, flow))["name"]
    pods = [line["pod"] for line in jobyard("logs", run, "--all", "-o", "json").lines]
    assert len(set(pods)) == 2
    assert jobyard("logs", run).out == f"I am {pods[1]}\n"
    assert jobyard("logs", run, "load", "--attempt", "1").out == f"I am {pods[0]}\n"


def test_the_name_that_is_printed_is_the_name_that_is_taken(jobyard: Jobyard, tmp_path: Path) -> None:
    fetch = {**step("fetch", "echo fetched"), "revert": {"spec": job("x", "echo undone")["spec"]}}
    flow = write(tmp_path, workflow("w", fetch, step("load", "exit 1", "fetch"), onFailure="revert"))
    run = ended(jobyard, flow)
    name = run["name"]
    assert jobyard("logs", name).out.splitlines() == ["fetch | fetched", "fetch (revert) | undone"]
    assert jobyard("logs", name, "fetch (revert)").out == "undone\n"
    assert jobyard("logs", name, "fetch").out == "fetched\n"
    assert "it has: fetch, load, fetch (revert)\n" in jobyard("logs", name, "zzz").err
    reverted = run["steps"][2]
    for words in ([name, reverted["job"]], [reverted["job"]]):
        assert jobyard("logs", *words).out == "undone\n"
    (line,) = jobyard("logs", reverted["job"], "-o", "json").lines
    assert (line["step"], line["reverts"], line["job"], line["line"]) == ("fetch", True, reverted["job"], "undone")


def test_completion_offers_the_steps(jobyard: Jobyard, credentials: Path, space: str, tmp_path: Path) -> None:
    flow = {**step("fetch"), "revert": {"spec": job("x")["spec"]}}
    run = ended(jobyard, write(tmp_path, workflow("w", flow, step("load", "exit 1", "fetch"), onFailure="revert")))["name"]

    def complete(shell: str) -> str:
        words = f"jobyard logs --kubeconfig {credentials} -n {space} {run} f"
        env = environment(_JOBYARD_COMPLETE=f"{shell}_complete", COMP_WORDS=words, COMP_CWORD="7")
        return subprocess.run(COMMAND, capture_output=True, text=True, env=env, timeout=60, check=False).stdout

    assert complete("bash").splitlines() == ["plain,fetch", "plain,'fetch (revert)'"]
    assert "fetch (revert)" in complete("zsh").splitlines()


def test_several_pods_and_containers_each_say_whose_line_it_is(jobyard: Jobyard, tmp_path: Path) -> None:
    pod = {"initContainers": [container("first", "echo before")]}
    wide = job("wide", pod=pod, parallelism=2, completions=2, completionMode="Indexed")
    wide["spec"]["template"]["spec"]["containers"] = [
        container("main", "echo part $JOB_COMPLETION_INDEX"),
        container("side", "echo beside"),
    ]
    run = ended(jobyard, write(tmp_path, wide))["name"]
    lines = jobyard("logs", run).out.splitlines()
    assert sorted(lines) == [f"[{part}] {text}" for part in (0, 1) for text in ("first | before", f"main | part {part}", "side | beside")]
    assert jobyard("logs", run, "-c", "main").out.splitlines() == ["[0] | part 0", "[1] | part 1"]
    wrong = jobyard("logs", run, "-c", "mian")
    assert (wrong.code, 'no container mian; did you mean "main"?' in wrong.err) == (2, True)


def test_a_program_is_told_where_and_when_each_line_was_written(jobyard: Jobyard, tmp_path: Path) -> None:
    run = ended(jobyard, write(tmp_path, workflow("w", step("a", "echo one; echo; echo '{\"two\": 2}'"))))
    lines = jobyard("logs", run["name"], "-o", "json").lines
    assert [each["line"] for each in lines] == ["one", "", '{"two": 2}']
    for each in lines:
        assert (each["step"], each["attempt"], each["job"], each["container"]) == ("a", 1, run["steps"][0]["job"], "main")
        assert each["pod"].startswith(run["steps"][0]["job"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)", each["time"])
    assert jobyard("logs", run["name"], "--tail", "1", "--since", "1h").out == '{"two": 2}\n'
    while jobyard("logs", run["name"], "--since", "1s").out:  # until its second is over
        pass
    assert jobyard("logs", run["name"], "--since", "1s").err == "Nothing was written in the last 1s.\n"
    assert jobyard("logs", run["name"], "--since", "5").code == 2


def test_nothing_to_print_is_said_with_its_reason(jobyard: Jobyard, tmp_path: Path) -> None:
    flow = workflow("w", step("a", "true"), step("b", "exit 1", "a"), step("c", "true", "b"))
    run = ended(jobyard, write(tmp_path, flow))["name"]
    assert jobyard("logs", run, "a").err == "Nothing was written.\n"
    assert jobyard("logs", run, "c").err == "No logs: step c was never started.\n"
    again = jobyard("rerun", run, "--failed", "-o", "json").lines[-1]["name"]
    assert jobyard("logs", again, "a").err == f"No logs: step a was not run again. It succeeded in run {run}.\n"


def test_what_is_followed_is_each_container_of_each_attempt(
    jobyard: Jobyard, begin: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    flow = workflow("w", step("load", "echo I am $HOSTNAME; sleep 1; exit 3", retry={"limit": 1, "backoff": "1s"}))
    flow["spec"]["steps"][0]["job"]["spec"]["template"]["spec"]["containers"].append(container("side", "echo beside; sleep 1"))
    running = begin("run", write(tmp_path, flow), "-o", "json")
    assert running.stdout is not None
    started = (json.loads(line) for line in running.stdout)
    run = next(each["name"] for each in started if any(step["job"] for step in each["steps"]))
    lines = jobyard("logs", run, "-f", "--all").out.splitlines()
    assert lines.count("side | beside") == 2
    assert [line[:20] for line in lines if line.startswith("==> ")] == ["==> load, attempt 1,", "==> load, attempt 2,"]
    assert len({line for line in lines if line.startswith("main | I am load-")}) == 2


def test_any_job_s_log_is_printed_and_followed(jobyard: Jobyard, under_test: ClusterUnderTest, space: str) -> None:
    program = prepare.kubectl()
    if program is None:
        pytest.skip("kubectl is neither installed nor built for the node")
    words = [program, "--kubeconfig", str(under_test.kubeconfig), "-n", space, "create", "-f", "-"]
    subprocess.run(words, input=json.dumps(job("theirs", "echo one; sleep 1; echo two")), text=True, timeout=60, check=True)
    assert jobyard("logs", "theirs", "-f").out == "one\ntwo\n"
    assert jobyard("logs", "theirs", "--tail", "1").out == "two\n"
    assert jobyard("logs", "theirs", "-f", "-o", "json").lines[0]["step"] == "theirs"


def test_the_end_of_a_log_follows_and_what_prints_all_of_it(jobyard: Jobyard, credentials: Path, space: str, tmp_path: Path) -> None:
    flow = write(tmp_path, workflow("w", step("load", "for i in $(seq 30); do echo line $i; done; exit 4")))
    run = ended(jobyard, flow)["name"]
    command = f"jobyard logs {run} load --kubeconfig {credentials} -n {space}"
    for told in (jobyard("why", run).out, jobyard("show", run).out):
        assert "\n  its last 10 log lines:\n    line 21\n" in told
        assert "tells more" not in told
        assert f"    line 30\n  all of it: {command}\n" in told
    assert "    line 30\n  all of it: jobyard logs" in jobyard("run", flow).out
    assert jobyard(*command.split()[1:], "--tail", "1", cluster=False).out == "line 30\n"
