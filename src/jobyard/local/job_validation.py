"""What the API server refuses of Jobs and CronJobs: ranges, choices, what belongs together, what stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from jobyard.local import checks, indexes, pod_validation, selectors, times
from jobyard.local.checks import invalid, is_label, is_qualified, one_of, required, within
from jobyard.local.cron_sync import schedule
from jobyard.local.defaults import JOB_LABELS
from jobyard.local.status import Invalid

Tree = dict[str, Any]

_COUNTS = (
    *("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"),
    *("backoffLimitPerIndex", "maxFailedIndexes"),
)
_MANY, _FEWER = 100_000, 10_000
_RULES, _CODES, _INDEXES_LENGTH = 20, 255, 64 * 1024
_CONTROLLER = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_STATUS_COUNTS = ("active", "succeeded", "failed", "ready", "terminating")
_ENDS = ("Complete", "Failed", "FailureTarget", "SuccessCriteriaMet")


def job(tree: Tree) -> Iterator[Invalid]:
    """All that is wrong with a Job."""
    spec = tree["spec"]
    yield from job_spec(spec, "spec")
    yield from _selector(spec)
    completions = spec.get("completions")
    if spec["completionMode"] == "Indexed" and completions:
        name = f"{tree['metadata']['name']}-{completions - 1}"
        if not is_label(name):
            yield invalid("metadata.name", tree["metadata"]["name"], f"will not able to create pod with invalid DNS label: {name[:80]}")


def _selector(spec: Tree) -> Iterator[Invalid]:
    selector, labels = spec.get("selector"), spec["template"]["metadata"].get("labels") or {}
    if selector is None:
        yield Invalid("spec.selector", "FieldValueRequired", "")
        return
    yield from checks.selector(selector, "spec.selector")
    matches = selectors.of_spec(selector)
    if not matches({"metadata": {"labels": labels}}):
        yield invalid("spec.template.metadata.labels", "", "`selector` does not match template `labels`")
    generated = {key: value for key, value in labels.items() if key in JOB_LABELS}
    if not spec.get("manualSelector") and not matches({"metadata": {"labels": generated}}):
        yield invalid("spec.selector", "", "`selector` not auto-generated")


def job_spec(spec: Tree, path: str) -> Iterator[Invalid]:
    """All that is wrong with the spec of a Job, or of a CronJob's Jobs."""
    for name in _COUNTS:
        yield from within(spec, name, path)
    yield from one_of(spec, "completionMode", path, ("Indexed", "NonIndexed"))
    yield from _indexed(spec, path)
    managed = spec.get("managedBy")
    if managed is not None and (len(managed) > 63 or not _CONTROLLER.fullmatch(managed)):
        yield invalid(f"{path}.managedBy", managed, 'must be a domain-prefixed path (such as "acme.io/foo")')
    policies = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
    yield from one_of(spec, "podReplacementPolicy", path, policies)
    template = spec["template"]
    yield from checks.labels(template["metadata"].get("labels"), f"{path}.template.labels")
    yield from checks.notes(template["metadata"].get("annotations"), f"{path}.template.annotations")
    yield from _restart_policy(spec, path)
    yield from _failure_policy(spec, f"{path}.podFailurePolicy")
    yield from _success_policy(spec, f"{path}.successPolicy")
    yield from pod_validation.spec(template["spec"], f"{path}.template.spec")


def _restart_policy(spec: Tree, path: str) -> Iterator[Invalid]:
    field, policy = f"{path}.template.spec.restartPolicy", spec["template"]["spec"]["restartPolicy"]
    if policy not in ("OnFailure", "Never"):
        yield Invalid(field, "FieldValueRequired" if policy == "Always" else "FieldValueNotSupported", 'valid values: "OnFailure", "Never"')
    elif policy != "Never" and spec.get("podFailurePolicy") is not None:
        yield invalid(field, policy, 'only "Never" is supported when podFailurePolicy is specified')


