"""The settings of a service: what they may say, and what is said of mistakes."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from jobyard.model import duration
from jobyard.model.errors import InvalidFiles
from jobyard.service import service_schema
from jobyard.service.reading import files_of, read_file
from jobyard.service.service import is_same_service
from jobyard.service.settings import GitSettings, Settings, read_settings, recognises
from jobyard.supervise import Budget
from jobyard.triggers.postgres.settings import Address, Scale
from jobyard.triggers.postgres.settings import TriggerSettings as PostgresSettings
from tests.manifests import job, step, workflow

WHOLE = """\
apiVersion: jobyard.dev/v1
kind: Service
metadata: {name: yard}
spec:
  namespace: jobs
  namespaces: [reports, etl]
  listen: "[::1]:8081"
  triggers:
    - name: ops
      git: {repository: "git@example.org:ops/jobs.git", branch: main, webhookSecret: {env: HOOK}, poll: 90s, namespaces: "*"}
      failureBudget: {failures: {env: FAILURES}, within: 10m}
  retention: {runs: 30d, failed: 90d}
  limits: {namespace: 200}
  log: {level: debug, format: json}
  replicas: 1
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "jobyard.yaml"
    file.write_text(text)
    return file


def mistakes(folder: Path, text: str, **env: str) -> list[str]:
    settings, findings = read_settings(written(folder, text), env)
    assert settings is None
    return [str(each).removeprefix(f"{folder}/") for each in findings if each.is_error]


def accepted(folder: Path, text: str, **env: str) -> Settings:
    settings, findings = read_settings(written(folder, text), env)
    assert settings is not None, findings
    return settings


def test_all_that_may_be_said(tmp_path: Path) -> None:
    found = accepted(tmp_path, WHOLE, HOOK="hush", FAILURES="5")
    assert (found.name, found.namespace, found.namespaces, found.host, found.port) == ("yard", "jobs", ("reports", "etl"), "::1", 8081)
    (ops,) = found.triggers
    assert ops.budget == Budget(failures=5, within=timedelta(minutes=10))
    assert isinstance(ops.source, GitSettings)
    assert (ops.source.webhook_secret, ops.source.poll, ops.source.serve.namespaces) == ("hush", timedelta(seconds=90), ("*",))
    assert (found.retention, found.retention_failed, found.limits) == (timedelta(days=30), timedelta(days=90), {"namespace": 200})
    assert "hush" not in repr(found)


def test_little_is_enough(tmp_path: Path) -> None:
    assert accepted(tmp_path, "apiVersion: jobyard.dev/v1\nkind: Service\n") == Settings()


def test_every_mistake_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    text = """\
apiVersion: jobyard.dev/v1
kind: Service
spec:
  listen: everywhere
  trigers: []
  triggers:
    - {name: ops, git: {repository: r, pol: 5s}}
    - {name: ops, git: {repository: r, poll: soon}, failureBudget: {failures: 0, within: 1m}}
    - {name: Ops}
  log: {format: jsn}
  replicas: many
"""
    assert mistakes(tmp_path, text) == [
        'jobyard.yaml:4:11: the text "everywhere" as spec.listen, expected HOST:PORT, for instance 0.0.0.0:8080',
        'jobyard.yaml:5:3: unknown key "trigers" in spec; did you mean "triggers"?',
        'jobyard.yaml:7:40: unknown key "pol" in spec.triggers[0].git; did you mean "poll"?',
        'jobyard.yaml:8:14: a second trigger named "ops", expected a name of its own; the first is in line 7',
        'jobyard.yaml:8:46: the text "soon" as spec.triggers[1].git.poll, expected a duration such as "30s", "15m" or "1h30m"',
        "jobyard.yaml:8:79: the number 0 as spec.triggers[1].failureBudget.failures, expected at least 1",
        "jobyard.yaml:9:7: trigger Ops has no source, expected one of: git, amqp, pgboss, sql",
        'jobyard.yaml:9:14: the text "Ops" as spec.triggers[2].name, expected lower-case letters, digits and -, a letter or digit first and last',
        'jobyard.yaml:10:17: the text "jsn" as spec.log.format, expected auto, text or json; did you mean "json"?',
        'jobyard.yaml:11:13: the text "many" as spec.replicas, expected a whole number',
    ]


