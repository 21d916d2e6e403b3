"""Key to names, labels, annotations: the only place that spells them.

Names come from keys, never from `generateName`: the same request always means the same objects, so a create that is tried
again after a crash meets its own first try. Everything below is a pure function of the run's key, the step and the attempt.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import NewType

MANAGED_BY = "app.kubernetes.io/managed-by"
JOBYARD = "jobyard"
DOMAIN = "jobyard.dev/"
"""What every label and annotation of ours begins with. Nobody else writes one: what users write is looked through for them (`files.reserved`)."""
RUN = "jobyard.dev/run"
"""Label on all that belongs to a run: the run's id."""
STEP = "jobyard.dev/step"
ATTEMPT = "jobyard.dev/attempt"
ROLE = "jobyard.dev/role"
TRIGGER = "jobyard.dev/trigger"
"""Label on all that belongs to a run, by `label_value`; annotation on the run's record: the trigger's name as it is."""

# --- on a run's record, whichever home it has: a ConfigMap, or the run's only Job ---

SERVICE = "jobyard.dev/service"
"""Label on a run's record: the service that began it."""
OPEN = "jobyard.dev/open"
"""Label until the run is released: so that what is still to be cared for is one selector away."""
STATE = "jobyard.dev/state"
"""Label: the run's state. In the Job home only from its release on; before, the Job's own status says it."""
ENDED = "jobyard.dev/ended"
"""Label from the release on: the day (UTC) on which the run ended. What bears it is not watched any more."""
PREFIX = "jobyard.dev/prefix"
"""Label: what stands before the id in the record's name."""
KEY = "jobyard.dev/key"
"""Annotation: the request's key, in the source's own words (`KEY_SHOWN` characters of it)."""
KEY_SHA256 = "jobyard.dev/key-sha256"
"""Annotation: SHA-256 of trigger and key. What bears another is never the same request, whatever its name."""
WORKFLOW = "jobyard.dev/workflow"
"""Annotation: the workflow's name."""
ORIGIN = "jobyard.dev/origin"
"""Annotation: where the run comes from, as JSON."""
REQUEST = "jobyard.dev/request"
"""Annotation in the Job home: what was asked, as JSON; what a trigger put in as literals is `***`."""
HELD = "jobyard.dev/held"
"""Annotation: nothing of the run may start yet."""
INCOMPLETE = "jobyard.dev/incomplete"
"""Annotation: what the run's Jobs need is not all there yet; who submits the same again completes it."""
WAITS = "jobyard.dev/waits"
"""Annotation: why Jobs that are due are not made (a full quota, a missing right), as JSON; written by who drives the run when it has waited for
a while, so that others can see it."""
CANCEL = "jobyard.dev/cancel"
"""Annotation: when somebody asked to cancel the run (RFC 3339)."""
FINISHED = "jobyard.dev/finished"
"""Annotation: when the run ended (RFC 3339)."""
REASON = "jobyard.dev/reason"
"""Annotation: why the run ended as it did."""
RELEASED = "jobyard.dev/released"
"""Annotation: when the source had let go (RFC 3339)."""
KEPT_UNTIL = "jobyard.dev/kept-until"
"""Annotation: the source has let go, but something still counts the run until then (RFC 3339)."""
RETENTION = "jobyard.dev/retention-seconds"
"""Annotation: how long after its end the run is kept, where its workflow says so."""
SCOPES = "jobyard.dev/limits"
"""Annotation: the scopes of the limits that the run counts for, with commas."""
OBJECTS = "jobyard.dev/objects"
"""Annotation: the objects that the run brought, `Kind/name` with commas. In the Job home they are made after the Job, and its pods wait for them."""
PARTS = "jobyard.dev/parts"
"""Annotation: in how many objects its workflow is kept, when it is more than one."""
PAGES = "jobyard.dev/pages"
"""Annotation: in how many further objects its results are kept, when they are not in the record itself."""

# --- on a Job ---

STOP = "jobyard.dev/stop"
"""Annotation on a Job that we stopped: the Reason. Set in the same patch that suspends it."""
STOPPED_AT = "jobyard.dev/stopped-at"
"""Annotation on a Job that we stopped: when (RFC 3339)."""
STARTED = "jobyard.dev/started"
"""Annotation on a Job that we stopped: when it had started (RFC 3339), which Kubernetes may clear."""
TTL = "jobyard.dev/ttl-seconds-after-finished"
"""Annotation: the manifest's own ttlSecondsAfterFinished, kept from Kubernetes until the run is released."""
DELETE_AT = "jobyard.dev/delete-at"
"""Annotation on a Job that we stopped and whose run is released: when its TTL is over (RFC 3339). No TTL of Kubernetes fires for it."""
EXPIRING = "jobyard.dev/expiring"
"""Label beside DELETE_AT: so that what we must delete by its TTL is one selector away."""

KEPT_LIMIT = "limits.jobyard.dev/"
"""Before a limit's name: which service's settings say its number."""
SCOPE = "jobyard.dev/limit"
"""Annotation on the ConfigMap of a limit's places: its scope."""

