"""Containers: what they run, listen on, read from their surroundings, and how they are probed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from jobyard.files.rules import environment, quantities
from jobyard.files.rules.checks import Fields, Number, Text, Texts, judge, one_source, words
from jobyard.files.rules.forms import (
    BELOW,
    HEADER,
    NO_WAY_UP,
    PORT_NAME,
    goes_up,
    is_label,
    is_port_name,
)
from jobyard.files.rules.metadata import plainer
from jobyard.files.rules.part import Part
from jobyard.model.finding import did_you_mean

_PROBE_TIMES = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_PORT = Number(low=1, high=65535, required=True)

FIELDS: Fields = {
    "Container": {
        "imagePullPolicy": words("Always", "IfNotPresent", "Never"),
        "terminationMessagePolicy": words("File", "FallbackToLogsOnError"),
    },
    "ContainerPort": {
        "containerPort": _PORT,
        "hostPort": Number(high=65535),
        "protocol": words("TCP", "UDP", "SCTP"),
        "name": Text(form=PORT_NAME),
    },
    "VolumeMount": {
        "name": Text(required=True),
        "mountPath": Text(required=True),
        "subPath": Text(form=BELOW),
        "subPathExpr": Text(form=BELOW),
        "mountPropagation": words("None", "HostToContainer", "Bidirectional", even_empty=True),
        "recursiveReadOnly": words("Disabled", "IfPossible", "Enabled", even_empty=True),
    },
    "VolumeDevice": {"name": Text(required=True), "devicePath": Text(form=NO_WAY_UP, required=True)},
    "Probe": {**{name: Number() for name in _PROBE_TIMES}, "terminationGracePeriodSeconds": Number(low=1)},
    "ExecAction": {"command": Texts(required=True)},
    "HTTPGetAction": {"scheme": words("HTTP", "HTTPS")},
    "HTTPHeader": {"name": Text(form=HEADER, required=True)},
    "GRPCAction": {"port": _PORT},
    "ContainerResizePolicy": {
        "resourceName": words("cpu", "memory", required=True),
        "restartPolicy": words("NotRequired", "RestartContainer", required=True),
    },
    "ContainerRestartRule": {"action": words("Restart", "RestartAllContainers", required=True)},
    "ContainerRestartRuleOnExitCodes": {"operator": words("In", "NotIn", required=True)},
}


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a container stands in. `volumes`: the source of each, by name; as `claims`, None when not all can be judged."""

    volumes: dict[str, str] | None
    claims: Collection[str] | None
    pod_restarts: str | None
    grace: int
    host_network: bool
    host_users: bool
    is_init: bool = False


def check(container: Part, around: Surroundings) -> None:
    """What is wrong with a container beyond what its fields say of themselves."""
    _name_and_image(container)
    _ports(container, around)
    _mounts(container, around)
    _devices(container, around)
    for variable in container.parts("env"):
        environment.variable(variable, around.volumes)
    if own := container.part("resources"):
        quantities.resources(own, around.claims)
    _resizes(container, around)
    _restarts(container)
    _probes(container, around)
    security = container.part("securityContext")
    if security and around.host_users and security.text("procMount") == "Unmasked":
        security.forbidden("procMount", "Unmasked while the pod's hostUsers is not false", "add hostUsers: false, or remove it")


def _name_and_image(container: Part) -> None:
    name = container.text("name")
    if name == "":
        container.missing("name")
    elif name and not is_label(name):
        container.error(
            ("name",), f'container name "{name[:80]}"', "at most 63 lower-case letters, digits and -", plainer(name.replace(".", "-"))
        )
    if container.text("image") == "":
        what = f"container {name or ''} has no image".replace("  ", " ")
        container.error((), what, "an image", "the local cluster does not use it, Kubernetes needs it")


def _ports(container: Part, around: Surroundings) -> None:
    names: set[str] = set()
    for port in container.parts("ports"):
        name = port.text("name")
        if name and name in names:
            port.twice(("name",), name)
        names.add(name or "")
        host, own = port.number("hostPort"), port.number("containerPort")
        if around.host_network and not around.is_init and host and own is not None and host != own:
            port.error(("hostPort",), f"hostPort {host} of containerPort {own} on the host's network", "the same number")


def host_ports(containers: list[Part]) -> None:
    """A port of the host can be had once."""
    seen: set[tuple[str, str, int]] = set()
    for container in containers:
        for port in container.parts("ports"):
            number, protocol, address = port.number("hostPort"), port.text("protocol"), port.text("hostIP")
            if not number or protocol is None or address is None:
                continue
            key = (protocol or "TCP", address, number)
            if key in seen:
                port.twice(("hostPort",), number)
            seen.add(key)


def _mounts(container: Part, around: Surroundings) -> None:
    paths: set[str] = set()
    security = container.part("securityContext")
    for mount in container.parts("volumeMounts"):
        name, path = mount.text("name"), mount.text("mountPath")
        if name and around.volumes is not None and name not in around.volumes:
            hint = did_you_mean(name, around.volumes) or "add the volume to spec.template.spec.volumes"
            mount.error(("name",), f'no volume is named "{name}"', "", hint)
        if path and path in paths:
            mount.twice(("mountPath",), path)
        paths.add(path or "")
        if mount.text("subPath") and mount.text("subPathExpr"):
            mount.forbidden("subPathExpr", "together with subPath", "keep one of the two")
        propagation = mount.text("mountPropagation")
        if propagation == "Bidirectional" and not (security and security.is_true("privileged")):
            mount.error(("mountPropagation",), "mountPropagation Bidirectional in a container that is not privileged")
        if mount.text("recursiveReadOnly") in ("Enabled", "IfPossible"):
            if not mount.is_true("readOnly"):
                mount.forbidden("recursiveReadOnly", "of a mount that is not readOnly", "add readOnly: true")
            if propagation not in ("", None, "None"):
                mount.forbidden("recursiveReadOnly", f"together with mountPropagation {propagation}")


