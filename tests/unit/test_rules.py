"""Rules of Kubernetes that `check` knows, a few of each room; `tests/contract/test_check_agrees.py` compares all of them with a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobyard.files.document import load
from jobyard.files.folder import Folder
from jobyard.files.manifest import check_job
from jobyard.schema.values import quantity
from tests.good_jobs import GOOD

TEMPLATE = """apiVersion: batch/v1
kind: Job
metadata:
  name: good{metadata}
spec:{job}
  template:
    spec:{pod}
      restartPolicy: Never
      volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}{volumes}]
      containers:
        - name: main
          image: busybox{container}
"""


def findings(text: str, *, literal: bool = True, name: str = "f.yaml") -> list[str]:
    documents, found = load(text.encode(), name)
    folder = Folder(Path())
    for document in documents:
        check_job(folder, document, literal=literal)
    return [str(finding) for finding in (*found, *folder.findings)]


def job(literal: bool = True, /, **lines: str) -> list[str]:
    """What is found in a Job with a line more in one of its parts."""
    depths = {"metadata": 2, "job": 2, "pod": 6, "container": 10, "volumes": 0}
    parts = dict.fromkeys(depths, "")
    for name, line in lines.items():
        parts[name] = f", {line}" if name == "volumes" else f"\n{' ' * depths[name]}{line}"
    return findings(TEMPLATE.format(**parts), literal=literal)


CASES = [
    ("metadata", "annotations: {'a b': x}", 'annotation key "a b"'),
    ("metadata", "finalizers: [keep]", "a name with a domain such as example.com/cleanup"),
    ("metadata", "resourceVersion: '123'", "metadata.resourceVersion of what is to be created; remove it"),
    ("job", "parallelism: 2147483648", "the number 2147483648 as spec.parallelism, expected an integer of 32 bits"),
    ("job", "podReplacementPolicy: failed", 'expected TerminatingOrFailed or Failed; did you mean "Failed"?'),
    ("job", "backoffLimitPerIndex: 1", "spec.backoffLimitPerIndex of a Job that is not Indexed"),
    ("job", "selector: {matchLabels: {app: x}}", "a selector, which Kubernetes makes; remove it"),
    ("job", "manualSelector: true", "spec.selector is missing"),
    ("job", "podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [0]}}]}", "0 is success"),
    ("job", "podFailurePolicy: {rules: [{action: Ignore}]}", "with neither of onExitCodes and onPodConditions"),
    ("job", "successPolicy: {rules: [{succeededCount: 1}]}", "spec.successPolicy of a Job that is not Indexed"),
    ("pod", "serviceAccountName: Runner", 'the text "Runner" as spec.template.spec.serviceAccountName'),
    ("pod", "activeDeadlineSeconds: 0", "spec.template.spec.activeDeadlineSeconds is 0, expected 1 to 2147483647"),
    ("pod", "dnsPolicy: None", "dnsPolicy None without a name server"),
    ("pod", "hostAliases: [{ip: 010.0.0.1}]", "expected an IP address"),
    ("pod", "nodeSelector: {disk: 'not a value!'}", 'label value "not a value!"'),
    ("pod", "tolerations: [{operator: Equal}]", "a toleration without a key"),
    ("pod", "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: Never}]", "DoNotSchedule or ScheduleAnyway"),
    ("pod", "securityContext: {runAsUser: -1}", "spec.template.spec.securityContext.runAsUser is -1"),
    ("pod", "securityContext: {seccompProfile: {type: Localhost}}", "localhostProfile is missing"),
    ("pod", "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{}]}}", "topologyKey is missing"),
    ("pod", "hostUsers: false\n      hostPID: true", "spec.template.spec.hostPID while hostUsers is false"),
    ("volumes", "{name: data}", 'the text "data" as spec.template.spec.volumes[1].name appears twice'),
    ("volumes", "{name: x, emptyDir: {}, secret: {secretName: z}}", "secret together with emptyDir; keep one of the two"),
    ("volumes", "{name: x, configMap: {items: [{key: a, path: ../b}]}}", "volumes[1].configMap.name is missing"),
    ("volumes", "{name: x, configMap: {name: z, items: [{key: a, path: ../b}]}}", "a relative path without .."),
    ("volumes", "{name: x, secret: {secretName: z, defaultMode: 777}}", "is 777, expected 0 to 511"),
    ("volumes", "{name: x, nfs: {server: z, path: z}}", "expected an absolute path"),
    ("container", "imagePullPolicy: always", 'Always, IfNotPresent or Never; did you mean "Always"?'),
    ("container", "ports: [{containerPort: 70000}]", "containerPort is 70000, expected 1 to 65535"),
    ("container", "ports: [{containerPort: 1, protocol: tcp}]", 'TCP, UDP or SCTP; did you mean "TCP"?'),
    ("container", "env: [{name: A=B}]", "expected printable ASCII without ="),
    ("container", "env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]", "value together with valueFrom"),
    ("container", "env: [{name: A, valueFrom: {secretKeyRef: {name: Secret, key: x}}}]", 'the text "Secret" as'),
    ("container", "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.nam}}}]", 'did you mean "metadata.name"?'),
    ("container", "envFrom: [{}]", "has none of configMapRef, secretRef"),
    ("container", "volumeMounts: [{name: data, mountPath: /a}, {name: data, mountPath: /a}]", "appears twice"),
    ("container", "volumeMounts: [{name: data, mountPath: ''}]", "mountPath is missing"),
    ("container", "resources: {limits: {cpu: 1}, requests: {cpu: 2}}", "a request of cpu above its limit"),
    ("container", "resources: {limits: {gpu: 1}}", 'resource "gpu", expected cpu, memory'),
    ("container", "resources: {limits: {nvidia.com/gpu: 0.5}}", "a part of a nvidia.com/gpu, expected a whole number"),
    ("container", "livenessProbe: {httpGet: {port: '80'}}", "a number has no quotes"),
    ("container", "livenessProbe: {}", "has none of exec, httpGet, tcpSocket, grpc"),
    ("container", "lifecycle: {preStop: {sleep: {seconds: 31}}}", "expected 0 to 30, terminationGracePeriodSeconds"),
    ("container", "securityContext: {allowPrivilegeEscalation: false, privileged: true}", "in a privileged container"),
    ("container", "restartPolicyRules: [{action: Restart}]", "restartPolicy is missing; rules need it"),
]


@pytest.mark.parametrize(("part", "line", "expected"), CASES)
def test_what_the_server_would_refuse_is_found(part: str, line: str, expected: str) -> None:
    found = job(**{part: line})
    assert any(expected in each for each in found), found
    assert all(each.startswith("f.yaml:") for each in found)


@pytest.mark.parametrize("tree", GOOD, ids=lambda tree: tree["metadata"].get("name", "generated"))
def test_what_the_server_takes_is_not_refused(tree: object) -> None:
    assert findings(json.dumps(tree), name="f.json") == []


def test_what_is_left_out_and_what_is_null_have_their_defaults() -> None:
    assert job(job="completionMode: Indexed") == []  # one completion is the default
    assert job(pod="tolerations: null", container="args: null", job="parallelism: null") == []
    assert job(container="livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: A, value: null}]}}") == []
    assert job(pod="terminationGracePeriodSeconds: -1") == []  # Kubernetes takes it for 1


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "12345678901234567890"])
def test_what_json_can_not_hold_is_no_number(value: str) -> None:
    text = json.dumps(GOOD[0]).replace('"backoffLimit": 0', f'"backoffLimit": {value}')
    assert any(f'the text "{value}" as spec.backoffLimit, expected an integer' in each for each in findings(text, name="f.json"))


def test_an_integer_is_written_as_one() -> None:
    text = json.dumps(GOOD[0]).replace('"backoffLimit": 0', '"backoffLimit": 1.0')
    assert findings(text, name="f.json") == ["f.json:1:99: the number 1.0 as spec.backoffLimit, expected an integer"]


def test_a_placeholder_is_not_judged() -> None:
    for part, line in (
        ("job", 'parallelism: "{{ params.n }}"'),
        ("job", 'completionMode: "{{ params.mode }}"'),
        ("pod", 'serviceAccountName: "{{ params.Account }}"'),
        ("volumes", '{name: "{{ params.volume }}"}'),
        ("container", 'imagePullPolicy: "{{ params.policy }}"'),
        ("container", 'ports: [{containerPort: "{{ params.port }}"}]'),
        ("container", 'volumeMounts: [{name: "{{ params.volume }}", mountPath: "{{ params.path }}"}]'),
        ("container", 'resources: {limits: {cpu: "{{ params.most }}"}, requests: {cpu: 2}}'),
        ("container", 'livenessProbe: {tcpSocket: {port: "{{ params.port }}"}}'),
    ):
        assert job(False, **{part: line}) == [], line
        if "parallelism" not in line:
            assert job(True, **{part: line}) != [] or part == "volumes" or "mountPath" in line or "most" in line, line


def test_a_field_of_a_newer_kubernetes_is_told() -> None:
    assert job(pod="evictionResponders: []") == ["f.yaml:8:7: warning: evictionResponders is new in Kubernetes 1.37: older ones refuse it"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("100m", 0.1),
        ("1Ki", 1024),
        ("1.5Gi", 1.5 * 2**30),
        ("1e3", 1000),
        ("1E", 10**18),
        (".5", 0.5),
        (" 1 ", 1),
        ("-2k", -2000),
        (2.5, 2.5),
    ],
)
def test_quantities_are_read(text: object, expected: float) -> None:
    value = quantity(text)
    assert value is not None
    assert float(value) == expected


@pytest.mark.parametrize("text", ["", "1Gi\n", "\t1", "1gb", "1 Gi", "1mi", "Gi1", "--1", "1e", "0x10", True, None])
def test_what_is_no_quantity_is_none(text: object) -> None:
    assert quantity(text) is None
