"""What a container reads from its surroundings: variables, and the fields and amounts that files may hold, too."""

from __future__ import annotations

from jobyard.files.rules.checks import Fields, Text, one_source, words
from jobyard.files.rules.forms import CONFIG_KEY, LABEL, NO_WAY_UP, PREFIX, SUBDOMAIN, VARIABLE, is_key
from jobyard.files.rules.part import Part
from jobyard.model.finding import did_you_mean
from jobyard.schema.values import quantity

FIELDS: Fields = {
    "EnvVar": {"name": Text(form=VARIABLE, required=True)},
    "EnvFromSource": {"prefix": Text(form=VARIABLE)},
    "ConfigMapEnvSource": {"name": Text(form=PREFIX, required=True)},
    "SecretEnvSource": {"name": Text(form=PREFIX, required=True)},
    "ConfigMapKeySelector": {"name": Text(form=SUBDOMAIN, required=True), "key": Text(form=CONFIG_KEY, required=True)},
    "SecretKeySelector": {"name": Text(form=SUBDOMAIN, required=True), "key": Text(form=CONFIG_KEY, required=True)},
    "FileKeySelector": {
        "key": Text(form=VARIABLE, required=True),
        "path": Text(form=NO_WAY_UP, required=True),
        "volumeName": Text(form=LABEL, required=True),
    },
    "ObjectFieldSelector": {"apiVersion": words("v1"), "fieldPath": Text(required=True)},
    "ResourceFieldSelector": {"resource": Text(required=True)},
}

_FIELDS_OF_PODS = ("metadata.name", "metadata.namespace", "metadata.uid")
_FIELDS_FOR_VARIABLES = (
    *_FIELDS_OF_PODS,
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_FIELDS_FOR_FILES = (*_FIELDS_OF_PODS, "metadata.labels", "metadata.annotations")
_RESOURCES = tuple(f"{field}.{name}" for field in ("limits", "requests") for name in ("cpu", "memory", "ephemeral-storage"))
_UNITS = (1, *(1000**n for n in range(1, 7)), *(1024**n for n in range(1, 7)))
_VALUE_FROM = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def variable(variable: Part, volumes: dict[str, str] | None) -> None:
    """A variable that has its value from elsewhere."""
    source = variable.part("valueFrom")
    if source is None:
        return
    kind = one_source(source, _VALUE_FROM)
    if kind and variable.text("value"):
        variable.forbidden("value", "together with valueFrom", "keep one of the two")
    if field := source.part("fieldRef"):
        field_of_pod(field, _FIELDS_FOR_VARIABLES)
    if resource := source.part("resourceFieldRef"):
        resource_of_container(resource)
    if file := source.part("fileKeyRef"):
        volume = file.text("volumeName")
        if volume and volumes is not None and volumes.get(volume) != "emptyDir":
            file.error(("volumeName",), f'no volume of emptyDir is named "{volume}"', "", "add it to spec.template.spec.volumes")


def field_of_pod(field: Part, allowed: tuple[str, ...]) -> None:
    """A field of the pod, for a variable or a file."""
    path = field.text("fieldPath")
    if not path:
        return
    name, opened, rest = path.partition("['")
    if name and opened and rest.endswith("']"):
        key = rest.removesuffix("']")
        if name == "metadata.annotations":
            key = key.lower()
        if name not in ("metadata.annotations", "metadata.labels"):
            field.wrong(("fieldPath",), path, "a key of metadata.labels or metadata.annotations")
        elif not is_key(key):
            field.wrong(("fieldPath",), path, "the key of a label or an annotation")
    elif path not in allowed and not (path == "spec.host" and "spec.nodeName" in allowed):
        field.wrong(("fieldPath",), path, f"one of {', '.join(allowed)}", did_you_mean(path, allowed))


def field_of_file(field: Part) -> None:
    field_of_pod(field, _FIELDS_FOR_FILES)


def resource_of_container(resource: Part) -> None:
    """An amount that a container may have, for a variable or a file."""
    name = resource.text("resource")
    is_huge = bool(name) and str(name).startswith(("limits.hugepages-", "requests.hugepages-"))
    if name and not is_huge and name not in _RESOURCES:
        resource.wrong(("resource",), name, f"one of {', '.join(_RESOURCES)}", did_you_mean(name, _RESOURCES))
    given = resource.value.get("divisor")
    divisor = quantity(resource.judged(given) if isinstance(given, str) else given)
    if not divisor or not name:
        return
    if name.endswith(".cpu"):
        if divisor * 1000 not in (1, 1000):
            resource.wrong(("divisor",), given, "1 or 1m")
    elif (is_huge or name in _RESOURCES) and divisor not in _UNITS:
        resource.wrong(("divisor",), given, "1, or 1 and a unit such as 1Mi")


def _sources_of(source: Part) -> None:
    one_source(source, ("configMapRef", "secretRef"))


RULES = {"EnvFromSource": _sources_of}
