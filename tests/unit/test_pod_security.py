"""The Pod Security Standards, rule by rule; `tests/contract/test_pod_security_agrees.py` compares them with a server."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from jobyard.files.document import Document, load
from jobyard.files.pod_security import baseline, restricted
from jobyard.files.pod_security.judge import judge
from jobyard.files.pod_security.pods import pod_of
from jobyard.model.pod_level import PodLevel
from tests.pod_mutants import BASELINE, RESTRICTED, makers, mutant, pod

POD = """apiVersion: v1
kind: Pod
metadata:
  name: pod{metadata}
spec:{pod}
  securityContext:
    runAsNonRoot: true
    seccompProfile: {{type: RuntimeDefault}}{context}
  volumes: [{{name: data, emptyDir: {{}}}}{volumes}]
  containers:
    - name: main
      image: busybox{container}
      securityContext:
        allowPrivilegeEscalation: false
        capabilities: {{drop: [ALL]{capabilities}}}{own}
"""
DEPTHS = {"metadata": 2, "pod": 2, "context": 4, "volumes": 0, "container": 6, "capabilities": 0, "own": 8}
APPARMOR = "container.apparmor.security.beta.kubernetes.io/main"

BREACHES = [
    ("pod", "hostNetwork: true", "6:16: true as spec.hostNetwork, which pods: baseline forbids, expected false"),
    ("pod", "hostPID: true", "true as spec.hostPID"),
    ("pod", "hostIPC: 'true'", 'the text "true" as spec.hostIPC'),
    ("context", "windowsOptions: {hostProcess: true}", "true as spec.securityContext.windowsOptions.hostProcess"),
    ("own", "privileged: true", "16:21: true as spec.containers[0].securityContext.privileged"),
    ("capabilities", "add: [CHOWN, NET_RAW]", 'the text "NET_RAW" as spec.containers[0].securityContext.capabilities.add[1]'),
    (
        "volumes",
        "{name: b, hostPath: {path: /}}",
        "a mapping as spec.volumes[1].hostPath, which pods: baseline forbids, expected a volume of",
    ),
    ("container", "ports: [{containerPort: 80, hostPort: 80}]", "the number 80 as spec.containers[0].ports[0].hostPort"),
    ("container", "livenessProbe: {tcpSocket: {port: 80, host: 10.0.0.1}}", "livenessProbe.tcpSocket.host, which pods: baseline forbids"),
    ("container", "lifecycle: {preStop: {httpGet: {port: 80, host: x}}}", "lifecycle.preStop.httpGet.host, which pods: baseline forbids"),
    ("metadata", f"annotations: {{{APPARMOR}: unconfined}}", "expected runtime/default or localhost/NAME"),
    (
        "own",
        "appArmorProfile: {type: Unconfined}",
        "appArmorProfile.type, which pods: baseline forbids, expected RuntimeDefault or Localhost",
    ),
    ("own", "seLinuxOptions: {type: spc_t}", "expected container_t, container_init_t, container_kvm_t or container_engine_t"),
    ("context", "seLinuxOptions: {role: x}", 'the text "x" as spec.securityContext.seLinuxOptions.role'),
    ("own", "procMount: Unmasked", "procMount, which pods: baseline forbids, expected Default"),
    ("own", "seccompProfile: {type: Unconfined}", 'the text "Unconfined" as spec.containers[0].securityContext.seccompProfile.type'),
    ("context", "sysctls: [{name: kernel.msgmax, value: '1'}]", 'the text "kernel.msgmax" as spec.securityContext.sysctls[0].name'),
]
STRICTER = [
    (
        "volumes",
        "{name: b, nfs: {server: x, path: /}}",
        "a mapping as spec.volumes[1].nfs, which pods: restricted forbids, expected one of configMap",
    ),
    ("capabilities", "add: [CHOWN]", "capabilities.add[0], which pods: restricted forbids, expected NET_BIND_SERVICE"),
    ("own", "runAsNonRoot: false", "16:23: false as spec.containers[0].securityContext.runAsNonRoot"),
    ("own", "runAsUser: 0", "the number 0 as spec.containers[0].securityContext.runAsUser"),
]
FINE = [
    ("pod", "hostNetwork: null"),
    ("pod", "hostUsers: false"),
    ("container", "ports: [{containerPort: 80, hostPort: 0}]"),
    ("container", 'livenessProbe: {httpGet: {port: 80, host: ""}}'),
    ("metadata", f"annotations: {{{APPARMOR}: localhost/x, other: unconfined}}"),
    ("capabilities", "add: [NET_BIND_SERVICE]"),
    ("own", "runAsUser: 1000"),
    ("volumes", "{name: b}, {name: c, image: {reference: x}}"),
    ("context", "sysctls: [{name: net.ipv4.tcp_rmem, value: '1'}]"),
]


def document(tree: Any) -> Document:
    (only,), _ = load(json.dumps(tree).encode(), "pod.json")
    return only


def found(level: PodLevel, **lines: str) -> list[str]:
    """What a level has against a restricted pod with a line more in one of its parts."""
    parts = dict.fromkeys(DEPTHS, "")
    for name, line in lines.items():
        parts[name] = f", {line}" if not DEPTHS[name] else f"\n{' ' * DEPTHS[name]}{line}"
    (only,), mistakes = load(POD.format(**parts).encode(), "p.yaml")
    assert not mistakes
    return [str(finding) for finding in judge(only, level)]


@pytest.mark.parametrize(("part", "line", "said"), BREACHES)
def test_what_leads_to_the_node_is_beyond_both_levels(part: str, line: str, said: str) -> None:
    (one,) = found(PodLevel.BASELINE, **{part: line})
    assert said in one
    assert one.startswith("p.yaml:")
    assert one.endswith("; change or remove it, or allow it: --pods any (in a service's settings: pods: any)")
    assert one in found(PodLevel.RESTRICTED, **{part: line})
    assert found(PodLevel.ANY, **{part: line}) == []


@pytest.mark.parametrize(("part", "line", "said"), STRICTER)
def test_what_is_not_hardened_is_beyond_restricted_alone(part: str, line: str, said: str) -> None:
    (one,) = found(PodLevel.RESTRICTED, **{part: line})
    assert said in one
    assert one.endswith("; change or remove it, or allow it: --pods baseline (in a service's settings: pods: baseline)")
    assert found(PodLevel.BASELINE, **{part: line}) == []


@pytest.mark.parametrize(("part", "line"), FINE)
def test_what_is_harmless_passes(part: str, line: str) -> None:
    assert found(PodLevel.RESTRICTED, **{part: line}) == []


def test_what_restricted_wants_said_is_named_where_it_is_missing() -> None:
    bare = document(pod(containers=[{"name": "main", "image": "busybox"}], securityContext=None))
    missing = [f"{finding.what}, expected {finding.expected}" for finding in judge(bare, PodLevel.RESTRICTED)]
    where = "spec.containers[0].securityContext."
    assert missing == [
        f"{where}allowPrivilegeEscalation is missing, which pods: restricted needs, expected false",
        f'{where}capabilities.drop is missing, which pods: restricted needs, expected ["ALL"]',
        f"{where}runAsNonRoot is missing, which pods: restricted needs, expected true",
        f"{where}seccompProfile.type is missing, which pods: restricted needs, expected RuntimeDefault or Localhost",
    ]


def test_a_pod_with_users_of_its_own_may_be_root_in_itself() -> None:
    whole = pod(hostUsers=False, securityContext={"seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 0})
    assert judge(document(whole), PodLevel.RESTRICTED) == []
    for value in (True, None, "{{ params.users }}"):
        whole["spec"]["hostUsers"] = value
        assert len(judge(document(whole), PodLevel.RESTRICTED)) == 2, value


@pytest.mark.parametrize("path", ["spec", "spec/containers", "spec/containers/0", "spec/containers/0/securityContext", "spec/volumes"])
def test_what_is_filled_in_later_is_refused_where_it_could_hide_something(path: str) -> None:
    tree: Any = pod()
    holder, *keys = (tree, *(int(each) if each.isdigit() else each for each in path.split("/")))
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = "{{ steps.a.outputs.x }}"
    for level in (PodLevel.BASELINE, PodLevel.RESTRICTED):
        assert "which is judged before it runs" in judge(document(tree), level)[0].what


def test_every_value_that_counts_must_be_known() -> None:
    for key in ("privileged", "procMount"):
        assert found(PodLevel.BASELINE, own=f"{key}: '{{{{ params.x }}}}'"), key
    assert found(PodLevel.BASELINE, volumes="{name: b, hostPath: '{{ params.x }}'}")
    assert found(PodLevel.RESTRICTED, own="runAsUser: '{{ params.x }}'")
    assert not found(PodLevel.RESTRICTED, container="command: '{{ steps.a.outputs.words }}'")


@pytest.mark.parametrize("maker", makers(pod(hostPID=True)), ids=lambda each: str(each["kind"]))
def test_pods_are_found_in_all_that_makes_them(maker: Any) -> None:
    (finding,) = judge(document(maker), PodLevel.BASELINE)
    assert finding.what.endswith("spec.hostPID, which pods: baseline forbids")


def test_each_level_allows_what_is_good_by_it() -> None:
    assert [judge(document(each), level) for each in RESTRICTED for level in PodLevel] == [[]] * len(RESTRICTED) * 3
    assert all(judge(document(each), PodLevel.RESTRICTED) and not judge(document(each), PodLevel.BASELINE) for each in BASELINE)


def test_mutants_break_every_rule() -> None:
    """A rule that no mutant breaks is compared with nothing."""
    pods = [each for seed in range(400) if (each := pod_of(document(mutant(seed))))]
    for rule in (*baseline.RULES, *restricted.RULES):
        assert any(any(rule(each)) for each in pods), rule
        assert any(not any(rule(each)) for each in pods), rule


def test_odd_values_raise_nothing() -> None:
    """Whatever stands there, the verdict comes: the API server refuses what is no pod."""
    odd: list[Any] = [None, "", "x", 0, 1, 1.5, True, [], {}, [None], ["a"], [{}], [[]], {"a": {}}]

    def places(tree: Any) -> list[tuple[Any, Any]]:
        inside = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
        return [(tree, key) for key, _ in inside] + [place for _, each in inside for place in places(each)]

    whole: Any = pod(
        hostUsers=False,
        os={"name": "linux"},
        volumes=[{"name": "a", "hostPath": {"path": "/"}}],
        securityContext={"sysctls": [{"name": "a"}], "windowsOptions": {}, "seLinuxOptions": {}, "appArmorProfile": {}},
    )
    whole["metadata"]["annotations"] = {APPARMOR: "x"}
    whole["spec"]["containers"][0] |= {
        "ports": [{"hostPort": 1}],
        "livenessProbe": {"httpGet": {}},
        "lifecycle": {"preStop": {"tcpSocket": {}}},
    }
    for number in range(len(places(whole))):
        for value in odd:
            tree = copy.deepcopy(whole)
            holder, key = places(tree)[number]
            holder[key] = value
            judge(document(tree), PodLevel.RESTRICTED)
