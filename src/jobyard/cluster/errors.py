"""A Status of Kubernetes becomes an error of ours, once, from its structured fields."""

from __future__ import annotations

import dataclasses
import re

from jobyard.cluster.answers import Unreadable, decode
from jobyard.model.errors import (
    Conflict,
    Forbidden,
    NamespaceTerminating,
    NoRoom,
    NotFound,
    Rejected,
    Unauthorized,
    Unavailable,
    WatchExpired,
)
from jobyard.model.objects import Object

_MISSING = re.compile(
    r' is forbidden: User "([^"]{1,300})" cannot (\w+) resource "([^"]+)" in API group "([^"]*)"(?: in the namespace "([^"]+)")?'
)
"""How Kubernetes says that a right is missing. An admission hook's refusal is Forbidden, too, and names nobody."""
_MAYBE = {408, 429, 500, 502, 503, 504}
"""Answers after which the same call may be repeated: slow down (429), and those that do not say whether the call was done."""


class Cause(Object, frozen=True, kw_only=True):
    field: str = ""
    message: str = ""
    reason: str = ""


class Details(Object, frozen=True, kw_only=True):
    retry_after_seconds: int | None = None
    causes: tuple[Cause, ...] = ()


class Status(Object, frozen=True, kw_only=True):
    message: str = ""
    reason: str = ""
    code: int = 0
    details: Details | None = None


LONGEST_WAIT = 300.0
"""Seconds that an answer may ask us to wait, in its header or its body: who asks for more is asked again all the same."""


def read_status(body: bytes) -> Status | None:
    """The Status in an answer's body; None when it is something else (a proxy's page)."""
    try:
        return decode(body, Status)
    except Unreadable:
        return None


def seconds(retry_after: str | None) -> float | None:
    """What a Retry-After asks for, bounded; None when it asks for nothing that we understand."""
    return _bounded(float(retry_after)) if retry_after and retry_after.isascii() and retry_after.isdigit() else None


def _bounded(asked: float | None) -> float | None:
    return None if asked is None else min(max(asked, 0.0), LONGEST_WAIT)


def error(*, server: str, action: str, code: int, body: bytes, retry_after: str | None) -> Rejected | Unavailable:
    """The error of ours that an answer of 400 or more stands for."""
    status = read_status(body) or Status()
    message = status.message or body[:200].decode(errors="replace").strip() or f"HTTP {code}"
    if code in _MAYBE:
        details = status.details or Details()
        asked = seconds(retry_after) if retry_after else _bounded(details.retry_after_seconds)
        what = "asks Jobyard to slow down" if code == 429 else f"answered {code} ({message})"
        return Unavailable(server=server, what=what, retry_after=asked)
    kind: type[Rejected] = {401: Unauthorized, 404: NotFound, 409: Conflict, 410: WatchExpired}.get(code, Rejected)
    if code == 403 and any(cause.reason == "NamespaceTerminating" for cause in (status.details or Details()).causes):
        kind = NamespaceTerminating
    if code == 403 and any(words in message for words in ("exceeded quota", "status unknown for quota")):
        # Quota and lack of rights are both "Forbidden", and nothing but the words tells them apart. A quota that was just made is counted soon.
        kind = NoRoom
    if code == 403 and kind is Rejected:
        refused = Forbidden(action=action, status=code, reason=status.reason, message=message)
        if found := _MISSING.search(message):
            user, verb, resource, group, namespace = found.groups("")
            right = f"{verb} {resource}{f'.{group}' if group else ''}"
            refused = dataclasses.replace(refused, who=f"`{user}`", right=right, namespace=namespace)
        return refused
    return kind(action=action, status=code, reason=status.reason, message=message)
