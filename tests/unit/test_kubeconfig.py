"""Which cluster, and as whom: kubeconfig files as kubectl reads them, plugins, tokens in files."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobyard.cluster.client import open_cluster
from jobyard.cluster.credentials import ExecPlugin, TokenFile
from jobyard.cluster.errors import error
from jobyard.cluster.kubeconfig import Connection, connect
from jobyard.model.errors import (
    Conflict,
    CredentialsUnavailable,
    Forbidden,
    InvalidKubeconfig,
    JobyardError,
    NoCluster,
    NoRoom,
    NotFound,
    Rejected,
    Unauthorized,
    Unavailable,
    WatchExpired,
)
from jobyard.service.target import missing_rights


def config(folder: Path, name: str, user: dict[str, Any] | None = None, current: str | None = "x", **cluster: Any) -> Path:
    tree = {
        "current-context": current,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"ns-{name}"}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:6443/", **cluster}}],
        "users": [{"name": name, "user": user or {"token": f"token-{name}"}}],
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


async def test_the_current_context_or_another(tmp_path: Path) -> None:
    path = str(config(tmp_path, "x"))
    found = connect(kubeconfig=path)
    assert (found.server, found.namespace, found.context) == ("https://x:6443", "ns-x", "x")
    assert await found.credentials.header() == "Bearer token-x"
    with pytest.raises(InvalidKubeconfig, match="has no context 'y'"):
        connect(kubeconfig=path, context="y")


async def test_files_are_merged_and_the_first_wins(tmp_path: Path) -> None:
    first, second = config(tmp_path, "x"), config(tmp_path, "y", current="y")
    env = {"KUBECONFIG": f"{first}:{tmp_path / 'none'}:{second}"}
    assert connect(env=env).context == "x"
    assert connect(env=env, context="y").server == "https://y:6443"


def test_no_cluster_says_why(tmp_path: Path) -> None:
    for env in ({"HOME": str(tmp_path)}, {"KUBECONFIG": str(tmp_path / "none")}):
        with pytest.raises(NoCluster, match="add --local"):
            connect(env=env)
    with pytest.raises(NoCluster, match="does not exist"):
        connect(kubeconfig=str(tmp_path / "none"))
    with pytest.raises(NoCluster, match="incluster: true"):
        connect(in_cluster=True, env={"HOME": str(tmp_path)})
    with pytest.raises(NoCluster, match="no current context"):
        connect(kubeconfig=str(config(tmp_path, "x", current=None)))


@pytest.mark.parametrize(("text", "words"), [("a: [", "can't be read"), ("- a", "is not a YAML mapping"), ("\x01", "can't be read")])
def test_a_kubeconfig_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "k"
    path.write_text(text)
    with pytest.raises(InvalidKubeconfig, match=words):
        connect(kubeconfig=str(path))


def test_certificates_stand_in_the_file_or_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("CA")
    user = {"client-certificate-data": base64.b64encode(b"CERT").decode(), "client-key-data": base64.b64encode(b"KEY").decode()}
    options: dict[str, Any] = {
        "certificate-authority": "ca.pem",
        "tls-server-name": "other",
        "proxy-url": "http://p:1",
        "insecure-skip-tls-verify": False,
    }
    found = connect(kubeconfig=str(config(tmp_path, "x", user, **options)))
    assert (found.ca, found.client_certificate, found.client_key) == ("CA", "CERT", "KEY")
    assert (found.server_name, found.proxy, found.insecure) == ("other", "http://p:1", False)
    with pytest.raises(InvalidKubeconfig, match="certificate-authority"):
        connect(kubeconfig=str(config(tmp_path, "y", current="y", user=None, **{**options, "certificate-authority": "none.pem"})))
    with pytest.raises(InvalidKubeconfig, match="server"):
        connect(kubeconfig=str(config(tmp_path, "z", current="z", server="nonsense")))


async def test_passwords_and_token_files(tmp_path: Path) -> None:
    found = connect(kubeconfig=str(config(tmp_path, "x", {"username": "u", "password": "p"})))
    assert await found.credentials.header() == "Basic " + base64.b64encode(b"u:p").decode()
    (tmp_path / "token").write_text("one\n")
    tokens = TokenFile(tmp_path / "token")
    assert await tokens.header() == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    assert await tokens.header() == "Bearer one", "remembered for a minute"
    tokens.expire()
    assert await tokens.header() == "Bearer two", "read again after a 401"
    (tmp_path / "token").unlink()
    tokens.expire("Bearer one")
    assert await tokens.header() == "Bearer two", "a call that was sent with the older token tells nothing of the newer"
    tokens.expire("Bearer two")
    with pytest.raises(CredentialsUnavailable, match="can't be read"):
        await tokens.header()
    with pytest.raises(InvalidKubeconfig, match="can't be read"):
        await TokenFile(tmp_path / "token").header()


def plugin(folder: Path, script: str, **more: Any) -> ExecPlugin:
    program = folder / "plugin.py"
    program.write_text(script)
    entry = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(program)],
        "env": [{"name": "WHO", "value": "me"}],
        **more,
    }
    return ExecPlugin(entry, folder / "k", {"server": "https://x"})


CREDENTIAL = """
import json, os, pathlib
seen = pathlib.Path({count!r}); seen.write_text(seen.read_text() + "x" if seen.exists() else "x")
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
print(json.dumps({{"status": {{"token": os.environ["WHO"] + info["apiVersion"][-2:] + info["spec"].get("cluster", {{}}).get("server", ""), "expirationTimestamp": {expires!r}}}}}))
"""


async def test_a_plugin_is_asked_once_until_its_answer_expires(tmp_path: Path) -> None:
    count = tmp_path / "count"
    later, soon = ((datetime.now(UTC) + timedelta(seconds=s)).strftime("%Y-%m-%dT%H:%M:%SZ") for s in (3600, 5))
    lasting = plugin(tmp_path, CREDENTIAL.format(count=str(count), expires=later), provideClusterInfo=True)
    assert [await lasting.header() for _ in range(3)] == ["Bearer mev1https://x"] * 3
    assert count.read_text() == "x"
    lasting.expire()
    await lasting.header()
    assert count.read_text() == "xx"
    count.unlink()
    expiring = plugin(tmp_path, CREDENTIAL.format(count=str(count), expires=soon))
    await expiring.header()
    await expiring.header()
    assert count.read_text() == "xx"


@pytest.mark.parametrize(
    ("script", "words"), [("import sys; sys.exit(3)", "failed with exit code 3"), ("print('hello')", "printed no ExecCredential")]
)
async def test_a_plugin_that_fails(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(InvalidKubeconfig, match=words):
        await plugin(tmp_path, script).header()


async def test_a_plugin_that_fails_after_it_worked_is_asked_again_later(tmp_path: Path) -> None:
    """The first failure is the user's to mend; a later one passes by itself, and many calls that need it ask it once."""
    later = (datetime.now(UTC) + timedelta(seconds=3600)).strftime("%Y-%m-%dT%H:%M:%SZ")
    count, broken = tmp_path / "count", tmp_path / "broken"
    script = f"import pathlib, sys\nif pathlib.Path({str(broken)!r}).exists():\n    pathlib.Path({str(count)!r}).open('a').write('f'); sys.exit(1)\n"
    exec_plugin = plugin(tmp_path, script + CREDENTIAL.format(count=str(tmp_path / "seen"), expires=later))
    token = await exec_plugin.header()
    broken.touch()
    exec_plugin.expire(token)
    answers = await asyncio.gather(*(exec_plugin.header() for _ in range(10)), return_exceptions=True)
    assert {type(each) for each in answers} == {CredentialsUnavailable}
    assert isinstance(answers[0], Unavailable)
    assert count.read_text() == "f"
    broken.unlink()
    async with asyncio.timeout(30):
        while True:
            try:
                assert await exec_plugin.header() == token
                return
            except CredentialsUnavailable:
                await asyncio.sleep(0)


