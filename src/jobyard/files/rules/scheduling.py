"""Where pods may run: tolerations, affinity, spreading."""

from __future__ import annotations

from jobyard.files.rules.checks import Fields, Number, Text, words
from jobyard.files.rules.forms import KEY, LABEL, LABEL_VALUE, SUBDOMAIN, is_key, is_label, is_label_value, is_subdomain
from jobyard.files.rules.metadata import values_of_labels
from jobyard.files.rules.part import Part

_WEIGHT = Number(low=1, high=100, required=True)
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")

FIELDS: Fields = {
    "Toleration": {
        "key": Text(form=KEY),
        "operator": words("Equal", "Exists"),
        "effect": words("NoSchedule", "PreferNoSchedule", "NoExecute"),
    },
    "PreferredSchedulingTerm": {"weight": _WEIGHT},
    "WeightedPodAffinityTerm": {"weight": _WEIGHT},
    "PodAffinityTerm": {"topologyKey": Text(form=KEY, required=True)},
    "TopologySpreadConstraint": {
        "maxSkew": Number(low=1, required=True),
        "topologyKey": Text(required=True),
        "whenUnsatisfiable": words("DoNotSchedule", "ScheduleAnyway", required=True),
        "minDomains": Number(low=1),
        "nodeAffinityPolicy": words("Honor", "Ignore", even_empty=True),
        "nodeTaintsPolicy": words("Honor", "Ignore", even_empty=True),
    },
}


def _toleration(toleration: Part) -> None:
    key, operator, value = toleration.text("key"), toleration.text("operator"), toleration.text("value")
    if key == "" and operator not in ("Exists", None):
        toleration.error((), "a toleration without a key", "operator: Exists, which then tolerates everything")
    if toleration.has("tolerationSeconds") and toleration.text("effect") not in ("NoExecute", None):
        toleration.forbidden("tolerationSeconds", "together with an effect that is not NoExecute")
    if operator == "Exists" and value:
        toleration.forbidden("value", "together with operator Exists")
    elif operator in ("", "Equal") and value and not is_label_value(value):
        toleration.wrong(("value",), value, LABEL_VALUE.expected)


def _node_selector(selector: Part) -> None:
    if not selector.list("nodeSelectorTerms"):
        selector.missing("nodeSelectorTerms")
    for term in selector.parts("nodeSelectorTerms"):
        _node_term(term, is_required=True)


def _node_term(term: Part, *, is_required: bool) -> None:
    for requirement in term.parts("matchExpressions"):
        operator, values = requirement.text("operator"), requirement.list("values")
        key = requirement.text("key")
        if key is not None and not is_key(key):
            requirement.wrong(("key",), key, KEY.expected)
        if operator is not None and operator not in _OPERATORS:
            requirement.wrong(("operator",), operator, ", ".join(_OPERATORS))
        elif operator in ("In", "NotIn") and not values:
            requirement.missing("values")
        elif operator in ("Exists", "DoesNotExist") and values:
            requirement.forbidden("values", f"together with operator {operator}")
        elif operator in ("Gt", "Lt") and len(values) != 1:
            requirement.error(("values",), f"{len(values)} values for operator {operator}", "one")
        if is_required:
            values_of_labels(requirement)
    for requirement in term.parts("matchFields"):
        _node_field(requirement)


def _node_field(requirement: Part) -> None:
    operator, key = requirement.text("operator"), requirement.text("key")
    if operator is not None and operator not in ("In", "NotIn"):
        requirement.wrong(("operator",), operator, "In or NotIn")
    elif operator is not None and len(requirement.list("values")) != 1:
        requirement.error(("values",), f"{len(requirement.list('values'))} values of a field", "one")
    if key is not None and key != "metadata.name":
        requirement.wrong(("key",), key, "metadata.name")
        return
    for index, value in requirement.texts("values"):
        if not is_subdomain(value):
            requirement.wrong(("values", index), value, SUBDOMAIN.expected)


def _preference(term: Part) -> None:
    preference = term.part("preference")
    if preference:
        _node_term(preference, is_required=False)


def _weighted(term: Part) -> None:
    if not term.has("podAffinityTerm"):
        term.missing("podAffinityTerm")


def _pod_term(term: Part) -> None:
    for index, namespace in term.texts("namespaces"):
        if not is_label(namespace):
            term.wrong(("namespaces", index), namespace, LABEL.expected)
    _keys_of_labels(term, "matchLabelKeys", "mismatchLabelKeys")


def _keys_of_labels(part: Part, *fields: str) -> None:
    selector = part.part("labelSelector")
    for field in fields:
        if part.list(field) and not part.has("labelSelector"):
            part.forbidden(field, "without labelSelector")
            continue
        for index, key in part.texts(field):
            if not is_key(key):
                part.wrong((field, index), key, KEY.expected)
    wanted = set(part.list(fields[0])) if all(isinstance(each, str) for each in part.list(fields[0])) else set()
    if selector:
        seen = set(selector.mapping("matchLabels"))
        for expression in selector.parts("matchExpressions"):
            name = expression.text("key") or ""
            if name in wanted and name in seen:
                part.error((fields[0],), f'"{name}" in {fields[0]} and twice in labelSelector', "it in one of the two")
            seen.add(name)
    for field in fields[1:]:
        for index, key in part.texts(field):
            if key in wanted:
                part.error((field, index), f'"{key}" in {fields[0]} and in {field}', "it in one of the two")


def _spread(constraint: Part) -> None:
    if constraint.has("minDomains") and constraint.text("whenUnsatisfiable") not in ("DoNotSchedule", None):
        constraint.forbidden("minDomains", "together with a whenUnsatisfiable that is not DoNotSchedule")
    _keys_of_labels(constraint, "matchLabelKeys")


def spreads(pod: Part) -> None:
    """Two constraints may not be about the same."""
    seen: set[tuple[str | None, str | None]] = set()
    for constraint in pod.parts("topologySpreadConstraints"):
        key = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"))
        if None not in key and key in seen:
            constraint.error((), f"a second constraint of {key[0]} and {key[1]}", "one")
        seen.add(key)


RULES = {
    "Toleration": _toleration,
    "NodeSelector": _node_selector,
    "PreferredSchedulingTerm": _preference,
    "WeightedPodAffinityTerm": _weighted,
    "PodAffinityTerm": _pod_term,
    "TopologySpreadConstraint": _spread,
}
