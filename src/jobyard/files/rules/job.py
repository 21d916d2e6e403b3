"""What a Job says of itself: how many pods, which failures count, when it succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobyard.files.rules import metadata, pod
from jobyard.files.rules.checks import Fields, Number, Text, one_source, words
from jobyard.files.rules.forms import CONTROLLER, KEY
from jobyard.files.rules.part import Part
from jobyard.model.finding import did_you_mean
from jobyard.model.written import whole

_COUNTS = (
    "parallelism",
    "completions",
    "backoffLimit",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)

FIELDS: Fields = {
    "JobSpec": {**{name: Number() for name in _COUNTS}, "managedBy": Text(form=CONTROLLER, even_empty=True)},
    "PodFailurePolicyRule": {"action": words("FailJob", "FailIndex", "Ignore", "Count", required=True)},
    "PodFailurePolicyOnExitCodesRequirement": {"operator": words("In", "NotIn", required=True)},
    "PodFailurePolicyOnPodConditionsPattern": {
        "type": Text(form=KEY, required=True),
        "status": words("True", "False", "Unknown"),
    },
    "SuccessPolicyRule": {"succeededCount": Number()},
}

_MANY = 100_000
_FEWER = 10_000
_NAME_LABELS = ("job-name", "batch.kubernetes.io/job-name")
_UID_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")


def check(job: Part, *, needs_name: bool) -> None:
    """What is wrong with a Job as a whole."""
    metadata.of_job(job, needs_name=needs_name)
    spec = job.part("spec")
    template = spec.part("template") if spec else None
    if spec is None or template is None:
        if not job.has("spec"):
            job.missing("spec")
        elif spec is not None and not spec.has("template"):
            spec.missing("template")
        return
    inside = template.part("spec") or (template.below("spec", {}) if not template.has("spec") else None)
    _indexed(job, spec)
    _success(spec)
    if inside is not None:
        names = [each.text("name") for each in (*inside.parts("containers"), *inside.parts("initContainers"))]
        known = None if None in names or isinstance(inside.value.get("containers"), str) else [name or "" for name in names]
        metadata.of_pods(template, known, inside.text("nodeName"))
        _failure(spec, inside, known)
        _selector(job, spec, template)
        pod.check(inside)


def _indexed(job: Part, spec: Part) -> None:
    mode = spec.text("completionMode")
    completions, parallelism, failures = spec.number("completions"), spec.number("parallelism"), spec.number("maxFailedIndexes")
    if spec.has("completionMode") and mode is not None and mode not in ("NonIndexed", "Indexed"):
        hint = did_you_mean(mode, ("NonIndexed", "Indexed"))
        spec.error(("completionMode",), f'completionMode "{mode[:40]}"', "NonIndexed or Indexed", hint)
    if spec.has("maxFailedIndexes") and not spec.has("backoffLimitPerIndex"):
        spec.error(("maxFailedIndexes",), "maxFailedIndexes without backoffLimitPerIndex", "spec.backoffLimitPerIndex")
    if mode in ("", "NonIndexed"):
        for key in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.has(key):
                spec.forbidden(key, "of a Job that is not Indexed", "add completionMode: Indexed, or remove it")
    if mode != "Indexed":
        return
    if not spec.has("completions"):
        if spec.has("parallelism"):
            what = "completionMode Indexed without completions"
            spec.error(("completionMode",), what, "spec.completions", "say how many indexes there are")
        completions = 1
    if completions is None:
        return
    highest = _FEWER if completions > _MANY and spec.has("backoffLimitPerIndex") else _MANY
    if parallelism is not None and parallelism > highest:
        spec.error(("parallelism",), f"spec.parallelism is {parallelism}", f"at most {highest:,} for this many indexes")
    if failures is not None and failures > min(highest, completions):
        spec.error(("maxFailedIndexes",), f"spec.maxFailedIndexes is {failures}", f"at most {min(highest, completions):,}")
    if completions > _MANY and spec.has("backoffLimitPerIndex") and not spec.has("maxFailedIndexes"):
        spec.error(("backoffLimitPerIndex",), f"more than {_MANY:,} completions without maxFailedIndexes", "spec.maxFailedIndexes")
    _hostname(job, completions)


def _hostname(job: Part, completions: int) -> None:
    """The pods of an Indexed Job are called after it and their index; that has to be a host's name."""
    own = job.part("metadata")
    name = own.text("name") if own else ""
    if own and name == "" and (start := own.text("generateName")):
        name = f"{start[:58]}12345"
    if own and name and completions > 0 and (len(f"{name}-{completions - 1}") > 63 or "." in name):
        key = "name" if own.has("name") else "generateName"
        longest = 63 - len(f"-{completions - 1}")
        own.error(
            (key,),
            f'metadata.{key} "{name[:80]}" of an Indexed Job',
            f"at most {longest} characters, no dots",
            "its pods are called after it",
        )


