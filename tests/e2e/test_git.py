"""`jobyard git`, and goji's commands, as a user types them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import pty
import select
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.model.names import RECORD_SELECTOR
from jobyard.model.objects import CONFIG_MAPS, SECRETS
from tests.conftest import ClusterUnderTest
from tests.e2e.conftest import COMMAND, Answer, Jobyard, environment
from tests.git.remotes import NO_CONFIG, Person, git, subjects, tree
from tests.manifests import job, step, workflow
from tests.ports import free_port
from tests.said import BOUND, Said

SECRET = "s3cret"
Serve = Callable[..., Said]


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "remote.git")
    return tmp_path / "remote.git"


@pytest.fixture
def serve(credentials: Path, space: str, tmp_path: Path) -> Iterator[Serve]:
    """Starts a command that goes on, and ends it as Kubernetes would."""
    started: list[Said] = []

    def start(*words: str, cluster: bool = True, cwd: Path | None = None, **env: str) -> Said:
        more = ["--kubeconfig", str(credentials), "-n", space] if cluster else []
        outer = environment(XDG_CACHE_HOME=str(tmp_path / "cache"), **NO_CONFIG, **env)
        process = subprocess.Popen(
            [*COMMAND, *words, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=outer, cwd=cwd
        )
        started.append(Said(process))
        return started[-1]

    yield start
    for each in started:
        each.end()


def post(url: str, body: bytes, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, data=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_from_nothing_to_done(jobyard: Jobyard, remote: Path, tmp_path: Path) -> None:
    def call(*words: str, cluster: bool = False, cwd: Path = tmp_path) -> Answer:
        return jobyard("git", *words, cluster=cluster, cwd=cwd, XDG_CACHE_HOME=str(tmp_path / "cache"), **NO_CONFIG)

    made = call("init", "--repository", str(remote))
    assert made.code == 0, made.err
    assert "Committed and pushed queued, processing, succeeded, failed, unknown." in made.out
    assert "exists already" in call("init", "--repository", str(remote)).out
    folder = tmp_path / "jobs"
    assert "No files yet." in call("status").err
    template = call("template", "hello", "busybox", "echo", "hello")
    manifest = yaml.safe_load(template.out)
    manifest["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"  # a test's node has no registry
    (folder / "queued/hello.yaml").write_text(yaml.safe_dump(manifest))
    (folder / "queued/bad.yaml").write_text(yaml.safe_dump(job("bad", "exit 2")))
    assert "2 files of queued/ are not in origin/main yet: commit and push." in call("process", cluster=True).err
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "work")
    git(folder, "push", "--quiet")
    done = call("process", "--wait", cluster=True)
    assert (done.code, done.err.splitlines()[-1]) == (1, "1 file of 2 did not succeed: failed/bad.yaml")
    assert "hello.yaml  queued → processing (run hello-" in done.out
    assert "bad.yaml  processing → failed: " in done.out
    assert (folder / "succeeded/hello.yaml").exists(), "the clone follows"
    assert call("process", cluster=True).err.strip().endswith("Nothing is queued or running.")
    nowhere = call("process", "--folder", "nope", cluster=True)
    assert (nowhere.code, "there is no folder nope with a queue in branch main" in nowhere.err) == (2, True)
    assert "Name a branch that exists" in call("process", "--branch", "nope", cluster=True).err
    assert call("requeue", "hello.yaml").out == "hello.yaml  succeeded → queued\n"
    wrong = call("requeue", "failed/bat.yaml")
    assert wrong.code == 2
    assert 'did you mean "failed/bad.yaml"?' in wrong.err
    assert 'did you mean "failed/bad.yaml"?' in call("requeue", "bad").err
    assert "is queued already" in call("requeue", "hello.yaml").err
    rows = {row["file"]: row for row in call("status", "-o", "json").lines}
    assert {name: row["state"] for name, row in rows.items()} == {"hello.yaml": "queued", "bad.yaml": "failed"}
    told = call("log", "bad.yaml", "-o", "json").lines
    shown = jobyard("show", rows["bad.yaml"]["run"])
    assert f"repository {remote}\nfile queued/bad.yaml\ncommit " in shown.out, shown.err
    assert [each["state"] for each in told] == ["failed", "processing"]
    assert rows["bad.yaml"]["run"] == told[0]["run"]
    moved = call("process", "--wait", "-o", "json", cluster=True)
    assert moved.code == 0, moved.err
    assert [(each["file"], each["to"]) for each in moved.lines] == [("hello.yaml", "processing"), ("hello.yaml", "succeeded")]
    assert tree(remote)["hello.yaml"] == "succeeded"


def test_options_and_variables_say_what_files_may_ask_for(jobyard: Jobyard, remote: Path, tmp_path: Path) -> None:
    person = Person(remote, tmp_path / "person")
    person.write("queued/near.yaml", yaml.safe_dump(job("near", pod={"hostIPC": True})))
    person.push()
    more = {"cwd": tmp_path, "XDG_CACHE_HOME": str(tmp_path / "cache"), **NO_CONFIG}

    def call(*words: str, cluster: bool = True, **env: str) -> Answer:
        return jobyard("git", *words, "--repository", str(remote), "--branch", "main", cluster=cluster, **more, **env)

    refused = call("process", "--wait")
    assert "near.yaml  queued → failed: queued/near.yaml:" in refused.out, refused.err
    assert "true as spec.template.spec.hostIPC, which pods: baseline forbids, expected false" in refused.out
    assert call("requeue", "near.yaml", cluster=False).code == 0
    assert "near.yaml  queued → failed" in call("process", "--wait", JOBYARD_GIT_PODS="restricted").out
    assert call("requeue", "near.yaml", cluster=False).code == 0
    assert "near.yaml  processing → succeeded" in call("process", "--wait", "--pods", "any").out
    assert "privileged" in call("process", "--pods", "privileged").err


def test_a_template_takes_the_rest_of_the_line_as_it_is(jobyard: Jobyard) -> None:
    words = ["sh", "-c", "echo 'a: b'\necho $HOME", "--verbose", "-n", "x", "--"]
    for more in ([], ["--"]):
        made = yaml.safe_load(jobyard("git", "template", "hello", "busybox", *more, *words, cluster=False).out)
        assert made["spec"]["template"]["spec"]["containers"][0]["command"] == words
    assert "command" not in jobyard("git", "template", "hello", "busybox", cluster=False).out


@pytest.mark.parametrize("words", [["hello"], ["Hello There", "busybox"], ["hello", "--image"], ["--image", "busybox"]])
def test_a_template_that_can_t_be_made_leaves_nothing_in_a_file(jobyard: Jobyard, words: list[str]) -> None:
    answer = jobyard("git", "template", *words, cluster=False)
    assert (answer.code, answer.out) == (2, "")
    assert "jobyard: " in answer.err


def test_mistakes_are_told_in_a_sentence(jobyard: Jobyard, tmp_path: Path) -> None:
    empty = jobyard("git", "process", cwd=tmp_path, **NO_CONFIG)
    assert empty.code == 2
    assert "it is not in a Git repository" in empty.err
    away = jobyard(
        "git", "process", "--repository", str(tmp_path / "none.git"), "--branch", "main", XDG_CACHE_HOME=str(tmp_path), **NO_CONFIG
    )
    assert away.code == 3
    assert "git fetch failed: " in away.err
    assert jobyard("git", "watch", "--listen", "8080", cwd=tmp_path).code == 2
    assert "expected NAME <MAIL>" in jobyard("git", "requeue", "x", "--author", "me", cluster=False, cwd=tmp_path).err
    for each in (empty, away):
        assert "Traceback" not in each.err


def test_watch_hears_of_pushes_and_follows_runs(serve: Serve, remote: Path, tmp_path: Path) -> None:
    person = Person(remote, tmp_path / "person")
    person.write("queued/.gitkeep", "")
    person.push()
    port = free_port()
    words = ("git", "watch", "--repository", str(remote), "--branch", "main", "--listen", f"127.0.0.1:{port}", "--poll", "600")
    watching = serve(*words, JOBYARD_WEBHOOK_SECRET=SECRET)
    watching.until("Webhooks are received")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
        assert answer.read() == b"OK!"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60) as answer:
        ready = json.load(answer)
    assert (ready["ready"], [each["state"] for each in ready["triggers"].values()]) == (True, ["running"])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        assert f'jobyard_trigger_up{{trigger="{next(iter(ready["triggers"]))}"}} 1.0' in answer.read().decode()
    hook = f"http://127.0.0.1:{port}/webhooks/github"

    def tell(commit: str, ref: str = "refs/heads/main", secret: str = SECRET) -> tuple[int, str]:
        body = json.dumps({"ref": ref, "before": "0", "after": commit}).encode()
        return post(hook, body, X_Hub_Signature_256="sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest())

    assert tell("x", secret="other") == (400, "Invalid webhook signature")
    assert post(hook, b"{}") == (400, "Invalid webhook signature")
    person.write("queued/a.yaml", yaml.safe_dump(job("a")))
    commit = person.push()
    assert tell(commit, ref="refs/heads/other") == (200, "OK")
    assert tell(commit) == tell(commit) == (200, "OK")
    watching.until("a.yaml  processing → succeeded")
    assert tree(remote) == {"a.yaml": "succeeded"}


def test_an_outage_is_told_once_and_then_how_often_it_was_tried(serve: Serve, remote: Path, tmp_path: Path) -> None:
    person = Person(remote, tmp_path / "person")
    person.write("queued/.gitkeep", "")
    person.push()
    watching = serve("git", "watch", "--repository", str(remote), "--branch", "main", "--poll", "1")
    watching.until("the branch is looked at every 1s")
    away = remote.rename(tmp_path / "away.git")
    watching.until("failed 2 times in a row; trying again in ")
    assert watching.text.count("does not appear to be a git repository") == 1
    away.rename(remote)
    person.write("queued/a.yaml", yaml.safe_dump(job("a")))
    person.push()
    watching.until("a.yaml  processing → succeeded")


def test_a_terminal_shows_files_with_the_steps_of_their_runs(credentials: Path, space: str, remote: Path, tmp_path: Path) -> None:
    person = Person(remote, tmp_path / "person")
    flow = workflow("etl", step("extract", "echo row 7; sleep 3"), step("load", "true", "extract"))
    person.write("queued/etl.yaml", yaml.safe_dump(flow))
    person.push()
    ours, theirs = pty.openpty()
    words = ["git", "watch", "--repository", str(remote), "--branch", "main", "--kubeconfig", str(credentials), "-n", space]
    env = environment(XDG_CACHE_HOME=str(tmp_path / "cache"), COLUMNS="80", LINES="24", TERM="xterm", **NO_CONFIG)
    watching = subprocess.Popen([*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    seen = b""
    try:
        for awaited in ("queued → processing", "▸ extract", "row 7", "· load", "WaitingForStep", "processing → succeeded"):
            while awaited.encode() not in seen:
                assert select.select([ours], [], [], BOUND)[0], f"{awaited} was not shown: {seen.decode()}"
                seen += os.read(ours, 65536)
        watching.send_signal(signal.SIGINT)
        while b"Interrupted. Runs that have begun go on" not in seen:
            assert select.select([ours], [], [], BOUND)[0]
            seen += os.read(ours, 65536)
        assert watching.wait(60) == 130
    finally:
        watching.kill()
        watching.wait()
        os.close(ours)


def test_says_what_keeps_a_job_from_running(serve: Serve, under_test: ClusterUnderTest, space: str, remote: Path, tmp_path: Path) -> None:
    person = Person(remote, tmp_path / "person")
    person.write("queued/late.yaml", yaml.safe_dump(job("late", container={"envFrom": [{"secretRef": {"name": "nobody-made-it"}}]})))
    person.push()
    waiting = serve("git", "process", "--wait", "--repository", str(remote), "--branch", "main")
    waiting.until("late.yaml: Step late is not running. ")
    waiting.until("nobody-made-it")

    async def make_it() -> None:
        async with open_cluster(connect(kubeconfig=str(under_test.kubeconfig))) as cluster:
            await cluster.create(SECRETS, space, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nobody-made-it"}})

    asyncio.run(make_it())
    waiting.until("late.yaml  processing → succeeded")
    assert waiting.process.wait(timeout=BOUND) == 0


def test_goji_s_container_can_be_replaced(
    serve: Serve, jobyard: Jobyard, under_test: ClusterUnderTest, remote: Path, tmp_path: Path
) -> None:
    """Its commands, its variables, its port's answers; its namespace is `default`, so names are of this test alone."""
    name = f"goji-{os.getpid()}-{under_test.name}"
    config = {"KUBECONFIG": str(under_test.kubeconfig), **NO_CONFIG}
    person = Person(remote, tmp_path / "person")
    manifest = job(name)
    manifest["metadata"]["annotations"] = {"why": "test"}
    manifest["spec"]["template"]["spec"]["hostIPC"] = True  # beyond `baseline`: goji forbade nothing
    person.write(f"queued/{name}.yaml", yaml.safe_dump(manifest))
    commit = person.push()
    port = free_port()
    more = {
        "GIT_REPOSITORY": str(remote),
        "GITHUB_WEBHOOK_SECRET": "hook",
        **{key: value for key, value in config.items() if key == "KUBECONFIG"},
    }
    server = serve("compat", "goji", "server", "--port", str(port), cluster=False, cwd=tmp_path, **more)
    server.until(f"{name}.yaml  processing → succeeded")
    assert tree(remote) == {f"{name}.yaml": "succeeded"}
    assert subjects(remote)[0] == f"{name}.yaml transitioned from processing to succeeded"
    assert git(remote, "log", "-1", "--format=%an <%ae>", "main").strip() == "Goji Bot <goji-bot@goji>"
    body = json.dumps({"ref": "refs/heads/main", "before": "0", "after": commit}).encode()
    url = f"http://127.0.0.1:{port}/webhooks/github"
    assert post(url, body, X_Hub_Signature="sha1=" + hmac.new(b"hook", body, hashlib.sha1).hexdigest()) == (200, "OK")
    assert post(url, body)[0] == 400
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(url, timeout=60)

    def goji(*words: str) -> Answer:
        return jobyard("compat", "goji", *words, cluster=False, cwd=tmp_path, **config)

    assert goji("init", "--repository", str(remote)).code == 0
    assert "already exists" in goji("init").out
    assert goji("requeue", f"{name}.yaml").out == f"{name}.yaml  succeeded → queued\n"
    assert f"name: {name}" in goji("template", "basic-job", name, "busybox", "x.yaml").out
    (tmp_path / "my.tpl").write_text("kind: {args.job_name}\n")
    assert goji("template", "my.tpl", "Jop", "i", "x.yaml").code == 0
    assert (tmp_path / "jobs/queued/x.yaml").read_text() == "kind: Jop\n"
    asyncio.run(forget(under_test.kubeconfig, name))


async def forget(kubeconfig: Path, name: str) -> None:
    """Deletes the runs of a workflow in the namespace `default`, which is not the test's own."""
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster:
        for record in await cluster.list(CONFIG_MAPS, "default", labels=RECORD_SELECTOR):
            if record.metadata.name.startswith(name):
                await cluster.delete(CONFIG_MAPS, "default", record.metadata.name)