FACES = ("cli", "page")
"""Triggers that are no source: nobody waits for their runs but whoever looks, so the engine that drives such a run releases it."""

SELECTOR = f"{MANAGED_BY}={JOBYARD}"
WATCHED = f"{SELECTOR},!{ENDED}"
"""All of ours but the records of runs that are released."""
RECORD_SELECTOR = f"{SELECTOR},{ROLE}=run"

JOB_NAME_LIMIT = 52
"""63, less the 11 characters that a pod's name adds to its Job's (`facts/kubernetes.md`)."""
DIGEST = 16
"""Characters of a digest: 80 bits. At 40 messages a second, two that collide are not met in a million years."""
KEY_SHOWN = 1000
SHOWN = 100
"""Characters of what somebody wrote, and is no name, that a sentence tells."""
RunId = NewType("RunId", str)
"""A run's id: well-formed, wherever it came from."""
_RUN = re.compile(rf"(?:[a-z0-9](?:[a-z0-9-]{{0,{JOB_NAME_LIMIT}}}[a-z0-9])?-)?([a-z2-7]{{{DIGEST}}}(?:-[0-9]{{1,2}})?)")
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_OF_A_RUN = re.compile(rf"(?:.*-)?([a-z2-7]{{{DIGEST}}})(?:-[0-9]{{1,2}})?(-[wp][0-9]+)?")


def digest(*parts: str) -> str:
    """Sixteen characters that stand for `parts`: 80 bits of SHA-256 in lower-case base32, safe in any Kubernetes name."""
    joined = "\0".join(parts).encode()
    return base64.b32encode(hashlib.sha256(joined).digest())[:DIGEST].decode().lower()


def slug(text: str, limit: int) -> str:
    """`text` as a DNS label of at most `limit` characters; never empty."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-")
    return plain or "x"


def run_id(trigger: str, key: str) -> str:
    """The id of the run that this trigger's key stands for. It depends on nothing else."""
    return digest("run", trigger, key)


def key_sha256(trigger: str, key: str) -> str:
    """What tells this trigger's key from every other, in full."""
    return hashlib.sha256(f"{len(trigger)}:{trigger}{key}".encode()).hexdigest()


def prefix(workflow: str) -> str:
    """What stands before the id in the name of a run of this workflow: for people."""
    return slug(workflow, JOB_NAME_LIMIT - DIGEST - 4)


def record(prefix: str, run: str) -> str:
    """The name of a run's record, which people know the run by."""
    return f"{prefix}-{run}"


def read_run(text: str) -> RunId | None:
    """The id of the run that somebody names, by the name of its record or by its id; None for what is neither.

    The one reader for ids that come from outside: commands, labels, commits, pages. Nothing else is ever asked of the cluster.
    """
    found = _RUN.fullmatch(text) if len(text) <= JOB_NAME_LIMIT else None
    return RunId(found[1]) if found else None


def is_object_name(text: str) -> bool:
    """Whether an object of Kubernetes may have this name (RFC 1123, subdomain)."""
    return _NAME.fullmatch(text) is not None


def is_namespace(text: str) -> bool:
    """Whether a namespace may have this name (RFC 1123, label)."""
    return _NAMESPACE.fullmatch(text) is not None


def shown(text: str) -> str:
    """What somebody wrote, as a sentence may tell it: printable, and not too long."""
    plain = "".join(each if each.isprintable() else "?" for each in text[:SHOWN])
    return plain if len(text) <= SHOWN else f"{plain}..."


def part(run: str, number: int) -> str:
    """The object with the n-th further part of a run's workflow."""
    return f"{run}-w{number}"


def page(run: str, number: int) -> str:
    """The object with the n-th page of a run's results."""
    return f"{run}-p{number}"


def job_name(run: str, role: str, step: str, attempt: int) -> str:
    """The name of the Job of one attempt. The digest keeps apart steps whose slugs are alike."""
    return f"{slug(step, JOB_NAME_LIMIT - DIGEST - 1)}-{digest(role, run, step, str(attempt))}"


def is_ours(name: str) -> bool:
    """Whether an object of this name may be one of ours: the namespace's limits and what else begins with `jobyard`, or, as far as a name can
    tell, a run's record, a part or a page of it (an id that has no digit, one in thirty, looks like a word, and passes for one)."""
    if name == JOBYARD or name.startswith(f"{JOBYARD}-"):
        return True
    found = _OF_A_RUN.fullmatch(name)
    return found is not None and (bool(found[2]) or any(each.isdigit() for each in found[1]))


def label_value(text: str) -> str:
    """`text` if it may be a label value, else its slug and a digest: names that look alike do not share a label."""
    if len(text) <= 63 and re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", text):
        return text
    return f"{slug(text, 62 - DIGEST)}-{digest('label', text)}"


def record_key(role: str, step: str) -> str:
    """Under which key of the run's record a step's result stands. Readable where Kubernetes allows the step's name."""
    plain = len(step) <= 200 and re.fullmatch(r"[A-Za-z0-9_.-]+", step)
    return f"{role}.{step}" if plain else f"{role}.{slug(step, 100)}-{digest(step)}"
