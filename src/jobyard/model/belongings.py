"""What becomes of the objects that stand beside Jobs in a file: one rule for every trigger and face."""

from __future__ import annotations

from enum import StrEnum


class Belonging(StrEnum):
    """How an object that is no Job belongs to a run."""

    BELONGS = "belongs"
    """It is made before the run's Jobs, and goes with the run."""
    KEPT = "kept"
    """It holds data or identity: made if it is missing, never owned, never deleted."""
    REFUSED = "refused"
    """It gives rights, or is of no namespace: no run makes it. Who may apply it, does so first."""


_KEPT = {"": {"PersistentVolumeClaim", "ServiceAccount"}}
_RIGHTS = {"coordination.k8s.io": {"Lease"}, "rbac.authorization.k8s.io": {"Role", "RoleBinding"}}
"""Whoever has a Lease leads: a Jobyard, among others."""
_OF_NO_NAMESPACE = {
    "": {"ComponentStatus", "Namespace", "Node", "PersistentVolume"},
    "admissionregistration.k8s.io": {
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
    },
    "apiextensions.k8s.io": {"CustomResourceDefinition"},
    "apiregistration.k8s.io": {"APIService"},
    "authentication.k8s.io": {"SelfSubjectReview", "TokenReview"},
    "authorization.k8s.io": {"SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"},
    "certificates.k8s.io": {"CertificateSigningRequest", "ClusterTrustBundle"},
    "flowcontrol.apiserver.k8s.io": {"FlowSchema", "PriorityLevelConfiguration"},
    "internal.apiserver.k8s.io": {"StorageVersion"},
    "networking.k8s.io": {"IPAddress", "IngressClass", "ServiceCIDR"},
    "node.k8s.io": {"RuntimeClass"},
    "rbac.authorization.k8s.io": {"ClusterRole", "ClusterRoleBinding"},
    "resource.k8s.io": {"DeviceClass", "DeviceTaintRule", "ResourceSlice"},
    "scheduling.k8s.io": {"PriorityClass"},
    "storage.k8s.io": {"CSIDriver", "CSINode", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"},
    "storagemigration.k8s.io": {"StorageVersionMigration"},
}


def of(api_version: str, kind: str) -> Belonging:
    """How an object of this kind belongs to a run. A kind that nobody here knows is taken for one of a namespace; the cluster knows."""
    group = api_version.rpartition("/")[0]
    if kind in _RIGHTS.get(group, ()) or kind in _OF_NO_NAMESPACE.get(group, ()):
        return Belonging.REFUSED
    return Belonging.KEPT if kind in _KEPT.get(group, ()) else Belonging.BELONGS