def _devices(container: Part, around: Surroundings) -> None:
    devices = container.parts("volumeDevices")
    if devices and not around.host_users:
        container.forbidden("volumeDevices", "while the pod's hostUsers is false")
    mounts = {(each.text("name"), each.text("mountPath")) for each in container.parts("volumeMounts")}
    names, paths = {name for name, _ in mounts}, {path for _, path in mounts}
    for device in devices:
        name, path = device.text("name"), device.text("devicePath")
        if name and around.volumes is not None and name not in around.volumes:
            hint = did_you_mean(name, around.volumes) or "add the volume to spec.template.spec.volumes"
            device.error(("name",), f'no volume is named "{name}"', "", hint)
        elif name and around.volumes is not None and around.volumes[name] not in ("persistentVolumeClaim", "ephemeral"):
            device.error(("name",), f'"{name}" as a device, but it is not a claim', "a volume of persistentVolumeClaim or ephemeral")
        if name and name in names:
            device.twice(("name",), name)
        if path and path in paths and not goes_up(path):
            device.twice(("devicePath",), path)
        names.add(name)
        paths.add(path)


def _resizes(container: Part, around: Surroundings) -> None:
    seen: set[str] = set()
    for policy in container.parts("resizePolicy"):
        name, restarts = policy.text("resourceName"), policy.text("restartPolicy")
        if name and name in seen:
            policy.twice(("resourceName",), name)
        seen.add(name or "")
        is_plain_init = around.is_init and container.text("restartPolicy") != "Always"
        if restarts == "RestartContainer" and (around.pod_restarts == "Never" or is_plain_init):
            why = "in an init container" if is_plain_init else "in a pod whose restartPolicy is Never"
            policy.error(("restartPolicy",), f"restartPolicy RestartContainer {why}", "NotRequired")


def _restarts(container: Part) -> None:
    judge(container, "restartPolicy", words("Always", "Never", "OnFailure", even_empty=True))
    rules = container.parts("restartPolicyRules")
    if rules and not container.has("restartPolicy"):
        container.missing("restartPolicy", remedy="rules need it")
    if len(rules) > 20:
        container.error(("restartPolicyRules",), f"{len(rules)} rules", "at most 20")
    for rule in rules:
        codes = rule.part("exitCodes")
        if not rule.has("exitCodes"):
            rule.missing("exitCodes")
        elif codes and len(codes.list("values")) > 255:
            codes.error(("values",), f"{len(codes.list('values'))} values", "at most 255")


def _probes(container: Part, around: Surroundings) -> None:
    lifecycle = container.part("lifecycle")
    if around.is_init and container.text("restartPolicy") not in ("Always", None):
        for name in ("livenessProbe", "readinessProbe", "startupProbe"):
            if container.has(name):
                container.forbidden(name, "in an init container", "remove it, or add restartPolicy: Always")
        if lifecycle and (container.has("lifecycle") and set(lifecycle.value) != {"stopSignal"}):
            container.forbidden("lifecycle", "in an init container", "remove it, or add restartPolicy: Always")
        return
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.part(name)
        if probe is None:
            continue
        one_source(probe, ("exec", "httpGet", "tcpSocket", "grpc"))
        if name != "readinessProbe" and probe.number("successThreshold") not in (None, 0, 1):
            probe.wrong(("successThreshold",), probe.value["successThreshold"], "1")
        if name == "readinessProbe" and probe.has("terminationGracePeriodSeconds"):
            probe.forbidden("terminationGracePeriodSeconds", "of a readiness probe")
    for name in ("postStart", "preStop"):
        handler = lifecycle.part(name) if lifecycle else None
        if handler is None:
            continue
        one_source(handler, ("exec", "httpGet", "tcpSocket", "sleep"))
        sleep = handler.part("sleep")
        seconds = sleep.number("seconds") or 0 if sleep else 0
        if sleep and not 0 <= seconds <= around.grace:
            sleep.error(("seconds",), f"{sleep.spell('seconds')} is {seconds}", f"0 to {around.grace}, terminationGracePeriodSeconds")


def _port_of(action: Part) -> None:
    port = action.value.get("port")
    text = action.judged(port) if isinstance(port, str) else None
    if port is None:
        action.missing("port")
    elif isinstance(port, int) and not isinstance(port, bool) and not 1 <= port <= 65535:
        action.error(("port",), f"{action.spell('port')} is {port}", "1 to 65535, or the name of a port")
    elif text is not None and (not text or not is_port_name(text)):
        action.wrong(("port",), text, "1 to 65535, or the name of a port", "a number has no quotes" if text.isdigit() else "")


RULES = {"HTTPGetAction": _port_of, "TCPSocketAction": _port_of}