def test_a_name_stands_for_one_trigger_and_a_trigger_has_a_source(tmp_path: Path) -> None:
    text = """\
apiVersion: jobyard.dev/v1
kind: Service
spec:
  triggers:
    - {name: a, git: {repository: r}}
    - {name: a, git: {repository: s}}
    - {name: b}
    - {name: page, git: {repository: p}}
"""
    assert mistakes(tmp_path, text) == [
        'jobyard.yaml:6:14: a second trigger named "a", expected a name of its own; the first is in line 5',
        "jobyard.yaml:7:7: trigger b has no source, expected one of: git, amqp, pgboss, sql",
        'jobyard.yaml:8:14: a trigger named "page", expected another name; runs of that one are a person\'s',
    ]


def test_what_the_environment_or_a_file_should_hold_and_does_not(tmp_path: Path) -> None:
    text = """\
apiVersion: jobyard.dev/v1
kind: Service
spec:
  triggers:
    - {name: a, git: {repository: {env: REPOSITRY}, webhookSecret: {file: nosuch}}}
"""
    assert mistakes(tmp_path, text, REPOSITORY="r") == [
        'jobyard.yaml:5:41: the environment has no variable REPOSITRY; did you mean "REPOSITORY"?',
        f"jobyard.yaml:5:75: {tmp_path}/nosuch can't be read (No such file or directory), expected a file that holds the value",
    ]
    (tmp_path / "nosuch").write_text("hush\n")
    found = accepted(tmp_path, text.replace("REPOSITRY", "REPOSITORY"), REPOSITORY="r")
    (only,) = found.triggers
    assert isinstance(only.source, GitSettings)
    assert (only.webhook_secret, only.source.git.repository) == ("hush", "r")


def test_a_password_in_plain_is_warned_of_and_never_told(tmp_path: Path) -> None:
    text = """\
apiVersion: jobyard.dev/v1
kind: Service
spec:
  triggers:
    - {name: a, git: {repository: "https://u:hush@example.org/r.git", webhookSecret: hush}}
"""
    settings, findings = read_settings(written(tmp_path, text), {})
    assert settings is not None
    assert [(each.position.column, each.is_error) for each in findings] == [(35, False), (86, False)]
    assert "hush" not in "".join(map(str, findings))


def test_a_repository_is_not_looked_at_without_a_pause(tmp_path: Path) -> None:
    text = "apiVersion: jobyard.dev/v1\nkind: Service\nspec:\n  triggers: [{name: a, git: {repository: r, poll: 250ms}}]\n"
    assert mistakes(tmp_path, text) == ["jobyard.yaml:4:51: 250ms as poll, expected at least 1s"]


def test_a_value_from_outside_is_never_told_wherever_it_was_put(tmp_path: Path) -> None:
    text = """\
apiVersion: jobyard.dev/v1
kind: Service
metadata: {name: {env: HUSH}}
spec:
  listen: {env: HUSH}
  triggers:
    - {name: {env: HUSH}, git: {repository: r, poll: {env: HUSH}, pods: {env: HUSH}, finalizers: {env: HUSH}, author: {env: HUSH}}}
  replicas: {env: HUSH}
  log: {level: {env: HUSH}}
"""
    told = mistakes(tmp_path, text, HUSH="Hush hush!")
    assert len(told) == 9
    assert "Hush" not in "".join(told)
    assert told[1] == "jobyard.yaml:5:11: a value from outside as spec.listen, expected HOST:PORT, for instance 0.0.0.0:8080"