def _failure(spec: Part, inside: Part, containers: list[str] | None) -> None:
    policy = spec.part("podFailurePolicy")
    replaced = spec.text("podReplacementPolicy")
    allowed = ("Failed",) if spec.has("podFailurePolicy") else ("TerminatingOrFailed", "Failed")
    if spec.has("podReplacementPolicy") and replaced is not None and replaced not in allowed:
        beside = " together with podFailurePolicy" if len(allowed) == 1 else ""
        spec.error(
            ("podReplacementPolicy",),
            f'podReplacementPolicy "{replaced[:40]}"{beside}',
            " or ".join(allowed),
            did_you_mean(replaced, allowed),
        )
    if policy is None:
        return
    if inside.text("restartPolicy") == "OnFailure":
        inside.error(
            ("restartPolicy",),
            "restartPolicy OnFailure together with podFailurePolicy",
            "Never",
            "a container that restarts is not a failed pod",
        )
    if len(policy.list("rules")) > 20:
        policy.error(("rules",), f"{len(policy.list('rules'))} rules", "at most 20")
    for rule in policy.parts("rules"):
        if rule.text("action") == "FailIndex" and not spec.has("backoffLimitPerIndex"):
            rule.error(("action",), "action FailIndex without backoffLimitPerIndex", "spec.backoffLimitPerIndex")
        conditions = rule.list("onPodConditions")
        if rule.has("onExitCodes") == bool(conditions):
            what = "both" if conditions else "neither"
            rule.error((), f"{rule.spell()} with {what} of onExitCodes and onPodConditions", "one of the two")
        if len(conditions) > 20:
            rule.error(("onPodConditions",), f"{len(conditions)} conditions", "at most 20")
        if codes := rule.part("onExitCodes"):
            _exit_codes(codes, containers)


def _exit_codes(codes: Part, containers: list[str] | None) -> None:
    name, values = codes.text("containerName"), codes.list("values")
    if codes.has("containerName") and name is not None and containers is not None and name not in containers:
        codes.error(("containerName",), f'no container is named "{name[:80]}"', "", did_you_mean(name, containers))
    if not values:
        codes.missing("values")
    if len(values) > 255:
        codes.error(("values",), f"{len(values)} values", "at most 255")
    numbers = [0 if each is None else each for each in values if each is None or isinstance(each, int)]
    if codes.text("operator") == "In" and 0 in numbers:
        codes.error(("values",), "0 in the exit codes of a failure", "other numbers", "0 is success")
    if numbers != sorted(set(numbers)):
        codes.error(("values",), f"exit codes {', '.join(map(str, numbers[:10]))}", "each once, the smallest first")


