"""What `check` finds: each kind of mistake with its line, all in one go; and nothing in what is right."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from jobyard.cli.check_command import check
from jobyard.files.manifest import without_command
from jobyard.model.errors import Unreachable
from jobyard.service.reading import read_file

ROOT = Path(__file__).parents[2]

JOB = """apiVersion: batch/v1
kind: Job
metadata:
  name: good
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: main
          image: busybox
          command: [sh, -c, "echo hi"]
"""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def findings(text: str, name: str = "f.yaml") -> list[str]:
    Path(name).write_text(text)
    return [str(finding) for finding in read_file(Path(name)).findings]


JOB_MISTAKES = [
    ("  backofLimit: 3", "spec:", 'f.yaml:6:3: unknown field "backofLimit" in spec; did you mean "backoffLimit"?'),
    ("  restartPolicy: Never", "spec:", 'f.yaml:6:3: unknown field "restartPolicy" in spec; it belongs in spec.template.spec'),
    ("  parallelism: two", "spec:", 'f.yaml:6:16: the text "two" as spec.parallelism, expected an integer'),
    ("  parallelism: -1", "spec:", "f.yaml:6:16: spec.parallelism is -1, expected 0 or more"),
    (
        "  completionMode: indexed",
        "spec:",
        'f.yaml:6:19: completionMode "indexed", expected NonIndexed or Indexed; did you mean "Indexed"?',
    ),
    (
        "          env: [{name: A, value: 3}]",
        "          image: busybox",
        'the number 3 as spec.template.spec.containers[0].env[0].value, expected a string; put it in quotes: "…"',
    ),
    (
        "          volumeMounts: [{name: data, mountPath: /data}]",
        "          image: busybox",
        'no volume is named "data"; add the volume to spec.template.spec.volumes',
    ),
    (
        "          resources: {limits: {memory: 128mi}}",
        "          image: busybox",
        '"128mi" is not a quantity, expected a number with a unit such as "500m" or "128Mi"; perhaps "128Mi"',
    ),
    ("        - {name: main, image: x}", "      containers:", 'container name "main" appears twice'),
    ("  labels: {app: 'not a label!'}", "metadata:", 'label value "not a label!", expected at most 63 letters'),
]


@pytest.mark.parametrize(("line", "after", "expected"), JOB_MISTAKES)
def test_a_mistake_in_a_job_is_found_with_its_place(line: str, after: str, expected: str) -> None:
    text = JOB.replace(after + "\n", f"{after}\n{line}\n", 1)
    found = findings(text)
    assert any(expected in each for each in found), found


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "restartPolicy: Never",
            "restartPolicy: Always",
            "f.yaml:8:22: restartPolicy Always, expected Never or OnFailure; a Job ends, so it can't always restart",
        ),
        ("      restartPolicy: Never\n", "", "f.yaml:8:7: restartPolicy is missing"),
        ("name: good", "name: Not_Good", 'f.yaml:4:9: metadata.name of "Not_Good", expected at most 63 lower-case letters'),
        ("name: good", "name: " + "x" * 64, "f.yaml:4:9: metadata.name of 64 characters"),
        ("          image: busybox\n", "", "f.yaml:10:11: container main has no image"),
        (
            "kind: Job",
            "kind: CronJob",
            "f.yaml:2:7: the file holds no Job, only a CronJob, expected at least one Job; write its spec.jobTemplate",
        ),
        ("kind: Job", "kind: job", 'f.yaml:2:7: kind job is not a Job, expected kind: Job; did you mean "Job"?'),
        ("apiVersion: batch/v1", "apiVersion: batch/v1beta1", "f.yaml:1:13: apiVersion batch/v1beta1 of a Job, expected batch/v1"),
        ("  template:", "  templat:", "spec.template is missing"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_here(old: str, new: str, expected: str) -> None:
    found = findings(JOB.replace(old, new))
    assert any(expected in each for each in found), found


def test_all_mistakes_are_told_in_one_go() -> None:
    text = JOB.replace("kind: Job", "kind: Job\nsped: 1").replace("Never", "Always").replace("name: good", "name: Good")
    assert len(findings(text)) == 3


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "- a\n- b\n", "just text\n", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "spec: {}\n"]
)
def test_what_is_no_job_is_said_to_be_none(text: str) -> None:
    assert len(findings(text)) == 1


def test_a_file_that_is_not_there() -> None:
    assert str(read_file(Path("no.yaml")).findings[0]).startswith("no.yaml:1:1: there is no such file")


WORKFLOW = """apiVersion: jobyard.dev/v1
kind: Workflow
metadata: {name: w}
spec:
  parameters:
    - {name: day, type: date, default: "2026-01-01"}
    - {name: count, type: integer, default: 2}
  steps:
    - name: a
      manifest: job.yaml
    - name: b
      manifest: job.yaml
      needs: [a]
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  steps:", "  paralelism: 2\n  steps:", 'f.yaml:8:3: unknown key "paralelism" in spec; did you mean "parallelism"?'),
        ("needs: [a]", "need: [a]", 'f.yaml:13:7: unknown key "need" in spec.steps[1]; did you mean "needs"?'),
        ("needs: [a]", "needs: [aa]", 'f.yaml:13:15: step b needs aa, which does not exist; did you mean "a"?'),
        ("    - name: a\n", "    - name: a\n      needs: [b]\n", "f.yaml:9:7: a cycle: a needs b needs a"),
        ("name: b", "name: a", 'f.yaml:11:13: a second step named "a", expected a name of its own; the first is in line 9'),
        ("manifest: job.yaml\n    - name: b", "manifest: no.yaml\n    - name: b", "f.yaml:10:17: no.yaml does not exist"),
        ("needs: [a]", "needs: [a]\n      retry: {limit: lots}", 'f.yaml:14:22: the text "lots" as spec.steps[1].retry.limit, expected'),
        ("needs: [a]", "needs: [a]\n      timeout: 5", "f.yaml:14:16: the number 5 as spec.steps[1].timeout, expected a duration such as"),
        (
            "needs: [a]",
            "needs: [a]\n      when: fails",
            'f.yaml:14:13: the text "fails" as spec.steps[1].when, expected succeeded, failed or always; did you mean "failed"?',
        ),
        ("needs: [a]", "when: failed", "step b can never run: it runs when something that it needs failed, but it needs nothing"),
        ("name: b\n      manifest: job.yaml", "name: b", "a step with neither manifest nor job, expected one of the two"),
        ("  steps:", "  onFailure: explode\n  steps:", "expected stop, finish or revert"),
        ('default: "2026-01-01"', "default: tomorrow", 'f.yaml:6:40: the text "tomorrow" as default of parameter day, expected a date'),
        ("type: date", "type: choice", "parameter day is a choice without choices"),
        ("name: count", "name: day", 'a second parameter named "day"'),
        ("kind: Workflow", "kind: Workflw", "expected Workflow"),
        ("name: b", "name: B!", "lower-case letters, digits and -"),
    ],
)
def test_a_mistake_in_a_workflow_is_found_with_its_place(old: str, new: str, expected: str) -> None:
    Path("job.yaml").write_text(JOB)
    found = findings(WORKFLOW.replace(old, new, 1))
    assert any(expected in each for each in found), found