def test_a_trigger_s_name_and_source_are_looked_at_whatever_else_is_wrong(tmp_path: Path) -> None:
    text = """\
apiVersion: jobyard.dev/v1
kind: Service
spec:
  triggers:
    - {name: a, git: {repository: r}}
    - {name: a, git: {repository: r, poll: soon}}
    - {name: c}
    - {name: d, gti: {repository: r}}
    - a
"""
    assert mistakes(tmp_path, text) == [
        'jobyard.yaml:6:14: a second trigger named "a", expected a name of its own; the first is in line 5',
        'jobyard.yaml:6:44: the text "soon" as spec.triggers[1].git.poll, expected a duration such as "30s", "15m" or "1h30m"',
        "jobyard.yaml:7:7: trigger c has no source, expected one of: git, amqp, pgboss, sql",
        'jobyard.yaml:8:17: unknown key "gti" in spec.triggers[3]; did you mean "git"?',
        'jobyard.yaml:9:7: the text "a" as spec.triggers[4], expected a mapping',
    ]


def test_who_checks_the_file_elsewhere_is_warned_of_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, WHOLE.replace("branch: main", "branch: {file: /etc/nosuch}"))
    found = read_file(Path("jobyard.yaml"))
    assert found.errors == []
    assert [str(each) for each in found.findings] == [
        "jobyard.yaml:10:72: warning: /etc/nosuch can't be read (No such file or directory), expected a file that holds the value",
        "jobyard.yaml:10:107: warning: the environment has no variable HOOK; set it where the service is started",
        "jobyard.yaml:11:39: warning: the environment has no variable FAILURES; set it where the service is started",
    ]
    with pytest.raises(InvalidFiles) as wrong:
        found.require()
    assert [str(each) for each in wrong.value.findings] == [
        "jobyard.yaml:2:7: a service's settings, expected something to run; `jobyard serve jobyard.yaml` serves them"
    ]
    written(tmp_path, WHOLE.replace("kind: Service", "kind: Servise").replace("replicas: 1", "replicas: 0"))
    assert [str(each) for each in read_file(Path("jobyard.yaml")).errors] == [
        'jobyard.yaml:2:7: the text "Servise" as kind, expected Service; did you mean "Service"?',
        "jobyard.yaml:15:13: the number 0 as spec.replicas, expected at least 1",
    ]


def test_a_folder_with_settings_in_it_still_stands_for_its_workflow(tmp_path: Path) -> None:
    written(tmp_path, WHOLE)
    (tmp_path / "etl.yaml").write_text(json.dumps(workflow("etl", step("a"))))
    assert read_file(tmp_path).require().name == "etl"
    assert files_of(tmp_path) == [tmp_path / "jobyard.yaml", tmp_path / "etl.yaml"]
    beside = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}}
    assert not recognises(beside)


