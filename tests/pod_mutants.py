"""Pods that keep to a level of the Pod Security Standards, or almost: each is known by its seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.good_jobs import GOOD
from tests.manifests import Tree
from tests.mutants import mutant as mutated_job

_ADMITTED_ELSEWHERE = ("serviceAccountName", "serviceAccount", "priorityClassName", "runtimeClassName")
"""What other admission plugins look up: not there, so nothing would be heard of Pod Security."""
_PROFILES = ("RuntimeDefault", "Localhost", "Unconfined")
_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP"),
    *("SETUID", "SYS_CHROOT", "NET_RAW", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "ALL", "CAP_CHOWN", "chown", "all", "", "BPF"),
)
_SYSCTLS = (
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem"),
    *("kernel.msgmax", "net/ipv4/tcp_rmem", "net.core.somaxconn", "net.ipv4.tcp_mem", "net.ipv4.conf.all.forwarding"),
)
_APPARMOR = "container.apparmor.security.beta.kubernetes.io"
_VOLUMES = [
    {key: value for key, value in volume.items() if key != "name"}
    for good in GOOD
    for volume in good["spec"]["template"]["spec"].get("volumes", [])
]

CONTEXT: Tree = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONFINED: Tree = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def pod(*containers: Tree, **spec: Any) -> Tree:
    """A pod that keeps to `restricted`, but for what is given."""
    main = {"name": "main", "image": "busybox", "securityContext": CONFINED}
    spec = {"securityContext": CONTEXT, "containers": [main, *containers], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": copy.deepcopy(spec)}


_SIDECAR = {"name": "proxy", "image": "busybox", "restartPolicy": "Always", "securityContext": CONFINED}
_OWN = {**CONFINED, **CONTEXT}

RESTRICTED: tuple[Tree, ...] = (
    pod(),
    pod({"name": "second", "image": "busybox", "securityContext": CONFINED}, initContainers=[_SIDECAR]),
    pod(containers=[{"name": "main", "image": "busybox", "securityContext": _OWN}], securityContext=None),
    pod(hostUsers=False, securityContext={"seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 0}),
    pod(containers=[{"name": "main", "image": "busybox"}], os={"name": "windows"}, securityContext={"runAsNonRoot": True}),
    pod(
        volumes=[
            {"name": "a"},
            {"name": "b", "emptyDir": {}},
            {"name": "c", "projected": {"sources": []}},
            {"name": "d", "image": {"reference": "example.com/models:1"}},
            {"name": "e", "hostPath": None, "secret": {"secretName": "x"}},
        ]
    ),
)
BASELINE: tuple[Tree, ...] = (
    pod(containers=[{"name": "main", "image": "busybox"}], securityContext=None),
    pod(
        containers=[{"name": "main", "image": "busybox", "securityContext": {"procMount": "Unmasked", "capabilities": {"add": ["CHOWN"]}}}],
        hostUsers=False,
        volumes=[{"name": "a", "nfs": {"server": "nfs.local", "path": "/x"}}],
    ),
)
GOOD_PODS = (*RESTRICTED, *BASELINE)
"""Each allowed by the level, and those of `RESTRICTED` by both."""


def mutants(seeds: range) -> Iterator[tuple[int, Tree]]:
    """A mutant a seed."""
    for seed in seeds:
        yield seed, mutant(seed)


def mutant(seed: int) -> Tree:
    """The mutant of a seed: a good pod with one to four things of its security changed; each fourth the pod of a mutated Job."""
    chance = random.Random(seed)
    if chance.random() < 0.25:
        return _of_job(mutated_job(seed))
    tree: Tree = copy.deepcopy(chance.choice(GOOD_PODS))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        chance.choice(_CHANGES)(tree, chance)
    return tree


def _of_job(tree: Any) -> Tree:
    for key in ("spec", "template"):
        tree = tree.get(key) if isinstance(tree, dict) else None
    template = tree if isinstance(tree, dict) else {}
    metadata, spec = template.get("metadata"), template.get("spec")
    if isinstance(spec, dict):
        spec = {key: value for key, value in spec.items() if key not in _ADMITTED_ELSEWHERE}
    named = {**metadata, "name": "pod"} if isinstance(metadata, dict) else {"name": "pod"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {key: each for key, each in named.items() if key != "namespace"}, "spec": spec}


def _spec(tree: Tree) -> Tree:
    spec: Tree = tree["spec"]
    return spec


def _container(tree: Tree, chance: random.Random) -> Tree:
    chosen: Tree = chance.choice([*_spec(tree)["containers"], *_spec(tree).get("initContainers", [])])
    return chosen


def _context(tree: Tree, chance: random.Random, *, of_container: bool | None = None) -> Tree:
    """A security context, made where there is none: the pod's or a container's."""
    of_container = chance.random() < 0.6 if of_container is None else of_container
    owner = _container(tree, chance) if of_container else _spec(tree)
    if owner.get("securityContext") is None:
        owner["securityContext"] = {}
    context: Tree = owner["securityContext"]
    return context


def _set(tree: Tree, key: str, chance: random.Random, *values: Any) -> None:
    """One of the values; now and then null, or nothing at all."""
    value = chance.choice((*values, *values, None))
    if value is None and chance.random() < 0.5:
        tree.pop(key, None)
    else:
        tree[key] = copy.deepcopy(value)


def _profile(chance: random.Random) -> Tree:
    kind = chance.choice(_PROFILES)
    return {"type": kind, **({"localhostProfile": "x"} if kind == "Localhost" else {})}


def _host(tree: Tree, chance: random.Random) -> None:
    _set(_spec(tree), chance.choice(("hostNetwork", "hostPID", "hostIPC")), chance, True, True, False)


def _users(tree: Tree, chance: random.Random) -> None:
    _set(_spec(tree), "hostUsers", chance, False, True)


def _system(tree: Tree, chance: random.Random) -> None:
    _set(_spec(tree), "os", chance, {"name": "windows"}, {"name": "linux"})


def _whole_context(tree: Tree, chance: random.Random) -> None:
    owner = chance.choice((_container(tree, chance), _spec(tree)))
    _set(owner, "securityContext", chance, {}, CONTEXT, CONFINED if owner is not _spec(tree) else {}, {"runAsNonRoot": True})


def _root(tree: Tree, chance: random.Random) -> None:
    _set(_context(tree, chance), "runAsNonRoot", chance, True, False)


def _user(tree: Tree, chance: random.Random) -> None:
    _set(_context(tree, chance), "runAsUser", chance, 0, 1, 1000)


def _seccomp(tree: Tree, chance: random.Random) -> None:
    _set(_context(tree, chance), "seccompProfile", chance, _profile(chance))


def _apparmor(tree: Tree, chance: random.Random) -> None:
    if chance.random() < 0.6:
        _set(_context(tree, chance), "appArmorProfile", chance, _profile(chance))
        return
    values = ("runtime/default", "unconfined", "localhost/x", "", "RuntimeDefault")
    annotations = tree["metadata"].setdefault("annotations", {})
    annotations[f"{_APPARMOR}/{_container(tree, chance)['name']}"] = chance.choice(values)


def _selinux(tree: Tree, chance: random.Random) -> None:
    types = ("container_t", "container_init_t", "container_kvm_t", "container_engine_t", "spc_t", "", None)
    options = {"type": chance.choice(types), "level": "s0"}
    for key in ("user", "role"):
        if chance.random() < 0.25:
            options[key] = chance.choice(("", "x"))
    _set(_context(tree, chance), "seLinuxOptions", chance, options)


def _windows(tree: Tree, chance: random.Random) -> None:
    of_container = chance.random() < 0.5
    _set(_context(tree, chance, of_container=of_container), "windowsOptions", chance, {"hostProcess": chance.choice((True, False))})
    if chance.random() < 0.5:
        _spec(tree)["hostNetwork"] = True


def _sysctls(tree: Tree, chance: random.Random) -> None:
    chosen = [{"name": name, "value": "1"} for name in chance.sample(_SYSCTLS, chance.choice((1, 1, 2)))]
    _set(_context(tree, chance, of_container=False), "sysctls", chance, chosen)


def _privileges(tree: Tree, chance: random.Random) -> None:
    key = chance.choice(("privileged", "allowPrivilegeEscalation"))
    context = _context(tree, chance, of_container=True)
    if key == "privileged" and chance.random() < 0.7:
        context.pop("allowPrivilegeEscalation", None)
    _set(context, key, chance, True, False)


def _capabilities(tree: Tree, chance: random.Random) -> None:
    added = chance.sample(_CAPABILITIES, chance.choice((0, 1, 1, 2)))
    if chance.random() < 0.3:
        added = ["NET_BIND_SERVICE"]
    wanted = {"add": added, "drop": chance.choice((["ALL"], ["ALL"], ["ALL", "KILL"], ["KILL"], [], None))}
    _set(_context(tree, chance, of_container=True), "capabilities", chance, wanted)


def _proc(tree: Tree, chance: random.Random) -> None:
    _set(_context(tree, chance, of_container=True), "procMount", chance, "Unmasked", "Default")
    if chance.random() < 0.7:
        _spec(tree)["hostUsers"] = False


def _ports(tree: Tree, chance: random.Random) -> None:
    _set(_container(tree, chance), "ports", chance, [{"containerPort": 80, "hostPort": chance.choice((0, 80, None))}])


def _action(chance: random.Random) -> Tree:
    host = chance.choice(({}, {"host": ""}, {"host": None}, {"host": "10.0.0.1"}, {"host": "example.com"}))
    return {chance.choice(("httpGet", "tcpSocket")): {"port": 80, **host}}


def _probe(tree: Tree, chance: random.Random) -> None:
    container = _container(tree, chance)
    if chance.random() < 0.5:
        _set(container, chance.choice(("livenessProbe", "readinessProbe", "startupProbe")), chance, _action(chance))
    else:
        _set(container, "lifecycle", chance, {chance.choice(("postStart", "preStop")): _action(chance)})


def _volume(tree: Tree, chance: random.Random) -> None:
    volumes = _spec(tree).setdefault("volumes", [])
    volumes.append({"name": f"v{len(volumes)}", **copy.deepcopy(chance.choice(_VOLUMES))})


def _unset(tree: Tree, chance: random.Random) -> None:
    """Something that made a pod good goes."""
    owner = chance.choice((_container(tree, chance), _spec(tree)))
    context = owner.get("securityContext")
    if context:
        context.pop(chance.choice(list(context)))


_CHANGES: tuple[Callable[[Tree, random.Random], None], ...] = (
    *(_host, _users, _system, _whole_context, _root, _user, _seccomp, _apparmor, _selinux, _windows, _sysctls, _privileges),
    *(_capabilities, _capabilities, _proc, _ports, _probe, _probe, _volume, _volume, _unset, _unset),
)


def makers(of: Tree) -> list[Tree]:
    """An object of each kind that is a pod, or that makes pods like this one."""
    labels = {"app": "x"}
    once = {"metadata": {"labels": labels}, "spec": {**of["spec"], "restartPolicy": "Never"}}
    always = {"metadata": {"labels": labels}, "spec": of["spec"]}
    apps = {"selector": {"matchLabels": labels}, "template": always}

    def made(api_version: str, kind: str, **more: Any) -> Tree:
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "made"}, **more}

    return [
        of,
        made("v1", "PodTemplate", template=always),
        made("v1", "ReplicationController", spec={"selector": labels, "template": always}),
        *(made("apps/v1", kind, spec=apps) for kind in ("DaemonSet", "Deployment", "ReplicaSet")),
        made("apps/v1", "StatefulSet", spec={**apps, "serviceName": "x"}),
        made("batch/v1", "Job", spec={"template": once}),
        made("batch/v1", "CronJob", spec={"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once}}}),
    ]