def test_a_step_that_can_never_run_is_found_and_one_that_can_is_not() -> None:
    Path("job.yaml").write_text(JOB)
    more = "    - {name: alarm, manifest: job.yaml, needs: [a], when: failed}\n    - {name: both, manifest: job.yaml, needs: [b, alarm]}\n"
    assert any(
        "step both can never run: it would need a both to succeed (for b) and to fail (for alarm)" in each
        for each in findings(WORKFLOW + more)
    )
    assert not findings(WORKFLOW + more.replace("needs: [b, alarm]", "needs: [b, alarm], when: always"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ params.dy }}", 'the workflow declares no parameter dy; did you mean "day"?'),
        ("{{ steps.a.outputs.rows }}", "step a does not need a, which may not have ended"),
        ("{{ steps.zz.outputs.rows }}", "there is no step zz"),
        ("{{ steps.a.rows }}", "is not a placeholder; an output is written"),
    ],
)
def test_placeholders_without_a_value_are_found(text: str, expected: str) -> None:
    Path("job.yaml").write_text(JOB.replace("echo hi", text))
    assert any(expected in each for each in findings(WORKFLOW))


def test_placeholders_that_have_a_value_are_fine_also_where_the_schema_wants_a_number() -> None:
    job = JOB.replace("spec:\n", 'spec:\n  parallelism: "{{ params.count }}"\n', 1).replace(
        "echo hi", "{{ params.day }} {{ .Other }} {{ jinja }}"
    )
    Path("job.yaml").write_text(job)
    assert not findings(WORKFLOW)
    template = read_file(Path("f.yaml")).require().steps[0].job
    assert template is not None
    filled = template.fill({"params.count": 2, "params.day": "2026-01-01"}.__getitem__)
    assert filled["spec"]["parallelism"] == 2
    assert filled["spec"]["template"]["spec"]["containers"][0]["command"][2] == "2026-01-01 {{ .Other }} {{ jinja }}"


