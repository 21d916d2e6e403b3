"""Jobs that refer to what is not there, that no node takes, that wait for somebody, and that the cluster forbids."""

from __future__ import annotations

from typing import Any

from tests.broken.kind import Broken, Tree, asks, broken, claim, env, image, volume


def deadlines(registry: str) -> list[Broken]:
    """`registry`: the address of one that has no images to give."""
    took = "failed. Took longer than the {}s it may take (activeDeadlineSeconds)."
    late = "DeadlineExceeded"
    return [
        broken(
            "deadline",
            late,
            took.format(1),
            "Raise spec.activeDeadlineSeconds",
            "sleep 600",
            spec={"activeDeadlineSeconds": 1},
            everywhere=True,
        ),
        broken("deadline-of-pod", late, took.format(1), "of its pod template", "sleep 600", pod={"activeDeadlineSeconds": 1}),
        image(
            "deadline-image",
            late,
            took.format(8),
            "Correct the image's name or tag",
            f"{registry}/none:1",
            spec={"activeDeadlineSeconds": 8},
        ),
        broken(
            "deadline-no-node",
            late,
            took.format(4),
            "nodeSelector",
            pod={"nodeSelector": {"disk": "none"}},
            spec={"activeDeadlineSeconds": 4},
        ),
    ]


_NO_SECRET = ("SecretMissing", "is not running. Secret none does not exist in this namespace.", "Create the Secret")
_NO_MAP = ("ConfigMapMissing", "is not running. ConfigMap none does not exist in this namespace.", "Create the ConfigMap")
_LOGIN: Tree = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"user": "x"}}

REFERENCES = [
    env("secret", *_NO_SECRET, {"secretKeyRef": {"name": "none", "key": "k"}}, everywhere=True),
    env("config-map", *_NO_MAP, {"configMapKeyRef": {"name": "none", "key": "k"}}, everywhere=True),
    broken("config-map-all", *_NO_MAP, container={"envFrom": [{"configMapRef": {"name": "none"}}]}, everywhere=True),
    env(
        "config-map-key",
        "ConfigMapKeyMissing",
        "ConfigMap kube-root-ca.crt has no key no, which container main needs.",
        "Add the key",
        {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "no"}},
        everywhere=True,
    ),
    env(
        "secret-key",
        "SecretKeyMissing",
        "Secret login has no key no, which container main needs.",
        "Add the key",
        {"secretKeyRef": {"name": "login", "key": "no"}},
        beside=(_LOGIN,),
        everywhere=True,
    ),
    volume("secret-volume", *_NO_SECRET, source={"secret": {"secretName": "none"}}, everywhere=True),
    volume("config-map-volume", *_NO_MAP, source={"configMap": {"name": "none"}}, everywhere=True),
    volume(
        "config-map-volume-key",
        "ConfigMapKeyMissing",
        "The ConfigMap of volume v has no key no, which the volume needs.",
        "Add the key",
        source={"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "no", "path": "x"}]}},
    ),
    volume("projected", *_NO_SECRET, source={"projected": {"sources": [{"secret": {"name": "none"}}]}}),
    volume(
        "claim",
        "PersistentVolumeClaimMissing",
        "PersistentVolumeClaim none does not exist in this namespace.",
        "Create the claim",
        source={"persistentVolumeClaim": {"claimName": "none"}},
    ),
    volume(
        "claim-unbound",
        "PersistentVolumeClaimUnbound",
        "Waiting for storage: a PersistentVolumeClaim of its pod has no volume yet.",
        "storage class",
        source={"persistentVolumeClaim": {"claimName": "data"}},
        beside=(claim("data"),),
    ),
    volume(
        "claim-being-deleted",
        "PersistentVolumeClaimUnbound",
        "PersistentVolumeClaim leaving is being deleted.",
        "Make a new claim",
        source={"persistentVolumeClaim": {"claimName": "leaving"}},
        beside=(claim("leaving", finalizers=["example.com/keep"]),),
    ),
    volume(
        "host-path",
        "FailedMount",
        "Could not mount a volume: /nosuch on its node, which volume v needs, is not a directory.",
        "hostPath",
        source={"hostPath": {"path": "/nosuch", "type": "Directory"}},
    ),
    volume(
        "csi",
        "FailedMount",
        "the storage driver none.example.com of volume v is not on its node.",
        "Correct the driver's name",
        source={"csi": {"driver": "none.example.com"}},
    ),
    volume(
        "nfs",
        "FailedMount",
        "its node can't mount volume v.",
        "Check server and path",
        source={"nfs": {"server": "127.0.0.1", "path": "/none"}},
    ),
    volume(
        "sub-path",
        "CreateContainerConfigError",
        "container main has no variable NOBODY, which a subPathExpr names.",
        "subPathExpr",
        source={"emptyDir": {}},
        mount={"subPathExpr": "$(NOBODY)/x"},
    ),
    broken(
        "service-account",
        "ServiceAccountMissing",
        "ServiceAccount none does not exist in this namespace.",
        "serviceAccountName",
        pod={"serviceAccountName": "none"},
        everywhere=True,
    ),
    broken(
        "priority-class",
        "PriorityClassMissing",
        "PriorityClass none does not exist on this cluster.",
        "priorityClassName",
        pod={"priorityClassName": "none"},
    ),
    broken(
        "runtime-class",
        "RuntimeClassMissing",
        "RuntimeClass none does not exist on this cluster.",
        "runtimeClassName",
        pod={"runtimeClassName": "none"},
    ),
]

