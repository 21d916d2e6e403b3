"""What the files of a repository may ask for: whoever may push to it may have that, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobyard.files.borders import Budget, TooMuch
from jobyard.files.document import Document
from jobyard.files.namespaces import Placed
from jobyard.files.pod_security.judge import judge, unread
from jobyard.files.pod_security.pods import knows, pod_of
from jobyard.model import belongings
from jobyard.model.belongings import Belonging
from jobyard.model.finding import Finding
from jobyard.model.pod_level import PodLevel
from jobyard.model.template import Path as TreePath
from jobyard.schema import spell

KINDS = frozenset(["Job", "ConfigMap", "Secret"])
DEFAULT_ACCOUNT = "default"
"""The service account of a pod that names none. Others, our own among them, may do more."""
_ACCOUNT_TYPE = "kubernetes.io/service-account-token"
_ACCOUNT_NAME = "kubernetes.io/service-account.name"
"""Into a Secret of this type Kubernetes puts a token of the account that this annotation names."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the files of a repository may ask for."""

    default_namespace: str
    namespaces: frozenset[str] | None = field(default_factory=frozenset)
    """Namespaces beside the default one; None for any."""
    kinds: frozenset[str] | None = KINDS
    """Kinds of objects, as `Service` or `RayJob.ray.io`; None for any."""
    pods: PodLevel = PodLevel.BASELINE
    """The level of the Pod Security Standards that pods keep to. Below ANY, a kind of which we don't know what pods it makes has to be
    named in `kinds` with its group."""
    service_accounts: frozenset[str] | None = field(default_factory=frozenset)
    """Service accounts that pods may have beside `default`; None for any."""
    finalizers: bool = False
    """Whether objects may bring finalizers: then who pushes can keep them from being deleted."""

    def allows_namespace(self, name: str) -> bool:
        return self.namespaces is None or name == self.default_namespace or name in self.namespaces

    def allows_kind(self, api_version: str, name: str) -> bool:
        return self.kinds is None or name in self.kinds or _with_group(api_version, name) in self.kinds

    def allows_account(self, name: object) -> bool:
        return self.service_accounts is None or name in (None, "", DEFAULT_ACCOUNT, *self.service_accounts)


def beyond(placed: Sequence[Placed], policy: Policy, budget: Budget) -> list[Finding]:
    """A mistake for each thing in manifests that gives more power than the policy allows: pods, service accounts, finalizers. `budget`: what
    their reading has left. What goes beyond it is the last of the mistakes."""
    found: dict[Finding, None] = {}  # several steps may name one file, and several rules one place
    try:
        for each in placed:
            budget.stride(each.document.at)
            for finding in _beyond(each.document, policy, budget):
                budget.mistake(finding.position)
                found[finding] = None
    except TooMuch as much:
        found[much.finding] = None
    return list(found)


def _beyond(document: Document, policy: Policy, budget: Budget) -> Iterator[Finding]:
    tree: dict[str, Any] = document.tree
    api_version, kind = str(tree.get("apiVersion")), str(tree.get("kind"))
    if belongings.of(api_version, kind) is Belonging.REFUSED:
        return
    if policy.pods is PodLevel.ANY and (policy.service_accounts is not None or not policy.finalizers):
        yield from unread(document)  # any other level has it said, too
    yield from _pods(document, api_version, kind, policy)
    yield from _accounts(document, api_version, kind, policy)
    if not policy.finalizers:
        yield from _finalizers(document, budget)


def _pods(document: Document, api_version: str, kind: str, policy: Policy) -> Iterator[Finding]:
    if knows(api_version, kind):
        yield from judge(document, policy.pods)
    elif policy.pods is not PodLevel.ANY and _with_group(api_version, kind) not in (policy.kinds or ()):
        yield Finding(
            position=document.at(("kind",)),
            what=f"kind {kind} of {api_version}, whose pods can't be judged while pods: {policy.pods} holds",
            expected="a kind of Kubernetes' own",
            remedy=f"take it out, or allow it by name: --allow-kind {_with_group(api_version, kind)} (in a service's settings: kinds)",
        )


def _accounts(document: Document, api_version: str, kind: str, policy: Policy) -> Iterator[Finding]:
    if policy.service_accounts is None:
        return
    pod, named = pod_of(document), list[tuple[TreePath, object]]()
    if pod is not None:
        named = [((*pod.spec.path, key), pod.spec.value.get(key)) for key in ("serviceAccountName", "serviceAccount")]
    elif kind == "Secret" and "/" not in api_version and document.tree.get("type") == _ACCOUNT_TYPE:
        metadata = document.tree.get("metadata")
        annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
        named = [(("metadata", "annotations", _ACCOUNT_NAME), annotations.get(_ACCOUNT_NAME))] if isinstance(annotations, dict) else []
    for path, name in named:
        if not policy.allows_account(name):
            what = "whose token this Secret asks for" if pod is None else "which is not allowed in this repository"
            yield Finding(
                position=document.at(path),
                what=f'service account "{str(name)[:80]}", {what}',
                expected=f"one of {', '.join(sorted({DEFAULT_ACCOUNT, *policy.service_accounts}))}",
                remedy=f"remove it, or allow it: --allow-service-account {str(name)[:80]} (in a service's settings: serviceAccounts)",
            )


def _finalizers(document: Document, budget: Budget) -> Iterator[Finding]:
    """Wherever metadata stand: of the object itself, of what it is a template for."""

    def look(tree: Any, path: TreePath) -> Iterator[TreePath]:
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
            budget.step(lambda: document.at(path))
            if key == "metadata" and isinstance(value, dict) and value.get("finalizers"):
                yield (*path, key, "finalizers")
            yield from look(value, (*path, key))

    for path in look(document.tree, ()):
        yield Finding(
            position=document.at(path, key=True),
            what=f"{spell(path)}, which would keep finished objects from being deleted",
            expected="none",
            remedy="remove it, or allow it: --allow-finalizers (in a service's settings: finalizers: true)",
        )


def _with_group(api_version: str, kind: str) -> str:
    """A kind as kubectl spells one that others may bear, too: `RayJob.ray.io`."""
    return f"{kind}.{api_version.rpartition('/')[0]}"
