"""Why something is not running, or failed: a stable word, one plain sentence, detail, remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """What a Diagnosis finds, in one stable word beside `Reason`: Kubernetes' own where it has one.

    A word of Kubernetes' that is not here (a node's reason to reject a pod) stands in a Diagnosis as it is.
    """

    # --- its image ---
    ERR_IMAGE_PULL = "ErrImagePull"
    IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
    ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull"
    INVALID_IMAGE_NAME = "InvalidImageName"
    IMAGE_INSPECT_ERROR = "ImageInspectError"
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    # --- its start ---
    START_ERROR = "StartError"
    POST_START_HOOK = "FailedPostStartHook"
    CONTAINER_CONFIG = "CreateContainerConfigError"
    RUNS_AS_ROOT = "RunsAsRoot"
    # --- its end ---
    EXIT_CODE = "ExitCode"
    SIGNAL = "Signal"
    OUT_OF_MEMORY = "OOMKilled"
    UNHEALTHY = "Unhealthy"
    CRASH_LOOP = "CrashLoopBackOff"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    POD_FAILED = "PodFailed"
    BACKOFF_LIMIT = "BackoffLimitExceeded"
    FAILURE_POLICY = "PodFailurePolicy"
    FAILED_INDEXES = "FailedIndexes"
    TOO_MANY_FAILED_INDEXES = "MaxFailedIndexesExceeded"
    FAILED = "Failed"
    # --- what it refers to ---
    SECRET_MISSING = "SecretMissing"  # noqa: S105
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    CONFIG_MAP_MISSING = "ConfigMapMissing"
    CONFIG_MAP_KEY_MISSING = "ConfigMapKeyMissing"
    SERVICE_ACCOUNT_MISSING = "ServiceAccountMissing"
    PRIORITY_CLASS_MISSING = "PriorityClassMissing"
    RUNTIME_CLASS_MISSING = "RuntimeClassMissing"
    CLAIM_MISSING = "PersistentVolumeClaimMissing"
    CLAIM_UNBOUND = "PersistentVolumeClaimUnbound"
    FAILED_MOUNT = "FailedMount"
    # --- its place ---
    UNSCHEDULABLE = "Unschedulable"
    SANDBOX = "FailedCreatePodSandBox"
    FAILED_CREATE = "FailedCreate"


LOG_TELLS_MORE = "Its log tells more."
"""A remedy that whoever tells it follows up with the end of the log, or the command that prints it."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why something is not running, or failed."""

    reason: str
    sentence: str
    """Complete, and without its subject: it follows "Step load failed.", or stands at the top of a page."""
    detail: str = ""
    """The words of whoever said so (Kubernetes, the container's runtime, the program), as they are."""
    remedy: str = ""
    pod: str = ""
    container: str = ""
    exit_code: int | None = None

    @property
    def has_log(self) -> bool:
        """Whether a container ran that may have written something."""
        return bool(self.container) and self.reason != Cause.START_ERROR and (self.exit_code is not None or self.remedy == LOG_TELLS_MORE)


Make = Callable[[str, str, str], Diagnosis]


def maker(*, pod: str = "", container: str = "", detail: str = "", exit_code: int | None = None) -> Make:
    """A short way to say a Diagnosis: reason, sentence, remedy."""

    def make(reason: str, sentence: str, remedy: str) -> Diagnosis:
        return Diagnosis(reason=reason, sentence=sentence, remedy=remedy, detail=detail, pod=pod, container=container, exit_code=exit_code)

    return make