_NO_NODE = "Unschedulable"
_LABELS = (
    _NO_NODE,
    "Waiting for a place on the cluster: no node has the labels that its nodeSelector or affinity requires.",
    "nodeSelector",
)
_ZONE = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["none"]}]}]}
_SPREAD = {
    "maxSkew": 1,
    "topologyKey": "no-such-label",
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"a": "b"}},
}


def _lacks(name: str, resource: str, amount: str, **asked: str) -> Broken:
    return asks(
        name,
        _NO_NODE,
        f"Waiting for {resource} on the cluster: it needs {amount}, and no node has that much free.",
        "Ask for less",
        **asked,
    )


def _beside(kind: str, **labels: str) -> Tree:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


PLACES = [
    _lacks("cpu", "cpu", "1k", cpu="1000"),
    _lacks("memory", "memory", "10Ti", memory="10Ti"),
    _lacks("gpu", "example.com/gpu", "1", example_com__gpu="1"),
    _lacks("disk", "ephemeral-storage", "900Ti", ephemeral_storage="900Ti"),
    broken("selector", *_LABELS, pod={"nodeSelector": {"disk": "none"}}),
    broken("affinity", *_LABELS, pod={"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": _ZONE}}}),
    broken("node-os", *_LABELS, pod={"os": {"name": "windows"}, "nodeSelector": {"kubernetes.io/os": "windows"}}),
    broken(
        "pod-affinity",
        _NO_NODE,
        "no node runs a pod that its podAffinity requires.",
        "podAffinity",
        pod=_beside("podAffinity", app="none"),
    ),
    broken(
        "pod-anti-affinity",
        _NO_NODE,
        "every node runs a pod that its podAntiAffinity keeps it away from.",
        "podAntiAffinity",
        pod=_beside("podAntiAffinity", **{"batch.kubernetes.io/job-name": "init-never-ends"}),
    ),
    broken(
        "spread", _NO_NODE, "its topologySpreadConstraints fit no node.", "label the nodes", pod={"topologySpreadConstraints": [_SPREAD]}
    ),
    broken(
        "port",
        _NO_NODE,
        "is running, but not all is well. Waiting for a place on the cluster: a port of the node that it needs (hostPort) is taken on every node.",
        "hostPort",
        "sleep 600",
        spec={"parallelism": 2, "completions": 2},
        container={"ports": [{"containerPort": 80, "hostPort": 47123}]},
    ),
]


def _waits(name: str, says: str, pod: Tree | None = None, **more: Any) -> Broken:
    return broken(name, "WaitingForPod", f"is not running. It {says}", "", pod=pod, **more)


