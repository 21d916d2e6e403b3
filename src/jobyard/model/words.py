"""The words for states, reasons and causes: one table for the command line and the page.

Each stands by itself at the top of a page ("Ran out of memory"), after a state ("Failed: ran out of memory"), and before what is known
besides ("Ran out of memory: it needed more than the 2Gi it may use"). The words in CamelCase stand in JSON, in tables and in details alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from jobyard.model.cause import Cause
from jobyard.model.run import Reason, State

STATES: Mapping[State, str] = {
    State.PENDING: "waiting",
    State.RUNNING: "running",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.LOST: "lost",
    State.SKIPPED: "not started",
}

_IMAGE = "Could not fetch the program"
_START = "Could not start the program"

REASONS: Mapping[str, str] = {
    Reason.WAITING_FOR_STEP: "Waiting for another step",
    Reason.WAITING_FOR_LIMIT: "Waiting for its turn",
    Reason.WAITING_FOR_POD: "Waiting for its pod to start",
    Reason.RETRY_BACK_OFF: "Waiting for its next try",
    Reason.QUOTA_EXCEEDED: "Waiting for room in the namespace's quota",
    Reason.WAITING_FOR_NAME: "Waiting for the name of its Job to be free",
    Reason.HELD: "Held until its source records that it was taken (in Git, by a push)",
    Reason.INCOMPLETE: "Its request was cut short: objects it brings are missing",
    Reason.NO_RIGHT: "Waiting for a right that is missing",
    Reason.SUSPENDED: "Suspended",
    Reason.CANCELLED: "Cancelled",
    Reason.TIMEOUT: "Took longer than its timeout allows",
    Reason.START_TIMEOUT: "Did not start within its startTimeout",
    Reason.STEP_FAILED: "A step failed",
    Reason.NEEDS_FAILED: "Not started, because what it needs failed",
    Reason.NOT_NEEDED: "Not needed",
    Reason.RUN_FAILED: "Not started, because another step had failed",
    Reason.NAME_TAKEN: "Another Job has its name",
    Reason.REFUSED: "Refused by the cluster",
    Reason.OUTPUT_MISSING: "An output that it needs is missing",
    Reason.JOB_VANISHED: "Somebody deleted its Job before it ended",
    Reason.NAMESPACE_TERMINATING: "Its namespace is being deleted",
    Reason.ENGINE_FAILED: "Jobyard itself failed",
    Reason.REUSED: "Not run again, because it had succeeded",
    Cause.ERR_IMAGE_PULL: _IMAGE,
    Cause.IMAGE_PULL_BACK_OFF: _IMAGE,
    Cause.ERR_IMAGE_NEVER_PULL: _IMAGE,
    Cause.INVALID_IMAGE_NAME: _IMAGE,
    Cause.IMAGE_INSPECT_ERROR: _IMAGE,
    Cause.REGISTRY_UNAVAILABLE: _IMAGE,
    Cause.START_ERROR: _START,
    Cause.POST_START_HOOK: _START,
    Cause.CONTAINER_CONFIG: "Its settings can't be used",
    Cause.RUNS_AS_ROOT: "Would run as root, which its runAsNonRoot forbids",
    Cause.EXIT_CODE: "Ended with an error",
    Cause.SIGNAL: "Was ended by a signal",
    Cause.OUT_OF_MEMORY: "Ran out of memory",
    Cause.UNHEALTHY: "Did not answer its health check",
    Cause.CRASH_LOOP: "Ends again and again",
    Cause.DEADLINE_EXCEEDED: "Took longer than it is allowed to",
    Cause.EVICTED: "Was evicted from its node",
    Cause.PREEMPTED: "Had to make room for something more important",
    Cause.NODE_LOST: "Lost its node",
    Cause.POD_FAILED: "Its pod failed",
    Cause.BACKOFF_LIMIT: "Failed more often than it is allowed to",
    Cause.FAILURE_POLICY: "Failed in a way that is not tried again",
    Cause.FAILED_INDEXES: "Some of its parts failed",
    Cause.TOO_MANY_FAILED_INDEXES: "More of its parts failed than is allowed",
    Cause.FAILED: "Failed",
    Cause.SECRET_MISSING: "A Secret is missing",
    Cause.SECRET_KEY_MISSING: "A Secret lacks a key",
    Cause.CONFIG_MAP_MISSING: "A ConfigMap is missing",
    Cause.CONFIG_MAP_KEY_MISSING: "A ConfigMap lacks a key",
    Cause.SERVICE_ACCOUNT_MISSING: "Its ServiceAccount is missing",
    Cause.PRIORITY_CLASS_MISSING: "Its PriorityClass is missing",
    Cause.RUNTIME_CLASS_MISSING: "Its RuntimeClass is missing",
    Cause.CLAIM_MISSING: "A PersistentVolumeClaim is missing",
    Cause.CLAIM_UNBOUND: "Waiting for storage",
    Cause.FAILED_MOUNT: "Could not mount a volume",
    Cause.UNSCHEDULABLE: "Waiting for a place on the cluster",
    Cause.SANDBOX: "Its node could not set it up",
    Cause.FAILED_CREATE: "Refused by the cluster",
}


def words(reason: str) -> str:
    """The words for a reason or a cause; for one that only Kubernetes knows, itself."""
    return REASONS.get(reason, reason)


def clause(reason: str) -> str:
    """The same as it goes on within a sentence."""
    found = words(reason)
    return found[:1].lower() + found[1:] if reason in REASONS and not found.startswith("Jobyard") else found


def sentence(reason: str, known: str = "") -> str:
    """The words as a sentence, and what is known besides."""
    return f"{words(reason)}: {known}." if known else f"{words(reason)}."