def _indexed(spec: Tree, path: str) -> Iterator[Invalid]:
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    per_index, most = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    if most is not None and per_index is None:
        yield Invalid(f"{path}.backoffLimitPerIndex", "FieldValueRequired", "when maxFailedIndexes is specified")
    if spec["completionMode"] != "Indexed":
        for name in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
            if spec.get(name) is not None:
                yield invalid(f"{path}.{name}", spec[name], "requires indexed completion mode")
        return
    if completions is None:
        yield Invalid(f"{path}.completions", "FieldValueRequired", "when completion mode is Indexed")
        return
    highest = _FEWER if completions > _MANY and per_index is not None else _MANY
    if parallelism > highest:
        yield invalid(f"{path}.parallelism", parallelism, f"must be less than or equal to {highest} when completion mode is Indexed")
    if most is not None and most > min(highest, completions):
        yield invalid(f"{path}.maxFailedIndexes", most, f"must be less than or equal to {min(highest, completions)}")
    if most is None and highest == _FEWER:
        yield Invalid(f"{path}.maxFailedIndexes", "FieldValueRequired", f"must be specified when completions is above {_MANY}")


def _failure_policy(spec: Tree, path: str) -> Iterator[Invalid]:
    policy, pod = spec.get("podFailurePolicy"), spec["template"]["spec"]
    if policy is None:
        return
    names = {each["name"] for kind in ("containers", "initContainers") for each in pod.get(kind) or []}
    yield from _few(policy["rules"], _RULES, f"{path}.rules")
    for index, rule in enumerate(policy["rules"]):
        here = f"{path}.rules[{index}]"
        yield from one_of(rule, "action", here, ("Count", "FailIndex", "FailJob", "Ignore"), must=True)
        if rule["action"] == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            yield invalid(f"{here}.action", rule["action"], "requires the backoffLimitPerIndex to be set")
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or []
        if (codes is not None) is bool(conditions):
            yield invalid(here, "", "specifying one of OnExitCodes and OnPodConditions is required")
        yield from _few(conditions, _RULES, f"{here}.onPodConditions")
        for number, pattern in enumerate(conditions):
            if not is_qualified(pattern["type"]):
                yield invalid(
                    f"{here}.onPodConditions[{number}].type", pattern["type"], "name part must consist of alphanumeric characters"
                )
            yield from one_of(pattern, "status", f"{here}.onPodConditions[{number}]", ("", "False", "True", "Unknown"))
        if codes is not None:
            yield from _exit_codes(codes, f"{here}.onExitCodes", names)


def _exit_codes(codes: Tree, path: str, containers: set[str]) -> Iterator[Invalid]:
    yield from one_of(codes, "operator", path, ("In", "NotIn"), must=True)
    if codes.get("containerName") is not None and codes["containerName"] not in containers:
        why = "must be one of the container or initContainer names in the pod template"
        yield invalid(f"{path}.containerName", codes["containerName"], why)
    values = codes["values"]
    if not values:
        yield invalid(f"{path}.values", values, "at least one value is required")
    yield from _few(values, _CODES, f"{path}.values")
    if codes["operator"] == "In" and 0 in values:
        yield invalid(f"{path}.values", 0, "must not be 0 for the In operator")
    if any(after <= before for before, after in pairwise(values)):
        yield invalid(f"{path}.values", values, "must be ordered")


def _success_policy(spec: Tree, path: str) -> Iterator[Invalid]:
    policy, completions = spec.get("successPolicy"), spec.get("completions")
    if policy is None or spec["completionMode"] != "Indexed" or completions is None:
        return
    yield from required(policy, "rules", path, "at least one rules must be specified when the successPolicy is specified")
    yield from _few(policy["rules"], _RULES, f"{path}.rules")
    for index, rule in enumerate(policy["rules"]):
        here, count, wanted = f"{path}.rules[{index}]", rule.get("succeededCount"), rule.get("succeededIndexes")
        if count is None and wanted is None:
            yield Invalid(here, "FieldValueRequired", "at least one of succeededCount or succeededIndexes must be specified")
        if wanted is not None and len(wanted) > _INDEXES_LENGTH:
            yield Invalid(f"{here}.succeededIndexes", "FieldValueTooLong", f"may not be more than {_INDEXES_LENGTH} bytes")
        elif wanted is not None and (why := indexes.problem(wanted, completions)):
            yield invalid(f"{here}.succeededIndexes", wanted, f"error parsing succeededIndexes: {why}")
        most = completions if wanted is None else min(completions, indexes.read(wanted[:_INDEXES_LENGTH]).count)
        yield from within(rule, "succeededCount", here, 0, most)


