"""Why no node takes a pod. The scheduler says it only in words; these are its own, stable since 1.0."""

from __future__ import annotations

import re

from jobyard.model.cause import Cause, Diagnosis, maker
from jobyard.model.objects import Pod
from jobyard.model.words import sentence

_RESOURCE = re.compile(r"Insufficient ([\w./-]*\w)")

_CAUSES: tuple[tuple[str, str, str], ...] = (
    ("Too many pods", "every node runs as many pods as it may", "wait until others end"),
    (
        "free ports",
        "a port of the node that it needs (hostPort) is taken on every node",
        "leave hostPort out, or wait until the other ends",
    ),
    (
        "pod anti-affinity",
        "every node runs a pod that its podAntiAffinity keeps it away from",
        "wait until that ends, or correct the podAntiAffinity",
    ),
    ("pod affinity", "no node runs a pod that its podAffinity requires", "correct the podAffinity, or start the other first"),
    ("topology spread", "its topologySpreadConstraints fit no node", "correct them, or label the nodes"),
    (
        "node affinity/selector",
        "no node has the labels that its nodeSelector or affinity requires",
        "correct the nodeSelector, or label a node",
    ),
    ("node selector", "no node has the labels that its nodeSelector or affinity requires", "correct the nodeSelector, or label a node"),
    ("volume node affinity", "its volume is bound to a node that can't take it", "make room on that node, or use another volume"),
    ("unschedulable", "nodes are cordoned", "uncordon one"),
)
"""What the scheduler says, what that means, what to do."""


def no_node(message: str, pod: str, of: Pod | None = None) -> Diagnosis:
    """What keeps the scheduler from placing a pod. `of`: the pod, where it is still there."""
    make = maker(pod=pod, detail=message)
    claim = re.search(r'persistentvolumeclaim "([^"]+)" (not found|is being deleted|bound to non-existent)', message)
    if claim and claim[2] == "not found":
        return make(
            Cause.CLAIM_MISSING,
            f"PersistentVolumeClaim {claim[1]} does not exist in this namespace.",
            "Create the claim, or correct its name.",
        )
    if claim:
        why = "is being deleted" if claim[2] == "is being deleted" else "is bound to a volume that is gone"
        return make(
            Cause.CLAIM_UNBOUND,
            f"PersistentVolumeClaim {claim[1]} {why}.",
            "Make a new claim, or correct the name of the one that is meant.",
        )
    if "unbound immediate PersistentVolumeClaims" in message:
        return make(
            Cause.CLAIM_UNBOUND,
            sentence(Cause.CLAIM_UNBOUND, "a PersistentVolumeClaim of its pod has no volume yet"),
            "Check the claim's storage class and size: kubectl describe pvc",
        )
    if missing := re.search(r'resourceclaim(?:template)? "([^"]+)" not found', message):
        return make(
            Cause.UNSCHEDULABLE, f"Resource claim {missing[1]} does not exist in this namespace.", "Create it, or correct its name."
        )
    resources = list(dict.fromkeys(_RESOURCE.findall(message)))
    causes: list[str] = []
    remedies: list[str] = []
    if resources:
        causes.append(_lacking(resources, of))
        remedies.append("ask for less in resources.requests, or add nodes")
    for words, cause, remedy in _CAUSES:
        if words in message and cause not in causes:
            causes.append(cause)
            remedies.append(remedy)
    if taints := sorted(set(re.findall(r"untolerated taint\(?s?\)? \{([^}]+)\}", message))):
        causes.append(f"nodes have taints that it does not tolerate ({'; '.join(taint.strip() for taint in taints)})")
        remedies.append("add a toleration")
    elif "untolerated taint" in message:
        causes.append("nodes have taints that it does not tolerate")
        remedies.append("add a toleration")
    remedy = "; ".join(dict.fromkeys(remedies))
    remedy = f"{remedy[:1].upper()}{remedy[1:]}." if remedy else "The detail has the scheduler's own words."
    if resources and len(causes) == 1:
        return make(Cause.UNSCHEDULABLE, f"Waiting for {' and '.join(resources)} on the cluster: {causes[0]}.", remedy)
    return make(Cause.UNSCHEDULABLE, sentence(Cause.UNSCHEDULABLE, "; ".join(causes) or "no node fits its pod"), remedy)


def _lacking(resources: list[str], of: Pod | None) -> str:
    """What no node has enough of, and how much is asked for where one container asks."""
    wanted = []
    for resource in resources:
        asked = [(each.resources.requests or {}).get(resource) for each in of.spec.containers] if of else []
        if len(found := [amount for amount in asked if amount is not None]) == 1:
            wanted.append(f"{found[0]} {resource}" if len(resources) > 1 else str(found[0]))
    named = " and ".join(resources)
    if len(wanted) == len(resources):
        return f"it needs {' and '.join(wanted)}, and no node has that much free"
    return f"no node has enough {named} left"
