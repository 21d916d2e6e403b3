"""Good Jobs that say much: together they use what a pod and a Job may have. What is mutated, and what must never be refused."""

from __future__ import annotations

from typing import Any

from tests.manifests import job

Tree = dict[str, Any]


def _pod(**spec: Any) -> Tree:
    return job("pod", pod=spec)


_HTTP = {"httpGet": {"path": "/", "port": 8080, "scheme": "HTTP", "httpHeaders": [{"name": "X-Header", "value": "1"}]}}
_SELECTOR = {
    "matchLabels": {"app": "x"},
    "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}],
}
_TERM = {"labelSelector": _SELECTOR, "topologyKey": "kubernetes.io/hostname", "namespaces": ["x"], "matchLabelKeys": ["k"]}
_NODES = {
    "matchExpressions": [
        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
        {"key": "gen", "operator": "Gt", "values": ["3"]},
    ],
    "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}],
}

_CONTAINER = job(
    "container",
    container={
        "args": ["a", "b"],
        "workingDir": "/tmp",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"}],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "b.txt", "optional": True}}},
            {"name": "C", "valueFrom": {"secretKeyRef": {"name": "passwords", "key": "c"}}},
            {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "F", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
        ],
        "envFrom": [{"prefix": "X_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "passwords", "optional": True}}],
        "resources": {
            "limits": {"cpu": "1", "memory": "128Mi", "nvidia.com/gpu": 1, "ephemeral-storage": "1Gi"},
            "requests": {"cpu": "500m", "memory": "64Mi", "nvidia.com/gpu": "1"},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/data", "subPath": "a/b"},
            {"name": "tmp", "mountPath": "/scratch", "readOnly": True, "recursiveReadOnly": "IfPossible", "mountPropagation": "None"},
        ],
        "volumeDevices": [{"name": "block", "devicePath": "/dev/xvda"}],
        "livenessProbe": {**_HTTP, "initialDelaySeconds": 1, "terminationGracePeriodSeconds": 5},
        "readinessProbe": {"tcpSocket": {"port": "http"}, "successThreshold": 2},
        "startupProbe": {"grpc": {"port": 8080, "service": "x"}, "failureThreshold": 30},
        "lifecycle": {"postStart": {"exec": {"command": ["true"]}}, "preStop": {"sleep": {"seconds": 1}}},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "runAsUser": 1000,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "Localhost", "localhostProfile": "x.json"},
            "appArmorProfile": {"type": "RuntimeDefault"},
            "seLinuxOptions": {"level": "s0"},
            "procMount": "Default",
        },
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
        "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
        "stdin": True,
        "tty": True,
    },
    pod={
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            {"name": "block", "persistentVolumeClaim": {"claimName": "block"}},
        ],
    },
)

_VOLUMES = _pod(
    volumes=[
        {"name": "a", "configMap": {"name": "x", "defaultMode": 420, "items": [{"key": "k", "path": "a/b", "mode": 256}]}},
        {"name": "b", "secret": {"secretName": "x", "optional": True, "items": [{"key": "k", "path": "b"}]}},
        {"name": "c", "hostPath": {"path": "/var/log", "type": "Directory"}},
        {"name": "d", "nfs": {"server": "nfs.local", "path": "/x", "readOnly": True}},
        {"name": "e", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "f", "downwardAPI": {"items": [{"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu"}}]}},
        {
            "name": "g",
            "projected": {
                "defaultMode": 420,
                "sources": [
                    {"secret": {"name": "x", "items": [{"key": "k", "path": "s"}]}},
                    {"configMap": {"name": "x", "optional": True, "items": [{"key": "k", "path": "c"}]}},
                    {"downwardAPI": {"items": [{"path": "d", "fieldRef": {"fieldPath": "metadata.uid"}}]}},
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600, "audience": "x"}},
                ],
            },
        },
        {"name": "h", "csi": {"driver": "x.csi.io", "volumeAttributes": {"a": "b"}, "nodePublishSecretRef": {"name": "x"}}},
        {
            "name": "i",
            "ephemeral": {
                "volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "storageClassName": "fast",
                        "volumeMode": "Filesystem",
                        "resources": {"requests": {"storage": "1Gi"}},
                        "selector": _SELECTOR,
                        "dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "x"},
                    },
                }
            },
        },
        {"name": "j", "image": {"reference": "example.com/models:1", "pullPolicy": "IfNotPresent"}},
        {"name": "k", "emptyDir": {}},
        {"name": "l"},
    ]
)

