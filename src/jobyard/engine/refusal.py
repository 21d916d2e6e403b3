"""What it means that the cluster refused a create: whether to wait, or never. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from jobyard.model.errors import Forbidden, NamespaceTerminating, NoRoom, NotFound, Rejected, Unauthorized
from jobyard.model.run import Reason

LOOK_FOR_ROOM = timedelta(seconds=5)
"""How long to wait before asking again a namespace whose quota is full: nothing tells us when room comes."""
NOTHING_TELLS = (Reason.QUOTA_EXCEEDED, Reason.NO_RIGHT)
"""What no watch says the end of. It keeps every Job of a namespace alike."""
LOOK_FOR_RIGHTS = timedelta(seconds=5)
"""How long to wait for a right, or for credentials that are accepted: a token is renewed, a RoleBinding replaced."""
ADMISSION_TRIES, ADMISSION_WAIT = 3, timedelta(seconds=20)
"""An admission hook that says no may be mended, or may be about to start: it is asked so often, within a minute."""
INVALID_TRIES, INVALID_WAIT = 2, timedelta(seconds=1)
"""What is invalid stays so; but an API server that has just started may not know all yet."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a refusal means. `wait` is None when it is for good."""

    reason: Reason
    message: str
    wait: timedelta | None = None


class Tries:
    """How often a create was refused, each way by itself: a full quota, or a right that was missing, is no try of an admission hook."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[type[Rejected], bool | None]] = Counter()

    def one_more(self, error: Rejected, may: bool | None) -> int:
        """Which refusal of this way it is, from 1. `may`: as for `judge`."""
        self._counts[type(error), may] += 1
        return self._counts[type(error), may]


def judge(error: Rejected, tries: int, may: bool | None, namespace: str) -> Verdict:
    """What the `tries`-th refusal of the same create means (`Tries`). `may`: whether a review says that we have the right; None when nobody knows."""
    message = error.message
    match error:
        case NoRoom():
            return Verdict(reason=Reason.QUOTA_EXCEEDED, message=message, wait=LOOK_FOR_ROOM)
        case NamespaceTerminating():
            why = f"Namespace {namespace} is being deleted: nothing can start in it any more."
            return Verdict(reason=Reason.NAMESPACE_TERMINATING, message=why)
        case Unauthorized():
            why = f"The cluster does not accept Jobyard's credentials at the moment{f': {message}' if message else ''}."
            return Verdict(reason=Reason.NO_RIGHT, message=why, wait=LOOK_FOR_RIGHTS)
        case Forbidden() if may is not True:
            return Verdict(reason=Reason.NO_RIGHT, message=message, wait=LOOK_FOR_RIGHTS)
        case Forbidden():
            return Verdict(reason=Reason.REFUSED, message=message, wait=ADMISSION_WAIT if tries < ADMISSION_TRIES else None)
        case NotFound():
            return Verdict(reason=Reason.REFUSED, message=message)
    invalid = error.status in (400, 422) and tries < INVALID_TRIES
    return Verdict(reason=Reason.REFUSED, message=message, wait=INVALID_WAIT if invalid else None)