OUTSIDE = """\
apiVersion: jobyard.dev/v1
kind: Service
metadata: {name: {env: NAME}}
spec:
  namespace: {env: NAME}
  namespaces: [{env: NAME}]
  listen: {env: LISTEN}
  triggers:
    - name: {env: NAME}
      git:
        repository: {env: TEXT}
        branch: {env: TEXT}
        folder: {env: TEXT}
        webhookSecret: {env: TEXT}
        poll: {env: DURATION}
        author: {env: AUTHOR}
        namespaces: [{env: NAME}]
        kinds: {env: ANY}
        pods: {env: PODS}
        serviceAccounts: [{env: TEXT}]
        finalizers: {env: FLAG}
        startTimeout: {env: DURATION}
        commitEach: {env: FLAG}
      failureBudget: {failures: {env: NUMBER}, within: {env: DURATION}}
    - name: shop
      amqp:
        host: {env: TEXT}
        port: {env: NUMBER}
        vhost: {env: TEXT}
        user: {env: TEXT}
        password: {env: TEXT}
        tls: {ca: {env: TEXT}, cert: {env: TEXT}, key: {env: TEXT}}
        queues:
          - queue: {env: TEXT}
            namespace: {env: NAME}
            limit: {env: NUMBER}
            idFrom: {env: ID}
            payload: {env: PAYLOAD}
            deadLetter: {enabled: {env: FLAG}, exchange: {env: TEXT}, routingKey: {env: TEXT}}
            job:
              image: {env: TEXT}
              imageVersion: {env: TEXT}
              registry: {env: TEXT}
              jobName: {env: TEXT}
              timeout: {env: NUMBER}
              environment: {A: {env: TEXT}}
              serviceAccount: {env: TEXT}
              resources: {requests: {cpu: {env: NUMBER}}}
              labels: {a: {env: TEXT}}
    - name: other
      amqp: {url: [{env: ADDRESS}], queues: [{queue: q, job: {image: i}}]}
    - name: boss
      pgboss:
        connection:
          host: {env: TEXT}
          port: {env: NUMBER}
          database: {env: TEXT}
          user: {env: TEXT}
          password: {env: TEXT}
          ssl: {mode: {env: TLS}, ca: {env: TEXT}, cert: {env: TEXT}, key: {env: TEXT}}
        schema: {env: TEXT}
        channel: {env: TEXT}
        timeout: {env: DURATION}
        queues:
          - queue: {env: TEXT}
            job: {env: JOB}
            check: {env: DURATION}
            scale: {max: {env: NUMBER}, perPod: {env: NUMBER}, maxStep: {env: NUMBER}, claimGrace: {env: DURATION}}
            wait: {afterSuccess: {env: DURATION}, afterFailure: {env: DURATION}, afterError: {env: DURATION}, afterStartTimeout: {env: DURATION}}
            startTimeout: {env: DURATION}
    - name: preset
      sql: {connection: {url: {env: URL}}, preset: {env: PRESET}, queues: [{queue: a, job: {env: JOB}}]}
    - name: query
      sql: {connection: {url: {env: URL}}, query: {env: TEXT}, queues: [{queue: a, job: {env: JOB}}]}
  retention: {runs: {env: DURATION}, failed: {env: DURATION}}
  limits: {namespace: {env: NUMBER}}
  replicas: {env: NUMBER}
  log: {level: {env: LEVEL}, format: {env: FORMAT}}
"""
ENV = {"NAME": "n", "LISTEN": ":1", "TEXT": "t", "DURATION": "2m", "AUTHOR": "A <a@b>", "ANY": "*", "PODS": "any", "FLAG": "true"}
ENV |= {"ID": "content", "PAYLOAD": "env", "ADDRESS": "amqps://host/", "NUMBER": "7", "LEVEL": "error", "FORMAT": "text"}
ENV |= {"TLS": "verify-full", "PRESET": "oban", "JOB": "job.json"}
ENV |= {"URL": "postgres://me:hush%40@db:6543/shop?sslmode=require"}


