"""Key to names, labels, annotations: the only place that spells them.

Names come from keys, never from `generateName`: the same request always means the same objects, so a create that is tried
again after a crash meets its own first try. Everything below is a pure function of the run's key, the step and the attempt.
"""

from __future__ import annotations

import base64
import hashlib
import re

MANAGED_BY = "app.kubernetes.io/managed-by"
JOBYARD = "jobyard"
RUN = "jobyard.dev/run"
STEP = "jobyard.dev/step"
ATTEMPT = "jobyard.dev/attempt"
ROLE = "jobyard.dev/role"
TRIGGER = "jobyard.dev/trigger"
STATE = "jobyard.dev/state"
"""On a run's record only: its state, so that unfinished runs are one label selector away."""

STOP = "jobyard.dev/stop"
"""Annotation on a Job that we stopped: the Reason. Set in the same patch that suspends it."""
STOPPED_AT = "jobyard.dev/stopped-at"
"""Annotation on a Job that we stopped: when (RFC 3339)."""
TTL = "jobyard.dev/ttl-seconds-after-finished"
"""Annotation: the manifest's own ttlSecondsAfterFinished, kept from Kubernetes until the run is released."""
CANCEL = "jobyard.dev/cancel"
"""Annotation on a run's record: when somebody asked to cancel it (RFC 3339)."""
RELEASED = "jobyard.dev/released"
"""Annotation on a run's record: when the source had let go (RFC 3339)."""
OPEN = "jobyard.dev/open"
"""Label on a run's record until it is released: so that what a source still has to care for is one selector away."""
HELD = "jobyard.dev/held"
"""Annotation on a run's record: nothing of it may start yet."""

SCOPES = "jobyard.dev/limits"
"""Annotation on a run's record: the scopes of the limits that it counts for, with commas."""
SCOPE = "jobyard.dev/limit"
"""Annotation on the ConfigMap of a limit's places: its scope."""

PARTS = "jobyard.dev/parts"
"""Annotation on a run's record: in how many objects its workflow is kept, when it is more than one."""
PAGES = "jobyard.dev/pages"
"""Annotation on a run's record: in how many further objects its results are kept, when they are not in the record itself."""

SELECTOR = f"{MANAGED_BY}={JOBYARD}"
RECORD_SELECTOR = f"{SELECTOR},{ROLE}=run"

JOB_NAME_LIMIT = 52
"""63, less the 11 characters that a pod's name adds to its Job's (`facts/kubernetes.md`)."""


def digest(*parts: str) -> str:
    """Ten characters that stand for `parts`: 50 bits of SHA-256 in lower-case base32, safe in any Kubernetes name."""
    joined = "\0".join(parts).encode()
    return base64.b32encode(hashlib.sha256(joined).digest())[:10].decode().lower()


def slug(text: str, limit: int) -> str:
    """`text` as a DNS label of at most `limit` characters; never empty."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-")
    return plain or "x"


def run_id(workflow: str, trigger: str, key: str) -> str:
    """The id of the run that this trigger's key stands for; also the name of its record."""
    return f"{slug(workflow, JOB_NAME_LIMIT - 11)}-{digest('run', trigger, key)}"


def part(run: str, number: int) -> str:
    """The object with the n-th further part of a run's workflow."""
    return f"{run}-w{number}"


def page(run: str, number: int) -> str:
    """The object with the n-th page of a run's results."""
    return f"{run}-p{number}"


def job_name(run: str, role: str, step: str, attempt: int) -> str:
    """The name of the Job of one attempt. The digest keeps apart steps whose slugs are alike."""
    return f"{slug(step, JOB_NAME_LIMIT - 11)}-{digest(role, run, step, str(attempt))}"


def label_value(text: str) -> str:
    """`text` if it may be a label value, else its slug."""
    if len(text) <= 63 and re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", text):
        return text
    return slug(text, 63)


def record_key(role: str, step: str) -> str:
    """Under which key of the run's record a step's result stands. Readable where Kubernetes allows the step's name."""
    plain = len(step) <= 200 and re.fullmatch(r"[A-Za-z0-9_.-]+", step)
    return f"{role}.{step}" if plain else f"{role}.{slug(step, 100)}-{digest(step)}"
