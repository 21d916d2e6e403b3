"""The local cluster as its user meets it: in a command, as a process that stays, and by kubectl."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import processes
from tests.e2e.conftest import COMMAND, Answer, environment
from tests.kubernetes import prepare
from tests.manifests import job, step, workflow


def call(*args: str | Path, **env: str) -> Answer:
    done = subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=110, env=environment(**env), check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A data folder of its own, whose cluster is stopped at the end."""
    env = {"JOBYARD_DATA": str(tmp_path / "data")}
    yield env
    call("local", "stop", "--force", **env)


def begin(file: Path, env: dict[str, str], until: str) -> tuple[subprocess.Popen[str], str]:
    """A run on the local cluster that goes on, and what it said so far."""
    process = subprocess.Popen(
        [*COMMAND, "run", "--local", str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(**env)
    )
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if until in line:
            return process, seen
    raise AssertionError(f"{until!r} was not said:\n{seen}")


def rest(process: subprocess.Popen[str]) -> str:
    """What it says until its end."""
    said, _ = process.communicate(timeout=60)
    return said


def test_a_command_brings_its_own_cluster_and_takes_it_along(tmp_path: Path, data: dict[str, str]) -> None:
    flow = tmp_path / "w.json"
    flow.write_text(json.dumps(workflow("w", step("a", "echo hi"))))
    answer = call("run", "--local", flow, **data)
    assert answer.code == 0, answer.err
    assert answer.err.count("without images, isolation or limits") == 1
    assert call("local", "status", **data).code == 1
    assert call("runs", "--local", **data).code == 3


def test_ctrl_c_ends_the_command_s_cluster_with_its_jobs(tmp_path: Path, data: dict[str, str]) -> None:
    marker = f"6{os.getpid()}"
    flow = tmp_path / "w.json"
    flow.write_text(json.dumps(workflow("w", step("a", f"sleep {marker} & setsid sleep {marker} & echo up; wait"))))
    process = subprocess.Popen([*COMMAND, "run", "--local", str(flow)], stdout=subprocess.PIPE, text=True, env=environment(**data))
    assert process.stdout is not None
    assert any("a running" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(60) == 130
    process.stdout.close()
    assert processes.with_words(f"sleep\0{marker}") == []


def test_processes_do_not_outlive_a_cluster_that_is_killed(tmp_path: Path, data: dict[str, str]) -> None:
    marker = f"7{os.getpid()}"
    flow = tmp_path / "w.json"
    flow.write_text(json.dumps(workflow("w", step("a", f"sleep {marker} & setsid sleep {marker} & echo up; wait"))))
    process = subprocess.Popen([*COMMAND, "run", "--local", str(flow)], stdout=subprocess.PIPE, text=True, env=environment(**data))
    assert process.stdout is not None
    assert any("a running" in line for line in process.stdout)
    (warden,) = (pid for pid in processes.with_words("warden.py") if processes.fields(pid)[1:2] == [str(process.pid)])
    handle = os.pidfd_open(warden)  # while it surely lives; it tells of the end of a process that is not our child
    try:
        process.kill()
        process.wait()
        process.stdout.close()
        ended, _, _ = select.select([handle], [], [], 60)
    finally:
        os.close(handle)
    assert ended
    assert processes.with_words(f"sleep\0{marker}") == []


def test_start_status_kubeconfig_stop_reset(tmp_path: Path, data: dict[str, str]) -> None:
    assert call("local", "status", **data).code == 1
    started = call("local", "start", **data)
    assert (started.code, "is up" in started.out) == (0, True)
    assert "is already running" in call("local", "start", **data).out
    assert call("local", "status", **data).code == 0
    kubeconfig = Path(call("local", "kubeconfig", **data).out.strip())
    assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600
    flow = tmp_path / "w.json"
    flow.write_text(json.dumps(workflow("w", step("a"))))
    assert call("run", "--local", flow, **data).code == 0
    assert call("local", "stop", **data).code == 0
    assert "No local cluster is running." in call("local", "stop", **data).out
    assert call("local", "kubeconfig", **data).code == 3
    call("local", "start", **data)
    assert [json.loads(line)["state"] for line in call("runs", "--local", "-o", "json", **data).out.splitlines()] == ["succeeded"], (
        "its state stays"
    )
    assert call("local", "reset", **data).code == 0
    assert not Path(data["JOBYARD_DATA"], "local").exists()


def test_a_killed_cluster_starts_as_it_ended_and_its_run_is_resumed(tmp_path: Path, data: dict[str, str]) -> None:
    call("local", "start", **data)
    flow = tmp_path / "w.json"
    flow.write_text(json.dumps(workflow("w", step("a", "true"), step("b", "sleep 60", "a", spec={"backoffLimit": 0}))))
    process = subprocess.Popen([*COMMAND, "run", "--local", str(flow)], stdout=subprocess.PIPE, text=True, env=environment(**data))
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if "b running" in line:
            break
    pid = int(re.search(r"process (\d+)", call("local", "status", **data).out)[1])  # type: ignore[index]
    os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()
    process.stdout.close()
    assert call("local", "start", **data).code == 0
    run = re.search(r"Run (\S+):", seen)
    assert run
    answer = call("run", "--local", "--resume", run[1], "-o", "json", **data)
    last = json.loads(answer.out.splitlines()[-1])
    assert {each["name"]: each["state"] for each in last["steps"]} == {"a": "succeeded", "b": "failed"}
    assert last["steps"][1]["diagnosis"]["exitCode"] == 137


def test_stop_says_what_would_end_and_ends_it_only_when_that_is_meant(tmp_path: Path, data: dict[str, str]) -> None:
    call("local", "start", **data)
    flow = tmp_path / "w.json"
    flow.write_text(json.dumps(workflow("w", step("a", "sleep 600"))))
    process, seen = begin(flow, data, "a running")
    found = re.search(r"Run (\S+):", seen)
    assert found
    run = found[1]
    for command in ("stop", "reset"):
        left = call("local", command, **data)
        assert left.code == 2
        assert re.search(rf"run +{run} +running +default", left.err)
        assert "1 run goes on, so the local cluster was left as it is; --force ends it all" in left.err
    assert call("local", "status", **data).code == 0
    stopped = call("local", "stop", "--force", **data)
    assert (stopped.code, run in stopped.err, "is stopped" in stopped.out) == (0, True, True)
    said = rest(process)
    assert process.returncode == 3
    assert f"then `jobyard run --resume {run} --local` goes on with the run" in said
    assert "the local cluster has ended" in said


def test_a_run_whose_local_cluster_was_killed_ends_with_a_sentence(tmp_path: Path, data: dict[str, str]) -> None:
    call("local", "start", **data)
    flow = tmp_path / "w.json"
    flow.write_text(json.dumps(workflow("w", step("a", "sleep 600"))))
    process, _ = begin(flow, data, "a running")
    env = {**data, "KUBECONFIG": call("local", "kubeconfig", **data).out.strip()}
    waiting = subprocess.Popen([*COMMAND, "runs", "-o", "json"], stdout=subprocess.PIPE, text=True, env=environment(**env))
    run = json.loads(waiting.communicate(timeout=60)[0])["name"]
    by_kubeconfig = subprocess.Popen(
        [*COMMAND, "run", "--resume", run], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(**env)
    )
    assert by_kubeconfig.stdout is not None
    assert any("a running" in line for line in by_kubeconfig.stdout)
    os.kill(int(re.search(r"process (\d+)", call("local", "status", **data).out)[1]), signal.SIGKILL)  # type: ignore[index]
    for each in (process, by_kubeconfig):
        assert "the local cluster has ended, and with it the Jobs that ran on it" in rest(each)
        assert each.returncode == 3


def test_sigterm_does_not_speak_of_ctrl_c(tmp_path: Path, data: dict[str, str]) -> None:
    flow = tmp_path / "w.json"
    flow.write_text(json.dumps(workflow("w", step("a", "sleep 600"))))
    alone, _ = begin(flow, data, "a running")
    alone.terminate()
    said = rest(alone)
    assert (alone.returncode, "Cancelling the run" in said, "Ctrl-C" in said) == (143, True, False)
    call("local", "start", **data)
    process, _ = begin(flow, data, "a running")
    process.terminate()
    said = rest(process)
    assert (process.returncode, "Ctrl-C" in said) == (143, False)
    assert "Terminated. The Jobs go on. Come back with:\n  jobyard run --resume w-" in said


def test_kubectl_works_on_it(tmp_path: Path, data: dict[str, str]) -> None:
    program = prepare.kubectl()
    if program is None:
        pytest.skip("kubectl is neither installed nor built for the node")
    call("local", "start", **data)
    kubeconfig = call("local", "kubeconfig", **data).out.strip()

    def kubectl(*args: str, text: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [program, "--kubeconfig", kubeconfig, *args], capture_output=True, text=True, timeout=60, input=text, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    manifest = json.dumps(job("hello", f"echo one; until test -e {tmp_path}/go; do sleep 0.1; done; echo two"))
    assert "job.batch/hello created" in kubectl("create", "-f", "-", text=manifest)
    kubectl("wait", "--for=jsonpath={.status.ready}=1", "job/hello", "--timeout=50s")
    (tmp_path / "go").touch()
    assert kubectl("logs", "-f", "job/hello").splitlines()[-2:] == ["one", "two"]
    kubectl("wait", "--for=condition=complete", "job/hello", "--timeout=50s")
    assert "hello" in kubectl("get", "jobs")
    described = kubectl("describe", "job", "hello")
    assert "SuccessfulCreate" in described
    assert "Completed" in described
    kubectl("patch", "job", "hello", "-p", '{"metadata":{"labels":{"a":"b"}}}')
    kubectl("patch", "job", "hello", "--type=merge", "-p", '{"metadata":{"labels":{"c":"d"}}}')
    kubectl("patch", "job", "hello", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels/e","value":"f"}]')
    assert "hello" in kubectl("get", "jobs", "-l", "a=b,c=d,e in (f,g),!h", "-o", "name")
    assert 'unknown field "spec.backofLimit"' in kubectl("create", "-f", "-", text=json.dumps(job("bad", backofLimit=1)), code=1)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}
    assert "created" in kubectl("apply", "-f", "-", text=json.dumps(config))
    assert "configured" in kubectl("apply", "-f", "-", text=json.dumps({**config, "data": {"b": "2"}}))
    assert kubectl("get", "configmap", "settings", "-o", "jsonpath={.data}") == '{"b":"2"}'
    assert "created" in kubectl("create", "secret", "generic", "pw", "--from-literal=a=b")
    assert "created" in kubectl("create", "job", "typed", "--image=busybox", "--", "true")
    assert "deleted" in kubectl("delete", "job", "hello")
    assert 'jobs.batch "hello" not found' in kubectl("get", "job", "hello", code=1)
    assert "hello" not in kubectl("get", "pods")


def test_volumes_without_bubblewrap_are_a_pod_error_that_says_so(tmp_path: Path, data: dict[str, str]) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for program in ("sh", "true", "sleep", "cat", "echo"):
        (bare / program).symlink_to(shutil.which(program) or "/bin/sh")
    volume = {"volumes": [{"name": "v", "emptyDir": {}}]}
    flow = tmp_path / "w.json"
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/data"}]}
    flow.write_text(
        json.dumps(workflow("w", {"name": "a", "timeout": "3s", "job": {"spec": job("x", pod=volume, container=mount)["spec"]}}))
    )
    answer = call("run", "--local", flow, PATH=str(bare), **data)
    assert answer.code == 1
    assert "bubblewrap" in answer.out


def test_outputs_work_without_bubblewrap(tmp_path: Path, data: dict[str, str]) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    flow = tmp_path / "w.json"
    flow.write_text(
        json.dumps(
            workflow(
                "w", step("a", "echo '{\"n\": 7}' > /dev/termination-log"), step("b", "echo n is {{ steps.a.outputs.n }}; exit 1", "a")
            )
        )
    )
    assert "n is 7" in call("run", "--local", flow, PATH=str(bare), **data).out


def test_a_thousand_steps_at_once(tmp_path: Path, data: dict[str, str]) -> None:
    flow = tmp_path / "w.json"
    flow.write_text(json.dumps(workflow("fan", *(step(f"s{i}") for i in range(1000)))))
    answer = call("run", "--local", flow, **data)
    assert answer.code == 0, answer.out[-2000:] + answer.err
    assert "1000 succeeded" in answer.out