def test_braces_in_plain_manifests_mean_nothing() -> None:
    assert not findings(JOB.replace("echo hi", "{{ params.x }}"))
    template = read_file(Path("f.yaml")).require().steps[0].job
    assert template is not None
    assert "{{ params.x }}" in str(template.fill(str.upper))


def test_a_retry_and_a_backoff_limit_are_two_owners() -> None:
    Path("job.yaml").write_text(JOB.replace("spec:\n", "spec:\n  backoffLimit: 3\n", 1))
    found = findings(WORKFLOW.replace("needs: [a]", "needs: [a]\n      retry: {limit: 1}"))
    assert any("both would retry the same failure" in each for each in found)


RETRIED = """apiVersion: jobyard.dev/v1
kind: Workflow
spec:
  steps:
    - name: a
      job: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox}]}}}}
"""


def test_a_job_that_kubernetes_would_try_for_ten_minutes_is_a_warning_of_check_alone() -> None:
    assert not findings(RETRIED)
    answer = CliRunner().invoke(check, ["f.yaml"])
    assert answer.exit_code == 0
    assert (
        "f.yaml:5:13: warning: step a has no retry, and its Job no backoffLimit: when it fails, Kubernetes tries six times more, over ten minutes; "
        "say backoffLimit: 0 in the Job, or retry in the step\n"
    ) in answer.output


@pytest.mark.parametrize("owner", ["retry: {limit: 1}", "backoffLimit: 0", "backoffLimit: 3", "backoffLimitPerIndex: 1"])
def test_where_somebody_says_how_often_a_job_is_tried_nothing_is_warned_of(owner: str) -> None:
    in_step = owner.startswith("retry")
    more = f"completions: 2, completionMode: Indexed, {owner}" if "Index" in owner else owner
    text = (
        RETRIED.replace("    - name: a\n", f"    - name: a\n      {owner}\n")
        if in_step
        else RETRIED.replace("{spec: {template", f"{{spec: {{{more}, template")
    )
    assert not findings(text)
    assert not read_file(Path("f.yaml")).advice


def test_plain_manifests_are_run_as_they_are() -> None:
    Path("f.yaml").write_text(JOB)
    assert not read_file(Path("f.yaml")).advice


def test_a_missing_command_is_a_warning() -> None:
    Path("f.yaml").write_text(JOB.replace('          command: [sh, -c, "echo hi"]\n', ""))
    reading = read_file(Path("f.yaml"))
    assert not reading.findings
    warning = without_command(reading.jobs)[0]
    assert not warning.is_error
    assert "container main has no command" in str(warning)


def test_several_documents_lists_and_folders_are_read_in_order() -> None:
    Path("many").mkdir()
    Path("many/b.yaml").write_text(JOB.replace("good", "b1") + "---\n" + JOB.replace("good", "b2"))
    Path("many/a.yml").write_text(
        "apiVersion: v1\nkind: List\nitems:\n"
        + "".join(("- " if i == 0 else "  ") + line + "\n" for i, line in enumerate(JOB.replace("good", "a1").splitlines()))
    )
    Path("many/sub").mkdir()
    Path("many/sub/c.json").write_text(
        '{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"c1"},"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"x","image":"y"}]}}}}'
    )
    workflow = read_file(Path("many")).require()
    assert [step.name for step in workflow.steps] == ["a1", "b1", "b2", "c1"]


OBJECTS = """apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
---
apiVersion: example.com/v1
kind: Thing
metadata: {name: thing, namespace: mine}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
"""


def test_objects_beside_the_jobs_are_the_runs_own() -> None:
    assert not findings(OBJECTS + JOB)
    reading = read_file(Path("f.yaml"))
    assert [(str(each), str(each.belonging)) for each in reading.objects] == [
        ("ConfigMap settings", "belongs"),
        ("Thing thing", "belongs"),
        ("PersistentVolumeClaim data", "kept"),
    ]
    assert reading.require().namespace == "mine"  # the objects' namespace is the run's


