"""What becomes of an object that stands beside Jobs."""

from __future__ import annotations

import pytest

from jobyard.model import belongings
from jobyard.model.belongings import Belonging


@pytest.mark.parametrize(
    ("api_version", "kind", "expected"),
    [
        ("v1", "ConfigMap", Belonging.BELONGS),
        ("v1", "Secret", Belonging.BELONGS),
        ("v1", "Service", Belonging.BELONGS),
        ("apps/v1", "Deployment", Belonging.BELONGS),
        ("resource.k8s.io/v1", "ResourceClaimTemplate", Belonging.BELONGS),
        ("example.com/v1alpha1", "Thing", Belonging.BELONGS),
        ("example.com/v1", "Role", Belonging.BELONGS),
        ("v1", "PersistentVolumeClaim", Belonging.KEPT),
        ("v1", "ServiceAccount", Belonging.KEPT),
        ("rbac.authorization.k8s.io/v1", "Role", Belonging.REFUSED),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", Belonging.REFUSED),
        ("rbac.authorization.k8s.io/v1beta1", "ClusterRole", Belonging.REFUSED),
        ("coordination.k8s.io/v1", "Lease", Belonging.REFUSED),
        ("v1", "Namespace", Belonging.REFUSED),
        ("v1", "PersistentVolume", Belonging.REFUSED),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", Belonging.REFUSED),
        ("storage.k8s.io/v1", "StorageClass", Belonging.REFUSED),
        ("scheduling.k8s.io/v1", "PriorityClass", Belonging.REFUSED),
    ],
)
def test_each_kind_has_its_place(api_version: str, kind: str, expected: Belonging) -> None:
    assert belongings.of(api_version, kind) is expected