def test_any_value_may_stand_outside_for_the_service_and_for_editors(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(job("a", parallelism=2)))
    found = accepted(tmp_path, OUTSIDE, **ENV)
    by_name = {each.name: each for each in found.triggers}
    trigger = found.triggers[0]
    assert (found.name, found.replicas, found.limits, found.log_level) == ("n", 7, {"namespace": 7}, "error")
    assert isinstance(trigger.source, GitSettings)
    assert (trigger.source.serve.finalizers, trigger.source.serve.kinds, trigger.source.serve.namespaces) == (True, ("*",), ("n",))
    boss, preset = by_name["boss"].source, by_name["preset"].source
    assert isinstance(boss, PostgresSettings)
    assert (boss.address.port, boss.address.tls) == (7, "verify-full")
    assert boss.queues[0].scale == Scale(most=7, per_pod=7, most_at_once=7, claim_grace=timedelta(minutes=2))
    assert isinstance(preset, PostgresSettings)
    assert preset.address == Address(host="db", port=6543, database="shop", user="me", password="hush@", tls="require")
    assert "hush" not in repr(found)
    editor = jsonschema_rs.validator_for(service_schema.json_schema())
    for text in (OUTSIDE, WHOLE):
        assert [str(each) for each in editor.iter_errors(yaml.safe_load(text))] == []
    for wrong in ("replicas: 0", "replicas: {evn: X}", "listen: 5", "triggers: [{name: A}]", "trigers: []", "limits: {a: -1}"):
        assert not editor.is_valid(yaml.safe_load(f"apiVersion: jobyard.dev/v1\nkind: Service\nspec: {{{wrong}}}")), wrong
    here = {name for name, model in vars(service_schema).items() if getattr(model, "__module__", "") == service_schema.__name__}
    every = {
        f"{name}.{key}"
        for name, model in service_schema.json_schema()["$defs"].items()
        for key, value in model.get("properties", {}).items()
        if name in here and key != "amqp"  # which has a test of its own
    }
    assert {each for each in every if f" {each.split('.')[1]}:" not in OUTSIDE.replace("{", "{ ")} == set(), "what OUTSIDE leaves out"


def test_the_schema_s_defaults_can_be_written_as_they_stand() -> None:
    defaults = service_schema.json_schema()["$defs"]["Git"]["properties"]
    assert (defaults["poll"]["default"], defaults["startTimeout"]["default"]) == ("1m", "1h")
    for text in ("1m", "90s", "1h", "2d", "36500d", "0s", "250ms", "61s"):
        assert duration.write(duration.parse(text)) == text


@pytest.mark.parametrize("text", ["", "a: b\n---\nc: d\n", "[]", "kind: Service", "- " * 50, '{"apiVersion": "jobyard.dev/v1", "kind": 5}'])
def test_what_is_no_settings_file_is_told_in_words(tmp_path: Path, text: str) -> None:
    assert mistakes(tmp_path, text)


def test_only_triggers_limits_and_log_may_change_while_it_runs(tmp_path: Path) -> None:
    whole = accepted(tmp_path, WHOLE, HOOK="hush", FAILURES="5")
    assert is_same_service(
        whole, accepted(tmp_path, WHOLE.replace("90s", "5s").replace("200", "3").replace("debug", "info"), HOOK="x", FAILURES="6")
    )
    assert not is_same_service(whole, accepted(tmp_path, WHOLE.replace("8081", "8082"), HOOK="hush", FAILURES="5"))


def test_the_schema_knows_where_a_value_may_come_from_elsewhere() -> None:
    schema = service_schema.json_schema()
    assert {"$ref": "#/$defs/FromOutside"} in schema["$defs"]["Git"]["properties"]["repository"]["anyOf"]
    assert json.dumps(schema)


# --- queues ---

QUEUES = """\
apiVersion: jobyard.dev/v1
kind: Service
spec:
  namespace: jobs
  triggers:
    - name: orders
      pgboss:
        connection: {host: db, user: watcher, password: hush}
        queues:
          - {queue: invoices, job: job.json, check: 5s, scale: {max: 20, perPod: 10}, wait: {afterFailure: 2m}, startTimeout: 1m}
          - {queue: mails, job: job.json}
"""


def test_a_queue_says_what_runs_and_when_and_its_job_is_read_with_the_settings(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(job("a", parallelism=2)))
    settings, findings = read_settings(written(tmp_path, QUEUES), {})
    assert settings is not None
    assert [str(each).removeprefix(f"{tmp_path}/") for each in findings] == [
        "jobyard.yaml:8:57: warning: a secret in plain; put it into the environment or a file, and {env: NAME} or {file: PATH} here"
    ]
    (trigger,) = settings.triggers
    assert isinstance(trigger.source, PostgresSettings)
    invoices, mails = trigger.source.queues
    assert (trigger.source.preset, trigger.source.schema, trigger.source.address.host) == ("pgboss", "pgboss", "db")
    assert (invoices.scale, invoices.pods, invoices.waits.failure) == (Scale(most=20, per_pod=10), 2, timedelta(minutes=2))
    (work,) = invoices.workflow.steps
    assert (work.start_timeout, work.stops_on_start_error) == (timedelta(minutes=1), True)
    assert (mails.scale, mails.waits.check, mails.workflow.steps[0].start_timeout) == (None, timedelta(seconds=5), timedelta(minutes=10))
    assert read_settings(written(tmp_path, QUEUES), {})[0] == settings  # a reload leaves it alone