def test_objects_beside_the_jobs_of_a_step_come_with_it_once() -> None:
    Path("job.yaml").write_text(OBJECTS + JOB)
    assert not findings(WORKFLOW)
    assert [each.kind for each in read_file(Path("f.yaml")).objects] == ["ConfigMap", "Thing", "PersistentVolumeClaim"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kind: Thing", "kind: Thing\nmetadata: {}\n---\napiVersion: v1\nkind: Namespace", "kind Namespace, which a run can't create"),
        ("{name: settings}", "{name: Settings}", 'metadata.name of "Settings"'),
        ("{name: settings}", "{}", "no metadata.name, expected a name, by which the Job finds it"),
        ("{name: settings}", "{name: settings, labels: {a: 'b c'}}", 'label value "b c"'),
        ("{name: settings}", "{name: settings}\ndat: {}", 'unknown field "dat" in the ConfigMap; did you mean "data"?'),
        ("{name: settings}", "{name: settings, namespace: other}", "one namespace per run"),
        (
            "{name: data}",
            "{name: data}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}",
            'a second ConfigMap named "settings"',
        ),
    ],
)
def test_mistakes_in_objects_beside_the_jobs_are_found(old: str, new: str, expected: str) -> None:
    found = findings(OBJECTS.replace(old, new) + JOB)
    assert any(expected in each for each in found), found


def test_objects_alone_are_no_run() -> None:
    assert findings(OBJECTS) == ["f.yaml:2:7: the file holds no Job, only a ConfigMap, expected at least one Job"]


def test_no_placeholder_is_filled_in_beside_a_job() -> None:
    Path("job.yaml").write_text(OBJECTS.replace("{name: settings}", "{name: settings}\ndata: {a: '{{ params.day }}'}") + JOB)
    assert any("a placeholder in a ConfigMap, where placeholders are not filled in" in each for each in findings(WORKFLOW))


def test_the_last_line_counts() -> None:
    Path("good.yaml").write_text(JOB)
    Path("bad.yaml").write_text(JOB.replace("Never", "Always").replace("busybox", "''").replace("good", "bad"))

    def last(*names: str) -> str:
        return CliRunner().invoke(check, [*names, "--kubeconfig", "none"]).output.splitlines()[-1]

    assert last("bad.yaml") == "bad.yaml: 2 mistakes"
    assert last("bad.yaml", "good.yaml", "absent.yaml") == "3 mistakes in 2 of 3 files"
    assert last(".") == "2 mistakes in 1 of 2 files"


def test_two_jobs_of_one_name_are_told_apart_only_by_their_authors() -> None:
    assert 'a second Job named "good"' in findings(JOB + "---\n" + JOB)[0]


def test_namespaces_have_to_agree() -> None:
    other = JOB.replace("name: good", "name: other\n  namespace: two")
    assert any(
        "one namespace per run" in each for each in findings(JOB.replace("name: good", "name: good\n  namespace: one") + "---\n" + other)
    )


def test_a_step_that_is_a_folder_is_a_step_for_each_job_and_a_gate() -> None:
    Path("jobs").mkdir()
    for name in ("x", "z"):
        Path(f"jobs/{name}.yaml").write_text(JOB.replace("good", name))
    Path("job.yaml").write_text(JOB)
    workflow_text = WORKFLOW.replace("manifest: job.yaml\n    - name: b", "manifest: jobs\n    - name: b")
    assert not findings(workflow_text)
    workflow = read_file(Path("f.yaml")).require()
    assert [(step.name, step.needs, step.is_gate) for step in workflow.steps] == [
        ("a/x", (), False),
        ("a/z", (), False),
        ("a", ("a/x", "a/z"), True),
        ("b", ("a",), False),
    ]


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("examples/*"), *ROOT.glob("tests/seeds/jobernetes/*.yaml")]), ids=lambda path: path.name
)
def test_a_correct_file_is_never_refused(path: Path) -> None:
    assert [str(finding) for finding in read_file(path).errors] == []


# --- one mistake hides no other, and invents none ---

