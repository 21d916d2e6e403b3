"""What the API server refuses of pods: names that lead elsewhere, amounts and numbers out of range, what may not change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jobyard.local import checks
from jobyard.local.checks import LARGEST_32, invalid, is_label, is_subdomain, one_of, required, within
from jobyard.local.status import Invalid
from jobyard.schema.values import quantity

Tree = dict[str, Any]

_PATH_TYPES = ("", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", "CharDevice", "BlockDevice")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_TIMES = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_MUTABLE = ("activeDeadlineSeconds", "tolerations", "schedulingGates")
_UP = "must not contain '..'"


def spec(tree: Tree, path: str) -> Iterator[Invalid]:
    """All that is wrong with the spec of a pod."""
    yield from required(tree, "containers", path)
    yield from one_of(tree, "restartPolicy", path, ("Always", "OnFailure", "Never"))
    yield from one_of(tree, "dnsPolicy", path, ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"))
    yield from one_of(tree, "preemptionPolicy", path, ("PreemptLowerPriority", "Never"))
    yield from within(tree, "activeDeadlineSeconds", path, 1, LARGEST_32)
    for name in ("hostname", "subdomain"):
        if (said := tree.get(name)) and not is_label(said):
            yield invalid(f"{path}.{name}", said, checks.LABEL_WORDS)
    for name in ("nodeName", "serviceAccountName", "priorityClassName", "runtimeClassName"):
        if (said := tree.get(name)) and not is_subdomain(said):
            yield invalid(f"{path}.{name}", said, checks.SUBDOMAIN_WORDS)
    if tree.get("ephemeralContainers"):
        yield Invalid(f"{path}.ephemeralContainers", "FieldValueForbidden", "cannot be set on create")
    yield from checks.labels(tree.get("nodeSelector"), f"{path}.nodeSelector")
    yield from _security(tree.get("securityContext") or {}, f"{path}.securityContext")
    yield from _amounts((tree.get("resources") or {}), f"{path}.resources")
    volumes: set[str] = set()
    for index, volume in enumerate(tree.get("volumes") or []):
        yield from _volume(volume, f"{path}.volumes[{index}]", volumes)
    names: set[str] = set()
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(tree.get(kind) or []):
            yield from _container(container, f"{path}.{kind}[{index}]", names, volumes)


# --- volumes ---


def _volume(volume: Tree, path: str, names: set[str]) -> Iterator[Invalid]:
    yield from _name(volume["name"], f"{path}.name", names)
    sources = [key for key in volume if key != "name"]
    for other in sources[1:]:
        yield Invalid(f"{path}.{other}", "FieldValueForbidden", "may not specify more than 1 volume type")
    for kind in sources[:1]:
        yield from _source(kind, volume[kind], f"{path}.{kind}")


def _source(kind: str, source: Tree, path: str) -> Iterator[Invalid]:
    match kind:
        case "hostPath":
            yield from required(source, "path", path)
            yield from one_of(source, "type", path, _PATH_TYPES)
            if ".." in source["path"].split("/"):
                yield invalid(f"{path}.path", source["path"], _UP)
        case "emptyDir":
            if source.get("sizeLimit") is not None and (quantity(source["sizeLimit"]) or 0) < 0:
                yield invalid(f"{path}.sizeLimit", source["sizeLimit"], "must be greater than or equal to 0")
        case "secret":
            yield from required(source, "secretName", path)
            yield from _files(source, path)
        case "configMap":
            yield from required(source, "name", path)
            yield from _files(source, path)
        case "downwardAPI":
            yield from _files(source, path)
        case "projected":
            yield from within(source, "defaultMode", path, 0, 0o777)
            for index, each in enumerate(source.get("sources") or []):
                here = f"{path}.sources[{index}]"
                for inner in ("secret", "configMap", "downwardAPI"):
                    if each.get(inner) is not None:
                        if inner != "downwardAPI":
                            yield from required(each[inner], "name", f"{here}.{inner}")
                        yield from _files(each[inner], f"{here}.{inner}")
                if each.get("serviceAccountToken") is not None:
                    yield from _file_path(each["serviceAccountToken"], f"{here}.serviceAccountToken")


def _files(source: Tree, path: str) -> Iterator[Invalid]:
    """What is to be a file of a volume: nothing outside of it, with a mode that is one."""
    yield from within(source, "defaultMode", path, 0, 0o777)
    for index, item in enumerate(source.get("items") or []):
        here = f"{path}.items[{index}]"
        if "key" in item:
            yield from required(item, "key", here)
        yield from _file_path(item, here)
        yield from within(item, "mode", here, 0, 0o777)


def _file_path(item: Tree, path: str) -> Iterator[Invalid]:
    said = item["path"]
    yield from required(item, "path", path)
    if said.startswith("/"):
        yield invalid(f"{path}.path", said, "must be a relative path")
    elif ".." in said.split("/") or said.startswith(".."):
        yield invalid(f"{path}.path", said, _UP)


# --- containers ---


def _container(container: Tree, path: str, names: set[str], volumes: set[str]) -> Iterator[Invalid]:
    yield from _name(container["name"], f"{path}.name", names)
    yield from required(container, "image", path)
    yield from one_of(container, "imagePullPolicy", path, ("Always", "IfNotPresent", "Never"))
    yield from one_of(container, "terminationMessagePolicy", path, ("File", "FallbackToLogsOnError"))
    yield from _environment(container, path)
    yield from _mounts(container, path, volumes)
    yield from _security(container.get("securityContext") or {}, f"{path}.securityContext")
    yield from _amounts(container.get("resources") or {}, f"{path}.resources")
    for index, port in enumerate(container.get("ports") or []):
        yield from within(port, "containerPort", f"{path}.ports[{index}]", 1, 65535)
        yield from within(port, "hostPort", f"{path}.ports[{index}]", 0, 65535)
    for name in _PROBES:
        for number in _PROBE_TIMES:
            yield from within(container.get(name) or {}, number, f"{path}.{name}")


def _name(name: str, field: str, names: set[str]) -> Iterator[Invalid]:
    """A name that is a label, and its own."""
    if not name:
        yield Invalid(field, "FieldValueRequired", "")
    elif not is_label(name):
        yield invalid(field, name, checks.LABEL_WORDS)
    elif name in names:
        yield Invalid(field, "FieldValueDuplicate", f'"{name}"')
    names.add(name)


def _environment(container: Tree, path: str) -> Iterator[Invalid]:
    for index, entry in enumerate(container.get("env") or []):
        here, source = f"{path}.env[{index}]", entry.get("valueFrom")
        yield from required(entry, "name", here)
        if entry["name"] and not checks.VARIABLE.fullmatch(entry["name"]):
            yield invalid(
                f"{here}.name",
                entry["name"],
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            )
        if source is None:
            continue
        if entry.get("value"):
            yield Invalid(f"{here}.valueFrom", "FieldValueInvalid", '"": may not be specified when `value` is not empty')
        kinds = [key for key in source if source[key] is not None]
        if len(kinds) != 1:
            yield invalid(
                f"{here}.valueFrom", "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            )
        for kind in ("configMapKeyRef", "secretKeyRef"):
            if kind in kinds:
                yield from required(source[kind], "name", f"{here}.valueFrom.{kind}")
                yield from required(source[kind], "key", f"{here}.valueFrom.{kind}")
        if "fieldRef" in kinds:
            yield from required(source["fieldRef"], "fieldPath", f"{here}.valueFrom.fieldRef")
        if "resourceFieldRef" in kinds:
            yield from required(source["resourceFieldRef"], "resource", f"{here}.valueFrom.resourceFieldRef")
    for index, source in enumerate(container.get("envFrom") or []):
        here, prefix = f"{path}.envFrom[{index}]", source.get("prefix")
        if prefix and not checks.VARIABLE.fullmatch(prefix):
            yield invalid(f"{here}.prefix", prefix, "must consist only of printable ASCII characters other than '='")
        for kind in ("configMapRef", "secretRef"):
            if source.get(kind) is not None:
                yield from required(source[kind], "name", f"{here}.{kind}")


def _mounts(container: Tree, path: str, volumes: set[str]) -> Iterator[Invalid]:
    places: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or []):
        here, place = f"{path}.volumeMounts[{index}]", mount["mountPath"]
        if mount["name"] not in volumes:
            yield Invalid(f"{here}.name", "FieldValueNotFound", f'"{mount["name"][:300]}"')
        yield from required(mount, "mountPath", here)
        if place in places:
            yield invalid(f"{here}.mountPath", place, "must be unique")
        places.add(place)
        if mount.get("subPath") and mount.get("subPathExpr"):
            yield invalid(f"{here}.subPathExpr", mount["subPathExpr"], "subPathExpr and subPath are mutually exclusive")
        for key in ("subPath", "subPathExpr"):
            inside = mount.get(key) or ""
            if inside.startswith("/"):
                yield invalid(f"{here}.{key}", inside, "must be a relative path")
            elif ".." in inside.split("/"):
                yield invalid(f"{here}.{key}", inside, _UP)


def _security(security: Tree, path: str) -> Iterator[Invalid]:
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        yield from within(security, name, path, 0, LARGEST_32)
    for index, group in enumerate(security.get("supplementalGroups") or []):
        yield from within({"group": group}, "group", f"{path}.supplementalGroups[{index}]", 0, LARGEST_32)


def _amounts(resources: Tree, path: str) -> Iterator[Invalid]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if not checks.is_qualified(name):
                yield invalid(f"{path}.{kind}", name, "a resource name must be a qualified name")
            if (quantity(amount) or 0) < 0:
                yield invalid(f"{path}.{kind}[{name[:80]}]", amount, "must be greater than or equal to 0")
    for name, amount in requests.items():
        if name in limits and (quantity(amount) or 0) > (quantity(limits[name]) or 0):
            yield invalid(f"{path}.requests", amount, f"must be less than or equal to {name[:80]} limit of {limits[name][:80]}")


# --- changes ---


def update(old: Tree, new: Tree) -> Iterator[Invalid]:
    """What of a pod may not change: nearly all."""
    if _fixed(old["spec"]) != _fixed(new["spec"]):
        yield Invalid(
            "spec",
            "FieldValueForbidden",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        )


def _fixed(tree: Tree) -> Tree:
    fixed = {key: value for key, value in tree.items() if key not in _MUTABLE}
    for kind in ("initContainers", "containers"):
        if kind in fixed:
            fixed[kind] = [{key: value for key, value in each.items() if key != "image"} for each in fixed[kind]]
    return fixed
