"""What a file keeps secret is told nowhere, however it is written down: not in what is told of its end, not in what is told of its mistakes."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from jobyard.files.document import load
from jobyard.model.errors import InvalidParameter
from jobyard.model.parameters import Parameter, ParameterType
from jobyard.model.secret_names import sounds_secret
from jobyard.triggers.git.hiding import PIECE, hide, secrets
from jobyard.triggers.git.manifests import Unread, read_queued
from jobyard.triggers.git.policy import Policy
from tests import hostile

HIDDEN = "hunter2hunter2"
ENCODED = base64.b64encode(HIDDEN.encode()).decode()
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET}data:\n  password: |\n    {ENCODED}\n",
        f"{SECRET}data:\n  password: |\n    {ENCODED[:7]}\n    {ENCODED[7:]}\n",
        f'{SECRET}data: {{password: "{ENCODED[:7]}\\r\\n{ENCODED[7:]}\\r\\n"}}\n',
        f"{SECRET}stringData: {{password: [a, {{b: {HIDDEN}}}]}}\n",
        f"apiVersion: v1\nkind: SecretList\nitems: [{{metadata: {{name: s}}, stringData: {{p: {HIDDEN}}}}}]\n",
        f"apiVersion: jobyard.dev/v1\nkind: Run\nworkflow: a.yaml\nparameters: {{password: {HIDDEN}}}\n",
        f"kind: Run\nparameters: {{tokens: [a, {HIDDEN}]}}\n",
        f"spec: {{parameters: [{{name: dbPass, default: {HIDDEN}}}]}}\n",
        *(
            f"env: [{{name: {name}, value: {HIDDEN}}}]\n"
            for name in ("DB_PASS", "DB_PWD", "API-KEY", "PGPASSWORD", "BASIC_AUTH", "mysqlPwd")
        ),
    ],
)
def test_it_is_found_however_it_is_written(text: str) -> None:
    found = secrets([document.tree for document in load(text.encode(), "a.yaml")[0]])
    assert hide(f"it is {HIDDEN}!", found, 500) == "it is ***!"


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET}stringData: {{password: 87654321}}",
        "kind: Run\nparameters: {password: 87654321}",
        "spec: {parameters: [{name: password, type: integer, default: 87654321}]}",
    ],
)
def test_a_number_is_a_secret_as_a_text_is(text: str) -> None:
    found = secrets([document.tree for document in load(text.encode(), "a.yaml")[0]])
    assert "87654321" in found


def test_names_that_sound_secret() -> None:
    for name in (
        "PASSWORD",
        "DB_PASS",
        "db-pwd",
        "API-KEY",
        "api.key",
        "accessToken",
        "PRIVATE_KEY",
        "AUTH",
        "SSH_KEY",
        "PGPASS",
        "clientSecret",
    ):
        assert sounds_secret(name), name
    for plain in ("author", "PASSAGE", "KEY", "topologyKey", "TOP", "rows", "", 5, None, "PATH", "pwned"):
        assert not sounds_secret(plain), plain


def test_what_says_nothing_is_not_hidden() -> None:
    tree = {"env": [{"name": "USE_TOKEN", "value": "true"}, {"name": "PIN_TOKEN", "value": "123"}]}
    assert secrets([tree]) == []


def test_no_part_of_a_secret_stays_where_secrets_overlap_or_the_text_is_cut() -> None:
    tree = {"kind": "Secret", "stringData": {"a": "abcdef", "b": "defghi", "c": "s3cret", "long": "0123456789" * 300}}
    kept = secrets([tree])
    assert max(map(len, kept)) == PIECE
    assert hide("xabcdefghiy", kept, 100) == "x***y"
    assert hide("abcdefghi", kept, 100) == "***"
    assert hide("a-s3cret-b", kept, 5) == "a-***"
    assert hide("s3cret" * 3, kept, 500) == "***"
    assert hide("log: " + "0123456789" * 300, kept, 500) == "log: ***"
    assert hide("x" * 499 + "s3cret", kept, 500) == "x" * 499 + "***"
    assert hide("s3cret" + "x" * (494 + PIECE - 3) + "s3cret", kept, 500) == "***" + "x" * 494, "what moves up was looked at, too"


def test_a_long_line_and_a_hundred_thousand_secrets_take_no_time() -> None:
    kept = secrets([{"kind": "Secret", "stringData": {"a": "\n".join(f"{number:08x}-" for number in range(95_000))}}])
    begun = time.process_time()
    assert hide("x" * 10_000_000, kept, 500) == "x" * 500
    assert time.process_time() - begun < 1


MISTAKEN = (
    f"{SECRET}stringData: {{password: 87654321}}\n",
    f"{SECRET}stringData: {HIDDEN}\n",
    f"{SECRET}stringData: [{HIDDEN}]\n",
    f"{SECRET}data: {{password: [{HIDDEN}]}}\n",
    f"{SECRET}data: {{password: 87654321}}\n",
)


@pytest.mark.parametrize("text", MISTAKEN)
def test_mistakes_quote_no_secret(text: str, tmp_path: Path) -> None:
    told = mistakes(tmp_path, f"{text}---\n{hostile.JOB}")
    assert told
    assert "hunter2" not in told
    assert "8765" not in told


def test_mistakes_quote_no_variable_and_no_parameter_that_sounds_secret(tmp_path: Path) -> None:
    env = [{"name": "PASSWORD", "value": 87654321}, {"name": "DB_PASS", "value": [HIDDEN]}, {"name": "PLAIN", "value": 11223344}]
    pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b", "env": env}]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": {"spec": pod}}}
    told = mistakes(tmp_path, json.dumps(job))
    assert "a number as spec.template.spec.containers[0].env[0].value, expected a string" in told
    assert "the number 11223344" in told, "others are told as ever"
    assert "8765" not in told
    flow = {
        "apiVersion": "jobyard.dev/v1",
        "kind": "Workflow",
        "metadata": {"name": "w"},
        "spec": {
            "parameters": [{"name": "password", "type": "integer"}, {"name": "rows", "type": "integer"}],
            "steps": [{"name": "a", "job": {"spec": job["spec"]}}],
        },
    }
    run = {"apiVersion": "jobyard.dev/v1", "kind": "Run", "workflow": "w.yaml", "parameters": {"password": HIDDEN, "rows": "many"}}
    told = mistakes(tmp_path, json.dumps(run), {"w.yaml": json.dumps(flow).encode()})
    assert "a text as parameter password" in told
    assert 'the text "many" as parameter rows' in told
    assert "hunter2" not in told
    with pytest.raises(InvalidParameter) as refused:
        Parameter(name="password", type=ParameterType.INTEGER).read(HIDDEN)
    assert "hunter2" not in str(refused.value)


def mistakes(folder: Path, text: str, others: dict[str, bytes] | None = None) -> str:
    contents = {"x.yaml": text.encode(), **(others or {})}
    asked = Unread(path="x.yaml", root=str(folder), policy=Policy(default_namespace="default"), contents=contents)
    return "\n".join(map(str, read_queued(asked).mistakes))