_OLD_VOLUMES = _pod(
    volumes=[
        {
            "name": "a",
            "iscsi": {
                "targetPortal": "10.0.0.1:3260",
                "iqn": "iqn.2001-04.com.example:storage.disk1",
                "lun": 0,
                "chapAuthSession": True,
                "secretRef": {"name": "x"},
            },
        },
        {"name": "b", "fc": {"targetWWNs": ["500a0982991b8dc5"], "lun": 2}},
        {"name": "c", "cephfs": {"monitors": ["10.0.0.1:6789"], "secretRef": {"name": "x"}}},
        {"name": "d", "rbd": {"monitors": ["10.0.0.1:6789"], "image": "x"}},
        {"name": "e", "glusterfs": {"endpoints": "x", "path": "y"}},
        {"name": "f", "azureDisk": {"diskName": "x", "diskURI": "https://x.blob.core.windows.net/y/z.vhd", "cachingMode": "ReadOnly"}},
        {"name": "g", "azureFile": {"secretName": "x", "shareName": "y"}},
        {"name": "h", "flexVolume": {"driver": "x/y", "options": {"a": "b"}}},
        {"name": "i", "gcePersistentDisk": {"pdName": "x", "partition": 1}},
        {"name": "j", "awsElasticBlockStore": {"volumeID": "x"}},
        {"name": "k", "quobyte": {"registry": "a:1,b:2", "volume": "x"}},
        {"name": "l", "storageos": {"volumeName": "x", "secretRef": {"name": "y"}}},
        {"name": "m", "scaleIO": {"gateway": "x", "system": "y", "secretRef": {"name": "z"}, "volumeName": "v"}},
        {"name": "n", "flocker": {"datasetName": "x"}},
        {"name": "o", "cinder": {"volumeID": "x"}},
        {"name": "p", "portworxVolume": {"volumeID": "x"}},
        {"name": "q", "vsphereVolume": {"volumePath": "x"}},
        {"name": "r", "photonPersistentDisk": {"pdID": "x"}},
        {"name": "s", "gitRepo": {"repository": "https://example.com/x.git", "directory": "."}},
    ]
)

_SCHEDULING = _pod(
    nodeSelector={"kubernetes.io/os": "linux"},
    tolerations=[
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "x", "operator": "Equal", "value": "y", "effect": "NoExecute", "tolerationSeconds": 60},
        {"operator": "Exists"},
    ],
    affinity={
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_NODES]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": _NODES}],
        },
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_TERM]},
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": _TERM}]},
    },
    topologySpreadConstraints=[
        {
            "maxSkew": 1,
            "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "minDomains": 2,
            "labelSelector": _SELECTOR,
            "nodeAffinityPolicy": "Honor",
            "nodeTaintsPolicy": "Ignore",
            "matchLabelKeys": ["k"],
        },
        {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
    ],
    priorityClassName="high",
    preemptionPolicy="Never",
    schedulerName="default-scheduler",
    runtimeClassName="gvisor",
    schedulingGates=[{"name": "example.com/wait"}],
    readinessGates=[{"conditionType": "example.com/ready"}],
    overhead={"cpu": "10m"},
    nodeName="node-1",
)

