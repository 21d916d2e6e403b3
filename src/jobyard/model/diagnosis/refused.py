"""Why the cluster makes no pod for a Job: what the API server answered the Job controller stands in an event alone."""

from __future__ import annotations

import re

from jobyard.model.cause import Cause, Diagnosis, maker
from jobyard.model.objects import Event
from jobyard.model.run import Reason
from jobyard.model.words import sentence


def no_pod(event: Event) -> Diagnosis:
    """A pod that the Job controller may not make."""
    message = event.message or ""
    make = maker(detail=message)
    if "exceeded quota" in message:
        full = re.search(r"exceeded quota: ([^,]+), requested: (\S+), used: (\S+), limited: (\S+)", message)
        known = f"quota {full[1]} allows {full[4]}, {full[3]} is used, and it asks for {full[2]}" if full else ""
        return make(
            Reason.QUOTA_EXCEEDED,
            sentence(Reason.QUOTA_EXCEEDED, known),
            "Wait until others end, or raise the quota; it then starts by itself.",
        )
    for pattern, cause, kind, field in _MISSING:
        if found := re.search(pattern, message):
            return make(
                cause, f"{kind} {found[1]} does not exist{_where(cause)}.", f"Create it, or correct {field}; it then starts by itself."
            )
    if unsaid := re.search(r"failed quota: ([^:]+): must specify (\S+)(?: for: (\S+?))?(?:;|$)", message):
        of = f" of container {unsaid[3]}" if unsaid[3] else ""
        known = f"quota {unsaid[1]} requires {unsaid[2]}{of} to be set"
        return make(
            Cause.FAILED_CREATE,
            sentence(Cause.FAILED_CREATE, known),
            f"Set resources.{unsaid[2]}." if "." in unsaid[2] else f"Set {unsaid[2]}.",
        )
    if ranged := re.search(r"((?:maximum|minimum) \S+ usage per \S+ is [^,]+, but \w+ is [^,]+?)(?:\.|,|$)", message):
        return make(
            Cause.FAILED_CREATE,
            sentence(Cause.FAILED_CREATE, ranged[1]),
            "Change resources of its container, or have the namespace's LimitRange changed.",
        )
    if standard := re.search(r'violates PodSecurity "([^":]+)[^"]*": (.*)', message, re.DOTALL):
        known = f"its pod breaks the namespace's Pod Security Standard {standard[1]}"
        broken = ", ".join(dict.fromkeys(re.findall(r"(?:^|, )([\w ./!=-]+?) \(", standard[2])))
        return make(
            Cause.FAILED_CREATE,
            sentence(Cause.FAILED_CREATE, known),
            f"Set in its securityContext what is named: {broken}." if broken else "See the detail.",
        )
    if hook := re.search(r'admission webhook "([^"]+)" denied the request(?: without explanation)?:? ?(.*)', message, re.DOTALL):
        return make(
            Cause.FAILED_CREATE,
            sentence(Cause.FAILED_CREATE, _no(f"admission webhook {hook[1]}", hook[2])),
            "Change the Job as it asks, or ask whoever runs it.",
        )
    if policy := re.search(r"ValidatingAdmissionPolicy '([^']+)'.* denied request: (.*)", message, re.DOTALL):
        return make(
            Cause.FAILED_CREATE,
            sentence(Cause.FAILED_CREATE, _no(f"policy {policy[1]}", policy[2])),
            "Change the Job as it asks, or ask whoever set it.",
        )
    if "failed calling webhook" in message:
        named = re.search(r'failed calling webhook "([^"]+)"', message)
        known = f"admission webhook {named[1] if named else 'of it'} does not answer"
        return make(Cause.FAILED_CREATE, sentence(Cause.FAILED_CREATE, known), "Kubernetes keeps trying. Ask whoever runs the cluster.")
    return make(
        Cause.FAILED_CREATE,
        sentence(Cause.FAILED_CREATE, "it may not create the pod"),
        "An admission rule or policy says no: the detail names it.",
    )


_MISSING: tuple[tuple[str, Cause, str, str], ...] = (
    (r'serviceaccount "(?:[^"/]*/)?([^"]+)" not found', Cause.SERVICE_ACCOUNT_MISSING, "ServiceAccount", "serviceAccountName"),
    (r"no PriorityClass with name (\S+) was found", Cause.PRIORITY_CLASS_MISSING, "PriorityClass", "priorityClassName"),
    (r'RuntimeClass "([^"]+)" not found', Cause.RUNTIME_CLASS_MISSING, "RuntimeClass", "runtimeClassName"),
)


def _where(cause: Cause) -> str:
    return " in this namespace" if cause is Cause.SERVICE_ACCOUNT_MISSING else " on this cluster"


def _no(who: str, why: str) -> str:
    return f"{who} says no" + (f": {why.strip().rstrip('.')}" if why.strip() else "")
