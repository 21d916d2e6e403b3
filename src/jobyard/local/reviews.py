"""Reviews of rights: whoever knows the token may do everything, and is told so."""

from __future__ import annotations

from typing import Any

from jobyard.local.status import ApiError

Tree = dict[str, Any]

GROUP, VERSION = "authorization.k8s.io", "v1"
_KINDS = {"selfsubjectaccessreviews": "SelfSubjectAccessReview", "selfsubjectrulesreviews": "SelfSubjectRulesReview"}
_ALL = ["*"]


def resources() -> list[Tree]:
    """The entries for discovery."""
    return [
        {"name": plural, "singularName": kind.lower(), "namespaced": False, "kind": kind, "verbs": ["create"]}
        for plural, kind in _KINDS.items()
    ]


def answer(plural: str, review: Tree) -> Tree:
    """What a review that was posted is answered. Raises ApiError (400, 404)."""
    kind = _KINDS.get(plural)
    if kind is None:
        raise ApiError(404, "the server could not find the requested resource", details={})
    if review.get("kind", kind) != kind or not isinstance(review.get("spec"), dict):
        raise ApiError(400, f"the body of the request is no {kind}")
    status: Tree = {"allowed": True, "reason": "the local cluster's token may do everything"}
    if kind == "SelfSubjectRulesReview":
        status = {
            "resourceRules": [{"verbs": _ALL, "apiGroups": _ALL, "resources": _ALL}],
            "nonResourceRules": [{"verbs": _ALL, "nonResourceURLs": _ALL}],
            "incomplete": False,
        }
    return {**review, "kind": kind, "apiVersion": f"{GROUP}/{VERSION}", "metadata": review.get("metadata") or {}, "status": status}
