"""How much pods may ask of their node: Kubernetes' Pod Security Standards, as a setting."""

from __future__ import annotations

from enum import StrEnum


class PodLevel(StrEnum):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, as of Kubernetes 1.36. Each level allows what the one before allows."""

    RESTRICTED = "restricted"
    """What is hardened by today's practice: no root, no new privileges."""
    BASELINE = "baseline"
    """No known way to the node: nothing of the host, no privileges; root in the container is fine."""
    ANY = "any"
    """Whatever the cluster allows; Kubernetes calls it `privileged`."""