_NETWORK = _pod(
    hostNetwork=True,
    hostname="host",
    subdomain="sub",
    dnsPolicy="None",
    dnsConfig={"nameservers": ["10.0.0.10"], "searches": ["svc.cluster.local", "."], "options": [{"name": "ndots", "value": "2"}]},
    hostAliases=[{"ip": "10.0.0.1", "hostnames": ["a.example.com"]}],
    enableServiceLinks=False,
    setHostnameAsFQDN=False,
    serviceAccountName="runner",
    imagePullSecrets=[{"name": "registry"}],
    activeDeadlineSeconds=60,
    os={"name": "linux"},
    securityContext={
        "fsGroup": 1000,
        "runAsGroup": 1000,
        "supplementalGroups": [1, 2],
        "supplementalGroupsPolicy": "Merge",
        "fsGroupChangePolicy": "OnRootMismatch",
        "seLinuxChangePolicy": "Recursive",
        "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "0"}],
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    initContainers=[
        {"name": "prepare", "image": "busybox", "command": ["true"], "resources": {"requests": {"cpu": 1}}},
        {
            "name": "proxy",
            "image": "busybox",
            "restartPolicy": "Always",
            "startupProbe": {"exec": {"command": ["true"]}},
            "lifecycle": {"preStop": _HTTP},
        },
    ],
)

_WHOLE = _pod(
    hostUsers=False,
    shareProcessNamespace=True,
    hostnameOverride="other",
    resources={"limits": {"cpu": 4, "memory": "1Gi", "hugepages-2Mi": "4Mi"}, "requests": {"cpu": "3"}},
    resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "gpus"}, {"name": "nic", "resourceClaimName": "nic-1"}],
    containers=[
        {
            "name": "main",
            "image": "busybox",
            "resources": {"claims": [{"name": "gpu", "request": "r"}, {"name": "nic"}], "requests": {"cpu": 1}},
        },
        {
            "name": "second",
            "image": "busybox",
            "resources": {"limits": {"cpu": 1, "hugepages-2Mi": "2Mi"}},
            "env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "A", "path": "a/env", "volumeName": "v"}}}],
            "securityContext": {"procMount": "Unmasked", "privileged": False},
        },
    ],
    volumes=[{"name": "v", "emptyDir": {}}],
)

_INDEXED = job(
    "indexed",
    completionMode="Indexed",
    completions=5,
    parallelism=2,
    backoffLimitPerIndex=1,
    maxFailedIndexes=2,
    activeDeadlineSeconds=100,
    ttlSecondsAfterFinished=60,
    suspend=True,
    podReplacementPolicy="Failed",
    successPolicy={"rules": [{"succeededIndexes": "0-2,4", "succeededCount": 2}, {"succeededCount": 1}]},
    podFailurePolicy={
        "rules": [
            {"action": "FailIndex", "onExitCodes": {"containerName": "main", "operator": "In", "values": [1, 2, 42]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0, 3]}},
        ]
    },
)

_MANUAL: Tree = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {
        "name": "manual",
        "labels": {"app": "x", "example.com/tier": ""},
        "annotations": {"example.com/Note": "anything at all\n", "note": ""},
        "finalizers": ["example.com/keep"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1", "controller": True}],
    },
    "spec": {
        "manualSelector": True,
        "managedBy": "example.com/controller",
        "selector": _SELECTOR,
        "template": {
            "metadata": {"labels": {"app": "x", "tier": "a"}, "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}},
            "spec": {"restartPolicy": "OnFailure", "containers": [{"name": "main", "image": "busybox"}]},
        },
    },
}

_GENERATED: Tree = {**job("x", labels={"a": "b"}), "metadata": {"generateName": "made-"}}

_WINDOWS = _pod(
    os={"name": "windows"},
    hostNetwork=True,
    securityContext={"windowsOptions": {"gmsaCredentialSpecName": "x", "runAsUserName": "DOMAIN\\user", "hostProcess": True}},
)

GOOD: tuple[Tree, ...] = (
    job("plain"),
    _CONTAINER,
    _VOLUMES,
    _OLD_VOLUMES,
    _SCHEDULING,
    _NETWORK,
    _WHOLE,
    _INDEXED,
    _MANUAL,
    _GENERATED,
    _WINDOWS,
)
