"""The level `baseline` of the Pod Security Standards: nothing that is known to lead to the node.

Every rule says what is allowed, never what is forbidden: a value that nobody foresaw, or that is only filled in later, breaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from jobyard.files.pod_security.pods import Breach, Pod
from jobyard.files.rules.checks import either
from jobyard.files.rules.part import Part

Rule = Callable[[Pod], Iterator[Breach]]

CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
PROFILES = ("RuntimeDefault", "Localhost")
_SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",  # since 1.27
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",  # since 1.29, as the keepalives
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",  # since 1.32, as the next
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
)
_SELINUX_TYPES = ("container_t", "container_init_t", "container_kvm_t", "container_engine_t")  # the last since 1.31
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
"""The annotation that came before the field appArmorProfile, with a container's name behind it; Kubernetes still reads it."""

_NOT_TRUE = (None, False)
_NOTHING = (None, "")


def only(part: Part | None, key: str, allowed: Collection[object], expected: str) -> Iterator[Breach]:
    """A breach where the value of `key` is none of those that are allowed."""
    if part is not None and part.value.get(key) not in allowed:
        yield Breach(part=part, key=(key,), expected=expected, missing=not part.has(key))


def host_namespaces(pod: Pod) -> Iterator[Breach]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        yield from only(pod.spec, key, _NOT_TRUE, "false")


def host_process(pod: Pod) -> Iterator[Breach]:
    """Of Windows."""
    for context in pod.contexts:
        yield from only(context.part("windowsOptions"), "hostProcess", _NOT_TRUE, "false")


def privileged(pod: Pod) -> Iterator[Breach]:
    for container in pod.containers:
        yield from only(container.part("securityContext"), "privileged", _NOT_TRUE, "false")


def capabilities(pod: Pod) -> Iterator[Breach]:
    yield from only_capabilities(pod, CAPABILITIES)


def only_capabilities(pod: Pod, allowed: tuple[str, ...]) -> Iterator[Breach]:
    """A breach for each capability that a container adds and that is not allowed."""
    for container in pod.containers:
        context = container.part("securityContext")
        added = context.part("capabilities") if context else None
        for index, name in enumerate(added.list("add") if added else ()):
            if added and name not in allowed:
                yield Breach(part=added, key=("add", index), expected=either(allowed))


def host_paths(pod: Pod) -> Iterator[Breach]:
    for volume in pod.spec.parts("volumes"):
        yield from only(volume, "hostPath", (None,), "a volume of another kind")


def host_ports(pod: Pod) -> Iterator[Breach]:
    for container in pod.containers:
        for port in container.parts("ports"):
            yield from only(port, "hostPort", (None, 0), "none")


def probed_hosts(pod: Pod) -> Iterator[Breach]:
    """The kubelet asks from the node, so it may ask nobody but the pod. Since 1.34."""
    for container in pod.containers:
        probes = [container.part(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")]
        lifecycle = container.part("lifecycle")
        hooks = [lifecycle.part(key) for key in ("postStart", "preStop")] if lifecycle else []
        for each in (*probes, *hooks):
            for key in ("httpGet", "tcpSocket"):
                yield from only(each.part(key) if each else None, "host", _NOTHING, "none: the pod itself")


def apparmor(pod: Pod) -> Iterator[Breach]:
    for context in pod.contexts:
        yield from only(context.part("appArmorProfile"), "type", PROFILES, either(PROFILES))
    annotations = pod.metadata.part("annotations") if pod.metadata else None
    for key, value in annotations.value.items() if annotations else ():
        is_allowed = value in (None, "", "runtime/default") or (isinstance(value, str) and value.startswith("localhost/"))
        if annotations and key.startswith(_APPARMOR) and not is_allowed:
            yield Breach(part=annotations, key=(key,), expected="runtime/default or localhost/NAME")


def selinux(pod: Pod) -> Iterator[Breach]:
    for context in pod.contexts:
        options = context.part("seLinuxOptions")
        yield from only(options, "type", (*_NOTHING, *_SELINUX_TYPES), either(_SELINUX_TYPES))
        for key in ("user", "role"):
            yield from only(options, key, _NOTHING, "none")


def proc_mount(pod: Pod) -> Iterator[Breach]:
    """A pod with a user namespace may see more of /proc. Since 1.35."""
    if not pod.has_own_users:
        yield from masked_proc(pod)


def masked_proc(pod: Pod) -> Iterator[Breach]:
    """A breach for each container that sees /proc unmasked."""
    for container in pod.containers:
        yield from only(container.part("securityContext"), "procMount", (None, "Default"), "Default")


def seccomp(pod: Pod) -> Iterator[Breach]:
    for context in pod.contexts:
        yield from only(context.part("seccompProfile"), "type", PROFILES, either(PROFILES))


def sysctls(pod: Pod) -> Iterator[Breach]:
    context = pod.spec.part("securityContext")
    for sysctl in context.parts("sysctls") if context else ():
        yield from only(sysctl, "name", _SYSCTLS, f"one of {', '.join(_SYSCTLS)}")


RULES: tuple[Rule, ...] = (
    host_namespaces,
    host_process,
    privileged,
    capabilities,
    host_paths,
    host_ports,
    probed_hosts,
    apparmor,
    selinux,
    proc_mount,
    seccomp,
    sysctls,
)