WAITS = [
    _waits(
        "scheduler",
        "waits for the scheduler none, which has not looked at its pod yet. If no scheduler of that name runs on this cluster, correct",
        {"schedulerName": "none"},
    ),
    _waits(
        "gate",
        "waits until scheduling gate example.com/wait-for-data is removed",
        {"schedulingGates": [{"name": "example.com/wait-for-data"}]},
    ),
    _waits(
        "managed-by", "waits for example.com/queue, which its managedBy names", spec={"managedBy": "example.com/queue"}, everywhere=True
    ),
    _waits("node-name", "waits for node no-such-node, which its nodeName names, to take its pod.", {"nodeName": "no-such-node"}),
    _waits(
        "resource-claim",
        "waits for its resource claim none, which does not exist yet.",
        {"resourceClaims": [{"name": "gpu", "resourceClaimName": "none"}]},
    ),
    _waits(
        "being-deleted",
        "is being deleted, and waits for whoever put the finalizer example.com/keep on it.",
        {"nodeSelector": {"disk": "none"}},
        metadata={"finalizers": ["example.com/keep"]},
        deleted=True,
    ),
    broken(
        "parallelism-zero",
        "WaitingForPod",
        "is not running. Its parallelism is 0, so Kubernetes makes no pod.",
        "",
        spec={"parallelism": 0, "completions": 1},
        everywhere=True,
    ),
    broken(
        "suspended",
        "Suspended",
        "is not running. Suspended: Kubernetes starts no pods for it.",
        "kubectl patch job suspended",
        spec={"suspend": True},
        everywhere=True,
    ),
]

_REFUSED = "FailedCreate"

FORBIDDEN = [
    broken(
        "run-as-root",
        "RunsAsRoot",
        "Would run as root, which its runAsNonRoot forbids: container main has runAsNonRoot, and its image's user is root.",
        "securityContext.runAsUser",
        container={"securityContext": {"runAsNonRoot": True}},
    ),
    broken(
        "sysctl",
        "SysctlForbidden",
        'Its node refused its pod (SysctlForbidden): forbidden sysctl: "net.core.somaxconn" not allowlisted.',
        "Leave the sysctl out",
        pod={"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1024"}]}},
    ),
    broken(
        "seccomp",
        "StartError",
        "the seccomp profile none.json is not on its node.",
        "RuntimeDefault",
        container={"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}}},
    ),
    volume(
        "empty-dir-full",
        "Evicted",
        "Was evicted from its node: volume v held more than the 1Mi it may.",
        "sizeLimit",
        source={"emptyDir": {"sizeLimit": "1Mi"}},
        container={"command": ["sh", "-c", "head -c 8m /dev/zero > /v/x; sleep 600"]},
    ),
    broken(
        "disk-full",
        "Evicted",
        "Was evicted from its node: it wrote more than the 1Mi of disk it may.",
        "ephemeral-storage",
        "head -c 8m /dev/zero > /tmp/x; sleep 600",
        container={"resources": {"limits": {"ephemeral-storage": "1Mi"}}},
    ),
    broken(
        "quota",
        "QuotaExceeded",
        "Waiting for room in the namespace's quota: quota q allows pods=0, pods=0 is used, and it asks for pods=1.",
        "raise the quota",
        area="quota",
    ),
    broken(
        "quota-must-say", _REFUSED, "quota q requires requests.cpu of container main to be set.", "resources.requests.cpu", area="must-say"
    ),
    broken(
        "limit-range",
        _REFUSED,
        "Refused by the cluster: maximum cpu usage per Container is 1, but limit is 2.",
        "LimitRange",
        container={"resources": {"limits": {"cpu": "2"}}},
        area="range",
    ),
    broken(
        "pod-security",
        _REFUSED,
        "its pod breaks the namespace's Pod Security Standard restricted.",
        "allowPrivilegeEscalation",
        area="restricted",
    ),
    broken("admission-policy", _REFUSED, "Refused by the cluster: policy ", "Change the Job as it asks", area="policy"),
]


def _hard(name: str, **hard: str) -> Tree:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}}


AREAS: dict[str, tuple[dict[str, str], tuple[Tree, ...]]] = {
    "quota": ({}, (_hard("q", pods="0"),)),
    "must-say": ({}, (_hard("q", **{"requests.cpu": "1"}),)),
    "range": (
        {},
        (
            {
                "apiVersion": "v1",
                "kind": "LimitRange",
                "metadata": {"name": "r"},
                "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]},
            },
        ),
    ),
    "restricted": ({"pod-security.kubernetes.io/enforce": "restricted"}, ()),
    "policy": ({}, ()),
}
"""Namespaces with rules, for Jobs that break them: their labels, and the objects that are in them."""
