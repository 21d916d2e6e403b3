"""Names, labels, annotations, owners: of the Job, of its pods, of the claims that volumes make."""

from __future__ import annotations

import re

from jobyard.files.rules.checks import Fields, Text, judge
from jobyard.files.rules.forms import DIGITS, KEY, LABEL, LABEL_VALUE, PREFIX, is_below, is_key, is_label_value, is_subdomain, size
from jobyard.files.rules.part import Part
from jobyard.model.template import placeholders
from jobyard.model.written import whole

NAME_EXPECTED = "at most 63 lower-case letters, digits, - and ., a letter or digit first and last"
_ANNOTATIONS_LIMIT = 256 * 1024
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
_SECCOMP = ("seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/")
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_COST = "controller.kubernetes.io/pod-deletion-cost"

FIELDS: Fields = {
    "LabelSelectorRequirement": {"key": Text(form=KEY, required=True)},
}


def of_job(job: Part, *, needs_name: bool) -> None:
    """The Job's own metadata. `needs_name`: nothing else gives it one."""
    metadata = job.part("metadata")
    if metadata is None:
        if needs_name:
            job.error((), "metadata.name is missing", "a name", "add metadata: {name: …}")
        return
    name, start = metadata.text("name"), metadata.text("generateName")
    if name == "" and start == "" and needs_name:
        metadata.error((), "metadata.name is missing", "a name", "add it")
    if name:
        _name(metadata, name, longest=253 if (spec := job.part("spec")) and spec.is_true("manualSelector") else 63)
    if (start and not PREFIX.fits(start)) or (start and name == "" and not is_subdomain(f"{start[:58]}12345")):
        metadata.wrong(("generateName",), start, PREFIX.expected)
    namespace = metadata.text("namespace")
    if namespace and not LABEL.fits(namespace):
        metadata.wrong(("namespace",), namespace, LABEL.expected)
    if whole(metadata.text("resourceVersion") or "", 2**64 - 1):
        metadata.forbidden("resourceVersion", "of what is to be created", "remove it: the cluster gives it")
    labels(metadata, "labels")
    annotated(metadata)
    _finalizers(metadata)
    controllers = [owner for owner in metadata.parts("ownerReferences") if owner.is_true("controller")]
    for owner in controllers[1:]:
        if owner.value == controllers[0].value:
            continue  # said twice is said once
        owner.error(("controller",), "a second owner with controller: true", "one")
    for owner in metadata.parts("ownerReferences"):
        for key in ("apiVersion", "kind", "name", "uid"):
            judge(owner, key, Text(required=True))
        version = owner.text("apiVersion") or ""
        if version.count("/") > 1 or version.endswith("/"):
            owner.wrong(("apiVersion",), version, "a group and a version such as batch/v1")
        if (owner.text("apiVersion"), owner.text("kind")) == ("v1", "Event"):
            owner.wrong(("kind",), "Event", "what may own a Job")


def _name(metadata: Part, name: str, longest: int) -> None:
    if len(name) > longest or not is_subdomain(name):
        told = f"{len(name)} characters" if len(name) > longest else f'"{name}"'
        metadata.error(("name",), f"metadata.name of {told}", NAME_EXPECTED.replace("63", str(longest)), plainer(name))


def plainer(name: str) -> str:
    """A hint at a name that Kubernetes would take."""
    plain = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:63].strip("-.")
    return f'Kubernetes would refuse it; perhaps "{plain}"' if plain else "Kubernetes would refuse it"


def labels(part: Part, field: str) -> None:
    """Labels, or what is written like them."""
    for key, value in part.mapping(field).items():
        if not is_key(key):
            part.error((field, key), f'label key "{key[:80]}"', KEY.expected, key=True)
        text = part.judged(value)
        if text is not None and not is_label_value(text):
            part.error((field, key), f'label value "{text[:80]}"', LABEL_VALUE.expected, "use an annotation" if field == "labels" else "")