def _success(spec: Part) -> None:
    policy = spec.part("successPolicy")
    if policy is None:
        return
    mode, completions = spec.text("completionMode"), spec.number("completions")
    if mode in ("", "NonIndexed"):
        spec.forbidden("successPolicy", "of a Job that is not Indexed", "add completionMode: Indexed, or remove it")
    if mode != "Indexed":
        return
    rules = policy.parts("rules")
    if not policy.value.get("rules"):
        policy.missing("rules")
    if len(rules) > 20:
        policy.error(("rules",), f"{len(rules)} rules", "at most 20")
    count = 1 if not spec.has("completions") and not spec.has("parallelism") else completions
    for rule in rules:
        if not rule.has("succeededCount") and not rule.has("succeededIndexes"):
            one_source(rule, ("succeededCount", "succeededIndexes"))
        if count is not None:
            _success_rule(rule, count)


def _success_rule(rule: Part, completions: int) -> None:
    text, wanted = rule.text("succeededIndexes"), rule.number("succeededCount")
    highest = completions
    if rule.has("succeededIndexes") and text is not None:
        indexes = _indexes(text, completions)
        if indexes is None or len(text) > 64 * 1024:
            rule.wrong(("succeededIndexes",), text, f"increasing indexes below {completions}, such as 0-3,5")
        else:
            highest = min(completions, indexes)
    if wanted is not None and wanted > highest:
        rule.error(("succeededCount",), f"{rule.spell('succeededCount')} is {wanted}", f"at most {highest}")


def _indexes(text: str, completions: int) -> int | None:
    """How many indexes `0-3,5` names; None when it is no such list."""
    total, last = 0, None
    for interval in text.split(",") if text else ():
        ends = [whole(each.removeprefix("+"), 2**63 - 1) for each in interval.split("-")]
        low, high = ends[0], ends[-1]
        if len(ends) > 2 or low is None or high is None:
            return None
        if high >= completions or (len(ends) == 2 and low >= high) or (last is not None and low <= last):
            return None
        total, last = total + high - low + 1, high
    return total


def _selector(job: Part, spec: Part, template: Part) -> None:
    """Kubernetes makes the selector, unless it is told not to; what stands there must agree."""
    own, selector = job.part("metadata"), spec.part("selector")
    pods = template.part("metadata")
    given = pods.mapping("labels") if pods else {}
    if spec.is_true("manualSelector"):
        if not spec.has("selector"):
            spec.missing("selector", remedy="manualSelector: true needs it; or remove that")
        elif selector and not _selects(selector, given):
            spec.error(("selector",), "a selector that does not select the Job's own pods", "the labels of spec.template.metadata")
        return
    name = own.text("name") if own else ""
    for key in (*_NAME_LABELS, *_UID_LABELS):
        if key not in given or (pods and pods.judged(given[key]) is None):
            continue
        if key in _UID_LABELS or (name is not None and given[key] != name):
            template.error(("metadata", "labels", key), f"label {key}, which Kubernetes gives", "", "remove it", key=True)
    if selector is None:
        return
    made = dict.fromkeys(_NAME_LABELS, name or "-") | dict.fromkeys(_UID_LABELS, "-")
    if not _selects(selector, made) or not _selects(selector, {**given, **made}):
        spec.error(("selector",), "a selector, which Kubernetes makes", "", "remove it", key=True)


def _selects(selector: Part, labels: Mapping[str, Any]) -> bool:
    """Whether a selector selects what bears these labels; also when that can't be judged."""
    for key, value in selector.mapping("matchLabels").items():
        if selector.judged(value) is not None and labels.get(key) != (value or ""):
            return False
    for each in selector.parts("matchExpressions"):
        name, operator, values = each.text("key"), each.text("operator"), each.list("values")
        if name is None or operator is None or not all(each.judged(value) is not None for value in values):
            continue
        there = name in labels
        holds = {
            "In": there and labels.get(name) in values,
            "NotIn": not there or labels.get(name) not in values,
            "Exists": there,
            "DoesNotExist": not there,
        }
        if not holds.get(operator, True):
            return False
    return True
