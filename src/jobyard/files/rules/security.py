"""Who pods run as, and what confines them."""

from __future__ import annotations

import re

from jobyard.files.rules.checks import LARGEST, Fields, Number, Text, words
from jobyard.files.rules.forms import SUBDOMAIN, SYSCTL, is_below, size
from jobyard.files.rules.part import Part

_ID = Number(high=LARGEST)
_PROFILES = words("Localhost", "RuntimeDefault", "Unconfined", required=True)

FIELDS: Fields = {
    "PodSecurityContext": {
        "fsGroup": _ID,
        "runAsUser": _ID,
        "runAsGroup": _ID,
        "fsGroupChangePolicy": words("OnRootMismatch", "Always", even_empty=True),
        "supplementalGroupsPolicy": words("Merge", "Strict", even_empty=True),
        "seLinuxChangePolicy": words("Recursive", even_empty=True),
    },
    "SecurityContext": {"runAsUser": _ID, "runAsGroup": _ID, "procMount": words("Default", "Unmasked", even_empty=True)},
    "SeccompProfile": {"type": _PROFILES},
    "AppArmorProfile": {"type": _PROFILES},
    "Sysctl": {"name": Text(form=SYSCTL, required=True)},
    "WindowsSecurityContextOptions": {"gmsaCredentialSpecName": Text(form=SUBDOMAIN, even_empty=True)},
}

_IPC = frozenset(
    f"kernel.{name}" for name in ("sem", "shm", "shmall", "shmmax", "shmmni", "shm_rmid_forced", "msg", "msgmax", "msgmnb", "msgmni")
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r"""[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}""")
_DOMAIN = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*")
_NOT_IN_USERS = re.compile(r"""["/\\:;|=,+*?<>@\[\]]""")
_NOT_ON_WINDOWS = {
    "PodSecurityContext": (
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ),
    "SecurityContext": (
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ),
}


def _of_pod(security: Part) -> None:
    for index, group in enumerate(security.list("supplementalGroups")):
        if isinstance(group, int) and not 0 <= group <= LARGEST:
            security.error(("supplementalGroups", index), f"{security.spell('supplementalGroups', index)} is {group}", f"0 to {LARGEST}")
    seen: set[str] = set()
    for sysctl in security.parts("sysctls"):
        name = sysctl.text("name")
        if name and name in seen:
            sysctl.twice(("name",), name)
        seen.add(name or "")


def _of_container(security: Part) -> None:
    if security.value.get("allowPrivilegeEscalation") is not False:
        return
    capabilities = security.part("capabilities")
    if security.is_true("privileged"):
        security.error(
            ("allowPrivilegeEscalation",), "allowPrivilegeEscalation false in a privileged container", "", "remove one of the two"
        )
    if capabilities and "CAP_SYS_ADMIN" in capabilities.list("add"):
        security.error(
            ("allowPrivilegeEscalation",), "allowPrivilegeEscalation false together with CAP_SYS_ADMIN", "", "remove one of the two"
        )


def _seccomp(profile: Part) -> None:
    local = profile.text("localhostProfile")
    if profile.text("type") == "Localhost":
        if not profile.has("localhostProfile"):
            profile.missing("localhostProfile")
        elif local is not None and not is_below(local):
            profile.wrong(("localhostProfile",), local, "a relative path without ..")
    elif profile.text("type") is not None and profile.has("localhostProfile"):
        profile.forbidden("localhostProfile", "of a profile whose type is not Localhost")


def _apparmor(profile: Part) -> None:
    local = profile.text("localhostProfile")
    if profile.text("type") == "Localhost":
        if local == "":
            profile.missing("localhostProfile")
        elif local and (local != local.strip() or size(local) > 4095):
            profile.wrong(("localhostProfile",), local, "the name of a profile, at most 4,095 characters, without spaces around")
    elif profile.text("type") in ("RuntimeDefault", "Unconfined") and profile.has("localhostProfile"):
        profile.forbidden("localhostProfile", "of a profile whose type is not Localhost")