def annotated(part: Part) -> None:
    """Annotations of any object."""
    there = part.mapping("annotations")
    for key in there:
        if not is_key(key.lower()):
            part.error(("annotations", key), f'annotation key "{key[:80]}"', KEY.expected, key=True)
    total = sum(size(key) + size(value) for key, value in there.items() if isinstance(value, str))
    if total > _ANNOTATIONS_LIMIT:
        part.error(("annotations",), f"annotations of {total:,} bytes", f"at most {_ANNOTATIONS_LIMIT:,}", "use a ConfigMap")


def of_pods(template: Part, containers: list[str] | None, node: str | None) -> None:
    """The metadata of a Job's pods. `containers`: their names; None when they can't all be judged."""
    metadata = template.part("metadata")
    if metadata is None:
        return
    labels(metadata, "labels")
    annotated(metadata)
    for key, value in metadata.mapping("annotations").items():
        if value is not None and not isinstance(value, str):
            continue
        text = value or ""
        if not metadata.literal and placeholders(text):
            continue
        where = ("annotations", key)
        if key == "kubernetes.io/config.mirror" and node == "":
            metadata.error(where, f"annotation {key} on a pod without nodeName", "", "remove it", key=True)
        if key == _COST and (not DIGITS.fits(text) or whole(text.removeprefix("-"), 2**31 - (not text.startswith("-"))) is None):
            metadata.wrong(where, text, "a whole number")
        if key == _SECCOMP[0] or key.startswith(_SECCOMP[1]):
            local = text.removeprefix("localhost/")
            if text not in ("runtime/default", "docker/default", "unconfined") and (local == text or not is_below(local)):
                metadata.wrong(where, text, "runtime/default, unconfined or localhost/PROFILE")
        if key.startswith(_APPARMOR):
            if containers is not None and key.removeprefix(_APPARMOR) not in containers:
                metadata.error(where, f"annotation {key} of a container that is not there", "", "", key=True)
            if text not in ("", "runtime/default", "unconfined") and not text.startswith("localhost/"):
                metadata.wrong(where, text, "runtime/default, unconfined or localhost/PROFILE")


def _finalizers(metadata: Part) -> None:
    there = dict(metadata.texts("finalizers"))
    for index, name in there.items():
        if not is_key(name) or ("/" not in name and name not in _STANDARD_FINALIZERS):
            metadata.wrong(("finalizers", index), name, "a name with a domain such as example.com/cleanup")
    if {"orphan", "foregroundDeletion"} <= set(there.values()):
        metadata.error(("finalizers",), "finalizers orphan and foregroundDeletion", "one of the two")


def _selector(selector: Part) -> None:
    labels(selector, "matchLabels")


def _requirement(requirement: Part) -> None:
    operator = requirement.text("operator")
    if operator in ("In", "NotIn") and not requirement.list("values"):
        requirement.missing("values")
    elif operator in ("Exists", "DoesNotExist") and requirement.list("values"):
        requirement.forbidden("values", f"together with operator {operator}")
    elif operator is not None and operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        requirement.wrong(("operator",), operator, "In, NotIn, Exists or DoesNotExist")
    values_of_labels(requirement)


def values_of_labels(requirement: Part) -> None:
    """The `values` of a selector."""
    for index, value in requirement.texts("values"):
        if not is_label_value(value):
            requirement.wrong(("values", index), value, LABEL_VALUE.expected)


def _claim_template(template: Part) -> None:
    metadata = template.part("metadata")
    if metadata is None:
        return
    labels(metadata, "labels")
    annotated(metadata)
    for key, value in metadata.value.items():
        if key not in ("labels", "annotations") and value not in (None, "", 0):
            metadata.forbidden(key, "of a claim that a volume makes")


RULES = {"LabelSelector": _selector, "LabelSelectorRequirement": _requirement, "PersistentVolumeClaimTemplate": _claim_template}
