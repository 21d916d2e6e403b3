"""What every command answers alike: the shape of its JSON, and what it says when something is not there."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.model.objects import JOBS
from tests.conftest import LOCAL, ClusterUnderTest
from tests.e2e.conftest import COMMAND, Answer, Jobyard, environment
from tests.git.remotes import NO_CONFIG, Person, git
from tests.manifests import job, step, workflow
from tests.restricted import restricted_kubeconfig

TIMES = {"started", "finished", "since", "at", "time"}
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A repository with one file that succeeds and one that can't be read."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "remote.git")
    person = Person(tmp_path / "remote.git", tmp_path / "person")
    person.write("queued/good.yaml", yaml.safe_dump(job("good")))
    person.write("queued/bad.yaml", "kind: Jop\n")
    person.push()
    return tmp_path / "remote.git"


def objects(tree: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in an answer, by what it is: a line of a command, or what stands below a key."""
    if isinstance(tree, list):
        for each in tree:
            yield from objects(each, name)
    elif isinstance(tree, dict):
        yield name, tree
        for key, value in tree.items():
            if key not in ("outputs", "manifest", "origin", "items"):  # an author's own
                yield from objects(value, f"{name} {key}")


def test_every_answer_in_json_has_one_shape(
    jobyard: Jobyard, under_test: ClusterUnderTest, space: str, remote: Path, tmp_path: Path
) -> None:
    """All commands with -o json, on what succeeded, failed, waits and was never started: each key always there, null for nothing, one form of
    time, and one and the same reason as in the text."""
    flow = tmp_path / "flow.json"
    script = "echo '{\"n\": 1}' > /dev/termination-log"
    flow.write_text(json.dumps(workflow("flow", step("a", script), step("b", "exit 3", "a"), step("c", "true", "b"))))
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(job("good")))
    bad.write_text(json.dumps({**job("bad"), "kind": "Jop"}))

    async def make_foreign() -> None:
        async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as cluster:
            await cluster.create(JOBS, space, job("foreign", pod={"nodeSelector": {"no": "node"}}))

    asyncio.run(make_foreign())
    shapes: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)

    def ask(*words: str | Path, cluster: bool = True, of: str = "") -> list[dict[str, Any]]:
        what = of or " ".join(map(str, words[: 2 if words[0] in ("git", "limits", "local") else 1]))
        answer = jobyard(*words, "-o", "json", cluster=cluster, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"), **NO_CONFIG)
        assert "Traceback" not in answer.err
        for line in answer.lines:
            for name, found in objects(line, what):
                shapes[name].add(tuple(found))
                assert "" not in {key: value for key, value in found.items() if key != "line"}.values(), (
                    f"{name}: an empty text in place of null: {found}"
                )
                for key in TIMES & set(found):
                    assert found[key] is None or RFC_3339.fullmatch(found[key]), f"{name}: {key} is {found[key]}"
        return answer.lines

    failed = ask("run", flow)[-1]
    whole = ask("run", good)[-1]
    for name in (failed["name"], whole["name"]):
        (shown,) = ask("show", name)
        assert shown["name"] == name
        ask("why", name)
        ask("logs", name)
    assert ask("show", failed["name"]) == [failed]
    assert ask("rerun", failed["name"], "--failed")[-1]["steps"][0]["reason"] == "Reused"
    ask("run", good, "--detach", of="run --detach")
    ask("run", flow, "--dry-run", of="run --dry-run")
    (foreign,) = ask("show", "foreign", of="show JOB")
    ask("why", "foreign")
    assert (foreign["job"], foreign["run"]) == ("foreign", None)
    listed = {each["name"]: each for each in ask("runs")}
    assert {key: failed[key] for key in listed[failed["name"]]} == listed[failed["name"]], "a run in a list is the same without its steps"
    ask("cancel", whole["name"])
    ask("limits", "set", "database", "2")
    assert ask("limits", "list") == [{"limit": "database", "places": 2, "holders": [], "service": None}]
    ask("limits", "unset", "database")
    ask("check", good, bad, cluster=False)
    ask("graph", flow, cluster=False)
    ask("manifests", "--rbac", cluster=False)
    ask("local", "status", cluster=False)
    repository = ("--repository", str(remote), "--branch", "main")
    ask("git", "process", "--wait", *repository)
    ask("git", "status", *repository, cluster=False)
    ask("git", "log", *repository, cluster=False)
    ask("git", "requeue", "bad.yaml", *repository, cluster=False)
    ask("clean", "--dry-run", "--older-than", "1s")
    several = {name: found for name, found in shapes.items() if len(found) > 1}
    assert several == {}, "a key is always there, or never"
    for text in (jobyard("show", failed["name"]).out, jobyard("run", "--resume", failed["name"]).out):
        table = {words[1]: words[-1] for line in text.splitlines() if len(words := line.split()) > 3 and words[1] in "abc"}
        assert {each["name"]: each["reason"] for each in failed["steps"] if each["reason"]}.items() <= table.items()


# --- what is not there ---


def test_a_namespace_that_does_not_exist_is_the_same_error_everywhere(under_test: ClusterUnderTest, remote: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps(job("one")))
    said = set()
    for words in _everything(file, remote):
        answer = _call(*words, "--kubeconfig", under_test.kubeconfig, "-n", "no-such-namespace", cwd=tmp_path)
        assert answer.code == 3, f"{words}: {answer.out}{answer.err}"
        assert answer.out == ""
        said.add(answer.err)
    (sentence,) = said
    assert sentence.startswith("jobyard: namespace no-such-namespace does not exist: ")


def test_a_namespace_that_is_spelt_wrong(under_test: ClusterUnderTest, space: str, tmp_path: Path) -> None:
    answer = _call("runs", "--kubeconfig", under_test.kubeconfig, "-n", space[:-1], cwd=tmp_path)
    assert (answer.code, f'did you mean "{space}"?' in answer.err) == (3, True)


def test_a_namespace_in_which_we_may_see_nothing(under_test: ClusterUnderTest, space: str, remote: Path, tmp_path: Path) -> None:
    if under_test.name == LOCAL:
        pytest.skip("the local cluster has no RBAC: its token may do everything")

    async def restrict() -> Path:
        async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as client:
            return await restricted_kubeconfig(client, under_test.kubeconfig, space, tmp_path / "restricted")

    kubeconfig = asyncio.run(restrict())
    file = tmp_path / "one.json"
    file.write_text(json.dumps(job("one")))
    for namespace in ("default", "no-such-namespace"):
        said = set()
        for words in _everything(file, remote):
            answer = _call(*words, "--kubeconfig", kubeconfig, "-n", namespace, cwd=tmp_path)
            assert answer.code == 3, f"{words}: {answer.out}{answer.err}"
            said.add(answer.err)
        (sentence,) = said
        assert sentence.startswith(f"jobyard: namespace {namespace} does not exist, or you may not see what is in it: ")
    assert "No runs yet" in _call("runs", "--kubeconfig", kubeconfig, "-n", space, cwd=tmp_path).err


def _everything(file: Path, remote: Path) -> list[tuple[str | Path, ...]]:
    return [
        ("runs",),
        ("show", "x"),
        ("logs", "x"),
        ("why", "x"),
        ("cancel", "x"),
        ("rerun", "x"),
        ("run", "--resume", "x"),
        ("run", file),
        ("check", file),
        ("limits", "list"),
        ("limits", "set", "a", "1"),
        ("limits", "unset", "a"),
        ("clean",),
        ("git", "process", "--repository", remote, "--branch", "main"),
        ("git", "watch", "--repository", remote, "--branch", "main"),
    ]


def _call(*words: str | Path, cwd: Path) -> Answer:
    env = environment(XDG_CACHE_HOME=str(cwd / "cache"), **NO_CONFIG)
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=110, env=env, cwd=cwd, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_jobs_are_known_by_name_where_that_does(jobyard: Jobyard, under_test: ClusterUnderTest, space: str, tmp_path: Path) -> None:
    async def make() -> None:
        async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as cluster:
            await cluster.create(JOBS, space, job("foreign", pod={"nodeSelector": {"no": "node"}}))

    asyncio.run(make())
    file = tmp_path / "w.json"
    file.write_text(json.dumps(workflow("w", step("a"), step("b", "true", "a"))))
    run = jobyard("run", file, "-o", "json").lines[-1]
    for command in ("show", "why", "logs"):
        assert jobyard(command, "foreign").code == 0, command
        answer = jobyard(command, "nothing")
        assert (answer.code, "no run or Job nothing in namespace" in answer.err) == (2, True)
    assert f"step a of run {run['name']}" in jobyard("show", run["steps"][0]["job"]).out
    for words in (("cancel",), ("rerun",), ("run", "--resume")):
        answer = jobyard(*words, "foreign")
        assert (answer.code, answer.err) == (2, "jobyard: foreign is a Job, not a run; Jobyard did not start it, so use kubectl\n")
        answer = jobyard(*words, run["steps"][0]["job"])
        assert (answer.code, f"it belongs to run {run['name']}: `jobyard {' '.join(words)} {run['name']}" in answer.err) == (2, True)
        answer = jobyard(*words, run["name"][:-1])
        assert (answer.code, f'did you mean "{run["name"]}"?' in answer.err) == (2, True)


def test_what_is_over_can_t_be_cancelled_and_what_is_not_set_not_removed(jobyard: Jobyard, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps(job("one")))
    run = jobyard("run", file, "-o", "json").lines[-1]["name"]
    answer = jobyard("cancel", run)
    assert (answer.code, bool(re.match(rf"Run {run} had already succeeded, .* ago. Nothing was cancelled.", answer.out))) == (0, True)
    assert jobyard("limits", "set", "database", "2").code == 0
    answer = jobyard("limits", "unset", "databse")
    assert (answer.code, 'did you mean "database"?' in answer.err) == (2, True)
    answer = jobyard("limits", "unset", "other")
    assert (answer.code, "those that are set: database" in answer.err) == (2, True)
    assert jobyard("limits", "unset", "database").out.startswith("Limit database is no longer set")


# --- files ---


def test_a_folder_of_several_workflows_is_not_guessed_at(jobyard: Jobyard, tmp_path: Path) -> None:
    one = workflow("one", step("a"))
    (tmp_path / "nightly.json").write_text(json.dumps(one))
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/plain.json").write_text(json.dumps(job("plain")))
    assert "1 step" in jobyard("run", "--dry-run", cluster=False, cwd=tmp_path).out, "one alone needs no name"
    (tmp_path / "weekly.json").write_text(json.dumps(one))
    answer = jobyard("run", cluster=False, cwd=tmp_path)
    assert (answer.code, answer.err) == (2, "jobyard: 2 workflows in .: nightly.json, weekly.json; name one\n")
    (tmp_path / "workflow.yaml").write_text(json.dumps(one))
    assert jobyard("run", "--dry-run", cluster=False, cwd=tmp_path).code == 0, "one has the name for it"


def test_check_looks_at_each_of_them_and_says_by_what(jobyard: Jobyard, under_test: ClusterUnderTest, space: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(workflow("a", step("a"))))
    (tmp_path / "b.json").write_text(json.dumps(workflow("b", {**step("b"), "neds": []})))
    answer = jobyard("check", ".", cluster=False, cwd=tmp_path)
    assert answer.code == 2
    assert answer.err.splitlines()[0] == "a.json: good"
    assert re.fullmatch(
        r"Checked by the rules of Kubernetes v[\d.]+ and the fields of v[\d.]+; no cluster was asked\.", answer.err.splitlines()[1]
    )
    assert answer.err.splitlines()[2] == "1 mistake in 1 of 2 files"
    asked = jobyard("check", "a.json", cwd=tmp_path)
    assert (asked.code, f"asked: {connect(kubeconfig=str(under_test.kubeconfig)).server.split('/')[0]}" in asked.out) == (0, True)
    assert f"namespace {space}" in asked.out


def test_a_run_that_is_resumed_takes_no_file(jobyard: Jobyard) -> None:
    answer = jobyard("run", "--resume", "x", "flow.yaml", "--set", "a=b", cluster=False)
    assert (answer.code, answer.err.splitlines()[0].endswith("leave out FILE, --set")) == (2, True)


# --- nobody reads ---


def test_nobody_who_reads_is_no_error(jobyard: Jobyard, credentials: Path, space: str, tmp_path: Path) -> None:
    """As `| head` does it: the reader is gone before the first line."""
    file = tmp_path / "w.json"
    file.write_text(json.dumps(workflow("w", step("a", "echo hi; sleep 1"), step("b", "true", "a"))))
    run = jobyard("run", file, "-o", "json").lines[-1]["name"]
    for words in (("runs",), ("show", run), ("logs", run), ("run", str(file)), ("schema",)):
        cluster = ("--kubeconfig", str(credentials), "-n", space) if words != ("schema",) else ()
        with subprocess.Popen([*COMMAND, *words, *cluster], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            said = process.stderr.read().decode()
            code = process.wait(60)
        assert (code, "Traceback" in said, "Exception" in said) == (141, False, False), f"{words}: {said}"
        if words[0] == "run":
            assert re.search(r"Come back with:\n  jobyard run --resume w-\w+ --kubeconfig ", said)
