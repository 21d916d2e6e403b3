"""Secrets of every kind are planted, and everything that comes out is searched for them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from tests import canaries as birds
from tests.canaries import Canaries, Started
from tests.conftest import ClusterUnderTest
from tests.e2e.conftest import COMMAND, environment
from tests.e2e.test_git import post
from tests.git.remotes import NO_CONFIG, USER, Person, git, http, tree
from tests.git.serving import text
from tests.manifests import Tree, job, step, workflow
from tests.ports import free_port
from tests.said import Said

pytestmark = pytest.mark.usefixtures("own_configuration")
PROGRAMS = ("git", "git-remote-http", "git-remote-https", "ssh")
IN_A_MANIFEST = ("a variable in a manifest", "a variable in a workflow", "a parameter's default")
FILES = ("beside.yaml", "env.yaml", "flow.yaml", "named.yaml", "succeeds.yaml")
REMOTE = {"fetch", "push", "ls-remote", "clone"}


def secret(name: str, value: str, **data: str) -> Tree:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"password": value, **data}}


def speaking(name: str, secret_name: str, code: int = 1, env: dict[str, str] | None = None) -> Tree:
    """A Job that tells what it knows, in its log and in its last message."""
    wanted: list[Tree] = (
        [{"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": secret_name, "key": "password"}}}] if secret_name else []
    )
    wanted += [{"name": key, "value": value} for key, value in (env or {}).items()]
    script = f"env | grep -E 'FROM_SECRET|TOKEN'; env | grep -E 'FROM_SECRET|TOKEN' > /dev/termination-log; exit {code}"
    return job(name, script, container={"env": wanted})


def plant(person: Person, canaries: Canaries) -> None:
    """Files that bring secrets in all the ways there are."""
    beside = canaries.plant("a Secret beside a Job", "+")
    person.write(
        "queued/beside.yaml",
        text(
            secret("beside", beside, lines=f"{canaries.plant('a line of a Secret')}\n{canaries.plant('another')}"),
            speaking("beside", "beside"),
        ),
    )
    encoded = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "ok"},
        "data": {
            "password": base64.encodebytes(canaries.plant("a Secret in Base64").encode()).decode()
        },  # with a line end, as programs write it
    }
    person.write("queued/succeeds.yaml", text(encoded, speaking("succeeds", "ok", 0)))
    person.write("queued/env.yaml", text(speaking("env", "", env={"API_TOKEN": canaries.plant("a variable in a manifest", "=")})))
    inline = speaking("x", "", env={"OTHER_TOKEN": canaries.plant("a variable in a workflow")})
    flow = workflow(
        "flow",
        {"name": "a", "job": {"spec": inline["spec"]}},
        step("b", "true", "a"),
        parameters=[{"name": "token", "default": canaries.plant("a parameter's default")}],
    )
    person.write("queued/flow.yaml", text(flow))
    person.write("manifests/deep/s.yaml", text(secret("named", canaries.plant("a Secret in a manifest that a workflow names", "/"))))
    person.write("manifests/deep/j.yaml", text(speaking("named", "named")))
    person.write("queued/named.yaml", text(workflow("named", {"name": "a", "manifest": "../manifests/deep"})))
    person.push()


@contextlib.contextmanager
def running(*words: str, **env: str) -> Iterator[Said]:
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(**env))
    said = Said(process)
    try:
        yield said
    finally:
        said.end()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("by", ["an address", "variables", "settings"])
async def test_nothing_that_git_sees_is_told(
    cluster: HttpCluster,
    namespace: str,
    under_test: ClusterUnderTest,
    remote: Path,
    person: Person,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    by: str,
) -> None:
    canaries = Canaries()
    password, hook = (
        canaries.plant("the password of the repository", ":" if by == "variables" else "/#"),
        canaries.plant("the webhook's secret"),
    )
    git(remote, "config", "http.receivepack", "true")
    plant(person, canaries)
    cache, temporary, port = tmp_path / "cache", tmp_path / "tmp", free_port()
    temporary.mkdir()
    with http(remote.parent, password=password) as address, canaries.watching(tmp_path / "watch", PROGRAMS, [temporary, cache]) as watched:
        url = f"{address}/remote.git"
        if by == "an address":
            who = {"JOBYARD_GIT_REPOSITORY": url.replace("://", f"://{USER}:{password}@")}
        elif by == "variables":
            who = {"JOBYARD_GIT_REPOSITORY": url, "GIT_USERNAME": USER, "GIT_PASSWORD": password}
        else:
            who = {"WHERE": url.replace("://", f"://{USER}:{password}@")}
        env = {**watched, **who, **NO_CONFIG, "XDG_CACHE_HOME": str(cache), "TMPDIR": str(temporary)}
        if by == "settings":
            words: tuple[str, ...] = ("serve", "-v", str(write_settings(tmp_path, port)))
            begun = "serving trigger ops"
            env |= {"KNOCK": hook}
        else:
            words, begun = (
                ("git", "watch", "-v", "--branch", "main", "--listen", f"127.0.0.1:{port}", "--poll", "600"),
                "Webhooks are received",
            )
            env |= {"JOBYARD_WEBHOOK_SECRET": hook}
        with running(*words, "--kubeconfig", str(under_test.kubeconfig), "-n", namespace, **env) as said:
            said.until(begun)
            tell(port, hook, "0" * 40)
            for name in FILES:
                if f"{name}  processing → " not in said.text:
                    said.until(f"{name}  processing → ")
            # What is said when who we are is wrong, and when a webhook is.
            person.pull()
            person.write("queued/late.yaml", text(job("late")))
            commit = person.push()
            post(f"http://127.0.0.1:{port}/webhooks/gitlab", b"{}", X_Gitlab_Token=hook + "x")
            tell(port, hook, commit)
            said.until("late.yaml  processing → succeeded")
            for page in ("readyz", "metrics"):
                canaries.search(page, read(port, page))
        who = who if by != "settings" else {"JOBYARD_GIT_REPOSITORY": who["WHERE"]}
        env = {key: value for key, value in env.items() if key not in ("KNOCK", "WHERE")}  # only a service knows what they hold
        wrong = {**env, **{key: value.replace(password, password[::-1]) for key, value in who.items()}}
        canaries.planted[password[::-1]] = "a password that is wrong"
        refused = subprocess.run(
            [*COMMAND, "git", "status", "--branch", "main"], capture_output=True, env=environment(**wrong), check=False
        )
        assert b"Authentication failed" in refused.stderr
        canaries.search("the output of a command that is refused", refused.stdout + refused.stderr)
    assert {name: end for name, end in tree(remote).items() if "/" not in end} == {
        **dict.fromkeys(("beside.yaml", "env.yaml", "flow.yaml", "named.yaml"), "failed"),
        **dict.fromkeys(("succeeds.yaml", "late.yaml"), "succeeded"),
    }
    told = git(remote, "log", "--format=%an %ae %cn %B", "main")
    assert "***" in told
    assert "FROM_SECRET" in told, "its log is told, apart from what is secret"
    canaries.search("commits", told)
    canaries.search("stdout and stderr", said.text)
    for path in cache.rglob("config"):
        canaries.search("the configuration of a clone", path.read_bytes())
    await canaries.search_namespace(cluster, namespace, IN_A_MANIFEST)
    check_children(canaries.started, password, hook)
    with capsys.disabled():
        print(
            f"\n{len(canaries.planted)} canaries, {canaries.places} places, {len(canaries.started)} starts of git: {len(canaries.found)} found"
        )
    assert not canaries.found, "\n".join(canaries.found)


def read(port: int, page: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=60) as answer:
        found: bytes = answer.read()
        return found


def write_settings(folder: Path, port: int) -> Path:
    """A service whose secrets stand in variables of any name."""
    source = {"repository": {"env": "WHERE"}, "branch": "main", "webhookSecret": {"env": "KNOCK"}, "poll": "10m"}
    spec = {"listen": f"127.0.0.1:{port}", "triggers": [{"name": "ops", "git": source}], "replicas": 1}
    file = folder / "jobyard.yaml"
    file.write_text(text({"apiVersion": "jobyard.dev/v1", "kind": "Service", "spec": spec}))
    return file


def tell(port: int, hook: str, commit: str) -> None:
    body = json.dumps({"ref": "refs/heads/main", "before": "0", "after": commit}).encode()
    signature = "sha256=" + hmac.new(hook.encode(), body, hashlib.sha256).hexdigest()
    assert post(f"http://127.0.0.1:{port}/webhooks/github", body, X_Hub_Signature_256=signature) == (200, "OK")


def check_children(started: list[Started], password: str, hook: str) -> None:
    """Who knows what of the programs that were started: the git that talks to the remote who we are, and so what it starts itself."""
    ours = [each for each in started if Path(each.words[0]).parent.name == "bin"]
    assert {each.words[1] for each in ours} > {"fetch", "push", "log", "cat-file", "commit-tree"}
    assert any("git-remote-http" in each.words[0] for each in started)
    for each in started:
        assert hook not in "\0".join(each.env.values()), each.words
    for each in ours:
        environ = "\0".join(each.env.values())
        knows = password in environ or password[::-1] in environ
        assert knows == (each.words[1] in REMOTE), each.words


def test_what_stands_in_the_configuration_of_a_person_s_clone_goes_no_further(
    namespace: str, under_test: ClusterUnderTest, remote: Path, person: Person, tmp_path: Path
) -> None:
    """git itself would hand the address on as it is written, as an argument of a program of its own."""
    canaries = Canaries()
    password = canaries.plant("the password in a clone's address", "-")
    git(remote, "config", "http.receivepack", "true")
    person.write("queued/a.yaml", text(job("a")))
    person.push()

    def call(*words: str, cwd: Path, **env: str) -> None:
        outer = environment(**NO_CONFIG, XDG_CACHE_HOME=str(tmp_path / "cache"), **env)
        done = subprocess.run([*COMMAND, "git", *words], capture_output=True, env=outer, cwd=cwd, check=False)
        canaries.search(f"what git {words[0]} says", done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr

    with contextlib.ExitStack() as stack:
        address = stack.enter_context(http(remote.parent, password=password))
        inside = f"{address}/remote.git".replace("://", f"://{USER}:{password}@")
        git(tmp_path, "clone", "--quiet", inside, "theirs")
        watched = stack.enter_context(canaries.watching(tmp_path / "watch", PROGRAMS, []))
        served = ("--kubeconfig", str(under_test.kubeconfig), "-n", namespace)
        call("process", "--wait", *served, cwd=tmp_path / "theirs", **watched)
        git(tmp_path / "theirs", "config", "remote.origin.url", f"{address}/remote.git")
        rewritten = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{inside.removesuffix('remote.git')}.insteadOf"}
        call("requeue", "a.yaml", cwd=tmp_path / "theirs", **watched, **rewritten, GIT_CONFIG_VALUE_0=f"{address}/")
        call("init", "ours", cwd=tmp_path, **watched, JOBYARD_GIT_REPOSITORY=inside)
        canaries.search("the configuration of a clone", (tmp_path / "ours/.git/config").read_bytes())
    assert tree(remote) == {"a.yaml": "queued"}
    assert not canaries.found, "\n".join(canaries.found)


async def test_a_canary_is_found_wherever_it_sits(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    """The search itself: in every form, in objects, in files of other modes, in arguments."""
    canaries = Canaries()
    value = canaries.plant("here", "/")
    for text_ in (value, value.replace("/", "%2F"), f"user:{value}@host", value[-18:], base64.b64encode(f"x{value}yz".encode()).decode()):
        canaries.found.clear()
        canaries.search("a text", f"before {text_} after")
        assert canaries.found == ["here: in a text"], text_
    canaries.found.clear()
    await cluster.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", "plant", body=config_map(value))
    await canaries.search_namespace(cluster, namespace)
    assert set(canaries.found) == {"here: in configmaps x, unpacked w"}
    canaries.found.clear()
    (tmp_path / "open").mkdir(mode=0o755)
    for name, mode in (("open/told", 0o644), ("open/kept", 0o600)):
        (tmp_path / name).write_text(value)
        (tmp_path / name).chmod(mode)
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed/file").write_text(value)
    canaries.search_open(tmp_path)
    assert canaries.found == [f"here: in {tmp_path}/open/told, which others may read,"]
    canaries.found.clear()
    with canaries.watching(tmp_path / "watch", ("git",), ()) as env:
        subprocess.run(["git", "--version", value], env={**environment(**env), "A": "b"}, check=True, capture_output=True)
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1)", value], check=True)
    assert any(each.startswith("here: in the arguments of git") for each in canaries.found)
    assert any("the command line of process" in each for each in canaries.found)
    assert canaries.started[0].env["A"] == "b"
    assert birds.EVERY < 1


def config_map(value: str) -> bytes:
    import gzip

    data: dict[str, Any] = {"w": base64.b64encode(gzip.compress(value.encode())).decode()}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "binaryData": data}).encode()