def _windows(options: Part) -> None:
    spec, name = options.text("gmsaCredentialSpec"), options.text("runAsUserName")
    if options.has("gmsaCredentialSpec") and spec is not None and not 0 < size(spec) <= 64 * 1024:
        options.error(("gmsaCredentialSpec",), f"gmsaCredentialSpec of {size(spec):,} bytes", "1 to 65,536")
    if options.has("runAsUserName") and name is not None and not _is_windows_user(name):
        options.wrong(("runAsUserName",), name, "a user of Windows, perhaps after a domain and a backslash")


def _is_windows_user(name: str) -> bool:
    parts = name.split("\\")
    domain, user = (parts[0] if len(parts) == 2 else None), parts[-1]
    if not name or _CONTROL.search(name) or len(parts) > 2:
        return False
    if domain is not None and (len(domain) >= 256 or not (_NETBIOS.fullmatch(domain) or _DOMAIN.fullmatch(domain))):
        return False
    return 0 < len(user) <= 104 and user.strip(". ") != "" and not _NOT_IN_USERS.search(user)


def of_host(pod: Part) -> None:
    """What a pod takes of its host."""
    security = pod.part("securityContext")
    if pod.is_true("hostPID") and pod.is_true("shareProcessNamespace"):
        pod.forbidden("shareProcessNamespace", "together with hostPID", "keep one of the two")
    if pod.value.get("hostUsers") is False:
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.is_true(key):
                pod.forbidden(key, "while hostUsers is false")
    for sysctl in security.parts("sysctls") if security else ():
        name = sysctl.text("name") or ""
        if pod.is_true("hostNetwork") and name.replace("/", ".").startswith("net."):
            sysctl.error(("name",), f"{name} on the host's network", "", "remove it, or hostNetwork")
        if pod.is_true("hostIPC") and (name.replace("/", ".") in _IPC or name.replace("/", ".").startswith("fs.mqueue.")):
            sysctl.error(("name",), f"{name} with the host's IPC", "", "remove it, or hostIPC")


def of_system(pod: Part, containers: list[Part]) -> None:
    """What does not go with the pod's operating system; and Windows' containers in the host's process."""
    system, security = pod.part("os"), pod.part("securityContext")
    contexts = [each for container in containers if (each := container.part("securityContext"))]
    name = system.text("name") if system else None
    if name == "linux":
        for each in [*([security] if security else []), *contexts]:
            if each.has("windowsOptions"):
                each.forbidden("windowsOptions", "of a pod for linux")
    if name == "windows":
        for key in ("hostUsers", "shareProcessNamespace"):
            if pod.has(key):
                pod.forbidden(key, "of a pod for windows")
        for key in ("hostPID", "hostIPC"):
            if pod.is_true(key):
                pod.forbidden(key, "of a pod for windows")
        if pod.has("resources"):
            pod.forbidden("resources", "of a pod for windows")
        for each, what in [*([(security, "PodSecurityContext")] if security else []), *((each, "SecurityContext") for each in contexts)]:
            for key in _NOT_ON_WINDOWS[what]:
                if each.has(key):
                    each.forbidden(key, "of a pod for windows")
            if each.list("sysctls"):
                each.forbidden("sysctls", "of a pod for windows")
    _host_process(pod, containers)


def _host_process(pod: Part, containers: list[Part]) -> None:
    def wanted(part: Part) -> object:
        context = part.part("securityContext")
        options = context.part("windowsOptions") if context else None
        return options.value.get("hostProcess") if options else None

    whole = wanted(pod)
    own = [wanted(container) for container in containers]
    for container, each in zip(containers, own, strict=True):
        if isinstance(whole, bool) and isinstance(each, bool) and whole != each:
            container.error(("securityContext", "windowsOptions", "hostProcess"), "a hostProcess that is not the pod's", "the same")
    count = sum(each is True or (each is None and whole is True) for each in own)
    if count and count != len(containers):
        pod.error((), "containers in the host's process together with others", "all of them, or none")
    if count and not pod.is_true("hostNetwork"):
        pod.error((), "containers in the host's process without hostNetwork", "hostNetwork: true")


RULES = {
    "PodSecurityContext": _of_pod,
    "SecurityContext": _of_container,
    "SeccompProfile": _seccomp,
    "AppArmorProfile": _apparmor,
    "WindowsSecurityContextOptions": _windows,
}
