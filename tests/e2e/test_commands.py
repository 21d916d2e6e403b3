"""The small commands, and how the command line behaves as such."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from tests.conftest import LOCAL, ClusterUnderTest
from tests.e2e.conftest import COMMAND, Jobyard, environment
from tests.manifests import job, step, workflow

ROOT = Path(__file__).parents[2]


def test_check_finds_mistakes_and_exits_with_2(jobyard: Jobyard, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec:\n  backofLimit: 1\n")
    answer = jobyard("check", "bad.yaml", cluster=False, cwd=tmp_path)
    assert answer.code == 2
    assert answer.out.startswith('bad.yaml:5:3: unknown field "backofLimit" in spec; did you mean "backoffLimit"?')
    assert "2 mistakes" in answer.err
    found = jobyard("check", "bad.yaml", "-o", "json", cluster=False, cwd=tmp_path).lines
    assert (found[0]["line"], found[0]["column"], found[0]["severity"]) == (5, 3, "error")


async def allow_no_jobs(kubeconfig: Path, namespace: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as client:
        await client.call("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", "create a quota", body=json.dumps(quota).encode())


def test_check_asks_the_cluster_too(jobyard: Jobyard, under_test: ClusterUnderTest, space: str, tmp_path: Path) -> None:
    """What only the cluster knows: the kinds that it serves, and what its admission refuses."""
    beside = {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}}
    (tmp_path / "beside.yaml").write_text("\n---\n".join(map(json.dumps, (job("x"), beside))))
    assert jobyard("check", "beside.yaml", cluster=False, cwd=tmp_path).code == 0
    answer = jobyard("check", "beside.yaml", cwd=tmp_path)
    assert (answer.code, answer.out.startswith("beside.yaml:3:")) == (2, True)
    assert "the cluster says: " in answer.out
    assert jobyard("check", ROOT / "examples/etl").code == 0
    if under_test.name != LOCAL:
        asyncio.run(allow_no_jobs(under_test.kubeconfig, space))
        (tmp_path / "j.json").write_text(json.dumps(job("x")))
        answer = jobyard("check", "j.json", cwd=tmp_path)
        assert (answer.code, "j.json:1:1: the cluster refuses it" in answer.out, "quota" in answer.out) == (2, True, True)


def test_check_says_that_all_is_good(jobyard: Jobyard) -> None:
    answer = jobyard("check", ROOT / "examples/etl", cluster=False)
    assert (answer.code, "all good" in answer.out) == (0, True)


def test_graph_draws(jobyard: Jobyard, tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(json.dumps(workflow("w", step("a"), step("b", "true", "a"), step("c", "true", "a", when="failed"))))
    text = jobyard("graph", path, cluster=False).out
    assert "b  (after a)" in text
    mermaid = jobyard("graph", path, "-o", "mermaid", cluster=False).out
    assert "s0 --> s1" in mermaid
    assert "s0 -. failed .-> s2" in mermaid
    svg = jobyard("graph", path, "-o", "svg", cluster=False).out
    assert svg.startswith("<svg")
    assert svg.count("<rect") == 3


def test_schema_is_the_one_that_is_checked_in(jobyard: Jobyard) -> None:
    answer = jobyard("schema", cluster=False)
    assert json.loads(answer.out) == json.loads((ROOT / "docs/workflow.schema.json").read_text())
    answer = jobyard("schema", "service", cluster=False)
    assert json.loads(answer.out) == json.loads((ROOT / "docs/service.schema.json").read_text())


def test_check_knows_a_service_s_settings_and_run_says_what_they_are_for(jobyard: Jobyard, tmp_path: Path) -> None:
    file = tmp_path / "jobyard.yaml"
    file.write_text("apiVersion: jobyard.dev/v1\nkind: Service\nspec:\n  triggers: [{name: a, git: {repository: {env: NOWHERE}}}]\n")
    good = jobyard("check", "jobyard.yaml", cluster=False, cwd=tmp_path)
    assert good.code == 0
    assert good.out.splitlines() == [
        "jobyard.yaml:4:48: warning: the environment has no variable NOWHERE; set it where the service is started",
        "jobyard.yaml: all good",
    ]
    refused = jobyard("run", "--local", cluster=False, cwd=tmp_path)
    assert (refused.code, "`jobyard serve jobyard.yaml --local` serves them" in refused.err) == (2, True)
    file.write_text(file.read_text().replace("git:", "gti:"))
    wrong = jobyard("check", "jobyard.yaml", cluster=False, cwd=tmp_path)
    assert (wrong.code, 'jobyard.yaml:4:24: unknown key "gti"' in wrong.out, 'did you mean "git"?' in wrong.out) == (2, True, True)


def test_version_and_help(jobyard: Jobyard) -> None:
    assert jobyard("--version", cluster=False).out.startswith("jobyard 0.")
    answer = jobyard("--help", cluster=False)
    for command in ("run", "check", "graph", "runs", "show", "logs", "cancel", "why", "local", "manifests", "schema", "completion"):
        assert command in answer.out
        assert jobyard(command, "--help", cluster=False).code == 0


def test_wrong_usage_exits_with_2(jobyard: Jobyard) -> None:
    for words in (["nothing"], ["run", "--nothing"], ["check"], ["run", "x", "--parallelism", "-1"]):
        assert jobyard(*words, cluster=False).code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(jobyard: Jobyard, shell: str) -> None:
    assert "_JOBYARD_COMPLETE" in jobyard("completion", shell, cluster=False).out


def test_completion_knows_commands_and_options() -> None:
    env = environment(_JOBYARD_COMPLETE="bash_complete", COMP_WORDS="jobyard ru", COMP_CWORD="1")
    out = subprocess.run(COMMAND, capture_output=True, text=True, env=env, check=False).stdout
    assert "plain,run" in out
    env = environment(_JOBYARD_COMPLETE="bash_complete", COMP_WORDS="jobyard run --par", COMP_CWORD="2")
    assert "--parallelism" in subprocess.run(COMMAND, capture_output=True, text=True, env=env, check=False).stdout


def test_verbose_says_each_call_and_no_secret(jobyard: Jobyard, local_data: Path, space: str) -> None:
    answer = jobyard("runs", "-v")
    assert "list configmaps: 200" in answer.err
    token = json.loads((local_data / "local/kubeconfig").read_text())["users"][0]["user"]["token"]
    assert token not in answer.err + answer.out