def _few(items: list[Any], most: int, field: str) -> Iterator[Invalid]:
    if len(items) > most:
        yield Invalid(field, "FieldValueTooMany", f"{len(items)}: must have at most {most} items")


def cron_job(tree: Tree) -> Iterator[Invalid]:
    """All that is wrong with a CronJob."""
    spec, name = tree["spec"], tree["metadata"]["name"]
    if len(name) > 52:
        yield invalid("metadata.name", name, "must be no more than 52 characters")
    if not spec["schedule"]:
        yield Invalid("spec.schedule", "FieldValueRequired", "")
    else:
        try:
            schedule(spec["schedule"], None, times.now())
        except ValueError as error:
            yield invalid("spec.schedule", spec["schedule"], str(error))
    if (zone := spec.get("timeZone")) is not None:
        try:
            if not zone or zone.lower() == "local":
                raise ValueError
            schedule("* * * * *", zone, times.now())
        except ValueError:
            yield invalid("spec.timeZone", zone, f"unknown time zone {zone[:80]}")
    for field in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        yield from within(spec, field, "spec")
    yield from one_of(spec, "concurrencyPolicy", "spec", ("Allow", "Forbid", "Replace"), must=True)
    inside = spec["jobTemplate"]["spec"]
    yield from job_spec(inside, "spec.jobTemplate.spec")
    if inside.get("selector") is not None:
        yield invalid("spec.jobTemplate.spec.selector", "", "`selector` will be auto-generated")
    if inside.get("manualSelector"):
        yield Invalid("spec.jobTemplate.spec.manualSelector", "FieldValueNotSupported", 'true: supported values: "nil", "false"')


_JOB_FIXED = ("completions", "selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
_WHILE_SUSPENDED = ("affinity", "nodeSelector", "tolerations", "schedulingGates")


def update(old: Tree, new: Tree) -> Iterator[Invalid]:
    """What of a Job may not change."""
    before, after = old["spec"], new["spec"]
    indexed = before.get("completionMode") == "Indexed"
    for field in _JOB_FIXED:
        if before.get(field) == after.get(field):
            continue
        elastic = field == "completions" and indexed and after.get("completions") == after.get("parallelism")
        if not elastic:
            yield Invalid(f"spec.{field}", "FieldValueInvalid", "field is immutable")
    frozen_before, frozen_after = before["template"], after["template"]
    never_started = bool(before.get("suspend")) and not (old.get("status") or {}).get("startTime")
    if never_started:
        frozen_before, frozen_after = _without_scheduling(frozen_before), _without_scheduling(frozen_after)
    if frozen_before != frozen_after:
        yield Invalid("spec.template", "FieldValueInvalid", "field is immutable")


def _without_scheduling(template: Tree) -> Tree:
    """What of a template stays fixed on a suspended Job that never started: all but where its pods may run, and what they ask for."""
    metadata = {key: value for key, value in (template.get("metadata") or {}).items() if key not in ("labels", "annotations")}
    spec = {key: value for key, value in template["spec"].items() if key not in _WHILE_SUSPENDED}
    for kind in ("initContainers", "containers"):
        if kind in spec:
            spec[kind] = [{key: value for key, value in each.items() if key != "resources"} for each in spec[kind]]
    return {**template, "metadata": metadata, "spec": spec}


def status(old: Tree, new: Tree) -> Iterator[Invalid]:
    """What a client may not say of how a Job stands."""
    before, after = old.get("status") or {}, new["status"]
    spec = new["spec"]
    for name in _STATUS_COUNTS:
        yield from within(after, name, "status")
    for name in ("completedIndexes", "failedIndexes"):
        if (said := after.get(name)) and (why := indexes.problem(said, spec.get("completions") or 0)):
            yield invalid(f"status.{name}", said, f"error parsing {name}: {why}")
    held, holds = _true(before), _true(after)
    for kind in _ENDS:
        if kind in held and kind not in holds:
            yield invalid("status.conditions", kind, f"cannot disable the terminal {kind}=True condition")
    if "Complete" in holds and holds & {"Failed", "FailureTarget"}:
        yield invalid("status.conditions", "Complete", "cannot set Complete=True and Failed=true conditions")


def _true(status: Tree) -> set[str]:
    return {each["type"] for each in status.get("conditions") or [] if each["status"] == "True"}
