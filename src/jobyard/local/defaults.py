"""What the API server fills in where an author was silent, by kind."""

from __future__ import annotations

import base64
from typing import Any

from jobyard.local import services
from jobyard.local.resources import CRON_JOBS, JOBS, NAMESPACES, PODS, SECRETS, SERVICES, Resource

Tree = dict[str, Any]

JOB_LABELS = ("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name")
"""The labels of a Job's pods; the first is the one that its selector uses."""


def fill(resource: Resource, tree: Tree) -> Tree:
    """`tree` with its defaults, as a new tree. Run after identity (name, uid) is set; safe to repeat."""
    match resource.full_name:
        case JOBS.full_name:
            return _job(tree)
        case CRON_JOBS.full_name:
            return _cron_job(tree)
        case PODS.full_name:
            spec = _pod_spec(tree.get("spec") or {})
            spec.setdefault("serviceAccountName", "default")
            spec["serviceAccount"] = spec["serviceAccountName"]
            spec.setdefault("enableServiceLinks", True)
            spec.setdefault("priority", 0)
            spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
            return {**tree, "spec": spec}
        case NAMESPACES.full_name:
            name = tree["metadata"]["name"]
            labels = {**(tree["metadata"].get("labels") or {}), "kubernetes.io/metadata.name": name}
            metadata = {**tree["metadata"], "labels": labels}
            return {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}, **tree, "metadata": metadata}
        case SECRETS.full_name:
            given = {key: base64.b64encode(str(value).encode()).decode() for key, value in (tree.get("stringData") or {}).items()}
            rest = {key: value for key, value in tree.items() if key != "stringData"}
            data = {**(tree.get("data") or {}), **given}
            return {"type": "Opaque", **rest, **({"data": data} if data else {})}
        case SERVICES.full_name:
            return services.fill(tree)
    return tree


def _cron_job(tree: Tree) -> Tree:
    given = tree.get("spec") or {}
    template = given.get("jobTemplate") or {}
    inside = _job_spec(template.get("spec") or {})
    pod = inside["template"]
    template = {"metadata": {}, **template, "spec": {**inside, "template": {**pod, "spec": _pod_spec(pod.get("spec") or {})}}}
    defaults = {"concurrencyPolicy": "Allow", "suspend": False, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1}
    return {"status": {}, **tree, "spec": {**defaults, "schedule": "", **given, "jobTemplate": template}}


def _job_spec(given: Tree) -> Tree:
    """A Job's spec without what needs to know the Job: its template is still to be filled in."""
    spec = dict(given)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    per_index = spec.get("backoffLimitPerIndex") is not None
    spec.setdefault("backoffLimit", 2147483647 if per_index else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    spec["template"] = {"metadata": {}, **(spec.get("template") or {})}
    return spec


def _job(tree: Tree) -> Tree:
    spec = _job_spec(tree.get("spec") or {})
    template = spec["template"]
    metadata = dict(template["metadata"])
    name, uid = tree["metadata"]["name"], tree["metadata"].get("uid")
    if not spec.get("manualSelector") and uid:
        values = dict(zip(JOB_LABELS, (uid, name, uid, name), strict=True))
        metadata["labels"] = {**(metadata.get("labels") or {}), **values}
        given = spec.get("selector") or {}
        spec["selector"] = {**given, "matchLabels": {**(given.get("matchLabels") or {}), JOB_LABELS[0]: uid}}
    template = {**template, "metadata": metadata, "spec": _pod_spec(template.get("spec") or {})}
    labels = tree["metadata"].get("labels") or metadata.get("labels")
    top = {**tree["metadata"], **({"labels": labels} if labels else {})}
    return {"status": {}, **tree, "metadata": top, "spec": {**spec, "template": template}}


def _pod_spec(given: Tree) -> Tree:
    spec = {key: value for key, value in given.items() if value is not None}
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    grace = spec.setdefault("terminationGracePeriodSeconds", 30)
    if grace < 0:
        spec["terminationGracePeriodSeconds"] = 1
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for kind in ("initContainers", "containers"):
        if spec.get(kind):
            spec[kind] = [_container(each) for each in spec[kind]]
    if spec.get("volumes"):
        spec["volumes"] = [_volume(each) for each in spec["volumes"]]
    return spec


def _container(given: Tree) -> Tree:
    container = {key: value for key, value in given.items() if value is not None}
    tag = str(container.get("image", "")).rpartition("/")[2]
    latest = (":" not in tag and "@" not in tag) or tag.endswith(":latest")
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if container.get("env"):
        container["env"] = [_env(each) for each in container["env"]]
    return container


def _env(entry: Tree) -> Tree:
    source = entry.get("valueFrom") or {}
    if "fieldRef" in source:
        return {**entry, "valueFrom": {"fieldRef": {"apiVersion": "v1", **source["fieldRef"]}}}
    return entry


def _volume(volume: Tree) -> Tree:
    for kind in ("secret", "configMap", "projected", "downwardAPI"):
        if isinstance(volume.get(kind), dict):
            return {**volume, kind: {"defaultMode": 420, **volume[kind]}}
    return volume if set(volume) != {"name"} else {**volume, "emptyDir": {}}