async def test_a_caller_that_gives_up_does_not_end_the_plugin_for_the_others(tmp_path: Path) -> None:
    slow = plugin(tmp_path, "import sys; sys.stdin.read()\n" + CREDENTIAL.format(count=str(tmp_path / "count"), expires=""))
    hasty = asyncio.create_task(slow.header())
    await asyncio.sleep(0)
    patient = asyncio.create_task(slow.header())
    await asyncio.sleep(0)
    hasty.cancel()
    async with asyncio.timeout(30):
        assert await patient == "Bearer mev1"
    assert (tmp_path / "count").read_text() == "x"


async def test_a_plugin_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidKubeconfig, match="brew install it"):
        await plugin(tmp_path, "", command="no-such-plugin", installHint="brew install it").header()


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (400, {"reason": "BadRequest"}, Rejected),
        (401, {"reason": "Unauthorized"}, Unauthorized),
        (403, {"reason": "Forbidden", "message": "no rights"}, Forbidden),
        (403, {"reason": "Forbidden", "message": 'jobs.batch "x" is forbidden: exceeded quota: q'}, NoRoom),
        (403, {"reason": "Forbidden", "message": 'jobs.batch "x" is forbidden: status unknown for quota: q, resources: pods'}, NoRoom),
        (404, {"reason": "NotFound"}, NotFound),
        (409, {"reason": "AlreadyExists"}, Conflict),
        (410, {"reason": "Expired"}, WatchExpired),
        (422, {"reason": "Invalid"}, Rejected),
        (429, {"details": {"retryAfterSeconds": 7}}, Unavailable),
        (500, {}, Unavailable),
        (503, {}, Unavailable),
    ],
)
def test_answers_become_errors_by_what_happens_next(code: int, status: dict[str, Any], kind: type) -> None:
    found = error(server="s", action="a", code=code, body=json.dumps(status).encode(), retry_after=None)
    assert type(found) is kind
    if code == 429:
        assert isinstance(found, Unavailable)
        assert found.retry_after == 7


def test_who_has_no_right_is_named_where_the_cluster_names_it_and_which() -> None:
    def told(message: str) -> JobyardError:
        body = json.dumps({"reason": "Forbidden", "message": message}).encode()
        return error(server="s", action="list jobs", code=403, body=body, retry_after=None)

    said = 'jobs.batch is forbidden: User "jane" cannot list resource "jobs" in API group "batch" in the namespace "n"'
    assert str(told(said)) == f"the cluster does not allow `jane` to list jobs: {said}"
    assert str(missing_rights(told(said))).startswith("no right to list jobs.batch in namespace n. ")
    logs = 'pods "p" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "n"'
    assert str(missing_rights(told(logs))).startswith("no right to get pods/log in namespace n. ")
    hook = told("a webhook says no")
    assert (str(hook), missing_rights(hook)) == ("the cluster does not allow Jobyard to list jobs: a webhook says no", None)


def test_a_proxy_s_page_is_an_answer_too() -> None:
    found = error(server="s", action="a", code=502, body=b"<html>Bad gateway</html>", retry_after="3")
    assert isinstance(found, Unavailable)
    assert (found.retry_after, "Bad gateway" in str(found)) == (3, True)


async def test_credentials_that_cannot_be_had_are_told_when_the_cluster_is_opened(tmp_path: Path) -> None:
    connection = Connection(server="http://api", credentials=TokenFile(tmp_path / "none"))
    with pytest.raises(InvalidKubeconfig, match="can't be read"):
        async with open_cluster(connection):
            raise AssertionError