def test_every_mistake_about_queues_is_told_at_its_place_and_no_password_with_it(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(job("a", parallelism=8)))
    (tmp_path / "broken.yaml").write_text("apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {templat: {}}\n")
    (tmp_path / "asks.json").write_text(json.dumps(workflow("w", step("a"), parameters=[{"name": "day", "required": True}])))
    (tmp_path / "away.json").write_text(json.dumps(job("a") | {"metadata": {"name": "a", "namespace": "elsewhere"}}))
    text = """\
apiVersion: jobyard.dev/v1
kind: Service
spec:
  namespace: jobs
  triggers:
    - name: a
      pgboss:
        connection: {url: "mysql://me:hush@db"}
        schemaa: x
        queues: []
    - name: b
      sql:
        connection: {url: "postgres://me:hush@db?sslmode=often", host: db}
        queues:
          - {queue: q, job: nosuch.yaml, check: 1ms}
          - {queue: q, job: broken.yaml}
          - {queue: r, job: asks.json}
          - {queue: s, job: away.json}
          - {queue: t, job: job.json, scale: {max: 7}}
    - {name: c, git: {repository: r}, sql: {connection: {}, preset: postgress, queues: [{queue: q, job: job.json}]}}
"""
    assert mistakes(tmp_path, text) == [
        'jobyard.yaml:9:9: unknown key "schemaa" in spec.triggers[0].pgboss; did you mean "schema"?',
        "jobyard.yaml:10:17: a list of 0 as spec.triggers[0].pgboss.queues, expected one of at least 1",
        "jobyard.yaml:20:39: a second source, sql beside git, expected one for each trigger",
        'jobyard.yaml:20:69: the text "postgress" as spec.triggers[2].sql.preset, expected procrastinate, graphile-worker, river, oban, pgmq, '
        "solid-queue or pgboss",
    ]
    mended = text.replace("        schemaa: x\n        queues: []", "        queues: [{queue: q, job: job.json}]").replace(
        "postgress", "oban"
    )
    assert mistakes(tmp_path, mended) == [
        "broken.yaml:4:7: spec.template is missing; add it",
        'broken.yaml:4:8: unknown field "templat" in spec; did you mean "template"?',
        "jobyard.yaml:8:27: no URL of a Postgres, expected postgres://USER:PASSWORD@HOST:PORT/DATABASE",
        "jobyard.yaml:12:9: sql with neither preset nor query, expected one of the two",
        "jobyard.yaml:12:27: an sslmode that there is none of, expected disable, prefer, require, verify-ca, verify-full",
        "jobyard.yaml:12:66: both url and host, expected the one or the others; put it into the url",
        "jobyard.yaml:14:29: nosuch.yaml does not exist, expected a Job manifest or a workflow; paths are relative to this file",
        "jobyard.yaml:14:49: a check interval that is none, expected at least 100ms",
        "jobyard.yaml:15:21: a second time the same queue, expected each queue once; the first is in line 14",
        "jobyard.yaml:16:29: parameter day: no value; expected a string; give one: --set day=VALUE",
        "jobyard.yaml:17:29: it wants to run in namespace elsewhere, expected one of jobs; name it in spec.namespaces",
        "jobyard.yaml:18:52: 7 pods at most, expected at least the 8 of one Job (its parallelism)",
        "jobyard.yaml:19:39: a second source, sql beside git, expected one for each trigger",
    ]