FLOW = """apiVersion: jobyard.dev/v1
kind: Workflow
spec:
  steps:
    - name: extract
      job: {spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i, command: [a]}]}}}}
    - name: load
      needs: [extract]
      job: {spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i, command: [a]}]}}}}
"""


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("      colour: red", 'f.yaml:7:7: unknown key "colour"'),
        ("      timeout: soon", 'f.yaml:7:16: the text "soon" as'),
        ("      when: never", 'f.yaml:7:13: the text "never" as'),
    ],
)
def test_a_wrong_key_hides_no_wrong_placeholder_or_need(wrong: str, told: str) -> None:
    text = FLOW.replace("    - name: load\n", f"{wrong}\n    - name: load\n").replace("[extract]", "[extrct]")
    text = text.replace("command: [a]}]}}}}\n", "command: ['{{ params.day }}']}]}}}}\n", 1)
    found = findings(text)
    assert found[1].startswith(told)
    assert [each.split(": ", 1)[1] for each in (found[0], found[2])] == [
        "{{ params.day }}: the workflow declares no parameter day; declare it in spec.parameters",
        'step load needs extrct, which does not exist; did you mean "extract"?',
    ]
    assert len(found) == 3


def test_a_misspelled_key_is_one_mistake() -> None:
    text = FLOW.replace("needs: [extract]", "neds: [extract]").replace("[a]}]}}}}\n", "[a, '{{ steps.extract.outputs.rows }}']}]}}}}\n")
    text = text.replace("[a, '{{ steps.extract.outputs.rows }}']", "[a]", 1)
    (found,) = findings(text)
    assert 'did you mean "needs"?' in found


def test_a_manifest_that_is_missing_is_one_mistake() -> None:
    text = FLOW.replace("[a]}]}}}}\n    - name: load", "[a]}]}}}}\n    - name: load").replace("[a]", "['{{ steps.extract.outputs.rows }}']")
    first = text.index("      job:")
    text = text[:first] + "      manifest: nowhere.yaml\n" + text[text.index("    - name: load") :]
    (found,) = findings(text)
    assert "nowhere.yaml does not exist" in found


# --- a folder ---


def test_a_folder_is_checked_as_a_whole_and_no_file_is_skipped_in_silence() -> None:
    def checked() -> tuple[int, str]:
        done = CliRunner().invoke(check, ["."])
        return done.exit_code, done.output

    Path("jobs").mkdir()
    named = FLOW[: FLOW.index("      job:")] + "      manifest: jobs/named.yaml\n"
    for name, text in {"workflow.yaml": named, "jobs/named.yaml": JOB, "jobs/other.yaml": JOB, "values.yaml": "a: 1\n"}.items():
        Path(name).write_text(text)
    code, said = checked()
    assert code == 0
    assert "Not checked, for they hold neither Jobs nor a workflow: values.yaml." in said
    assert "3 files: all good" in said
    Path("jobs/other.yaml").write_text(JOB.replace("  template:", "  backofLimit: 3\n  template:"))
    code, said = checked()
    assert (code, 'jobs/other.yaml:6:3: unknown field "backofLimit" in spec' in said) == (2, True)
    Path("jobs/other.yaml").write_text("{")
    Path("list.yaml").write_text('{"apiVersion": "v1", "kind": "List", "items": [{"kind": "Job"}]}')
    code, said = checked()
    assert (code, "jobs/other.yaml:" in said, "list.yaml:1:" in said) == (2, True, True)


@pytest.mark.parametrize("mistake", [False, True])
def test_a_cluster_that_can_t_be_asked_hides_no_mistake_and_is_none(mistake: bool) -> None:
    Path("kubeconfig").write_text(
        '{"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}], "users": [], '
        '"contexts": [{"name": "c", "context": {"cluster": "c"}}], "current-context": "c"}'
    )
    Path("a.yaml").write_text(JOB)
    Path("b.yaml").write_text(JOB.replace("  template:", "  backofLimit: 3\n  template:") if mistake else JOB)
    done = CliRunner().invoke(check, ["a.yaml", "b.yaml", "--kubeconfig", "kubeconfig"])
    if mistake:
        assert (done.exit_code, "backofLimit" in done.output) == (2, True)
        assert "The cluster was not asked: the cluster at http://127.0.0.1:9 can't be reached" in done.output
    else:
        assert isinstance(done.exception, Unreachable)
        assert done.exception.exit_code == 3
