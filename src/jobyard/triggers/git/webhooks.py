"""What a forge tells us of a push: who may say so, and which branch moved. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from jobyard.model.errors import JobyardError

BODY_LIMIT = 25 * 1024 * 1024
"""GitHub sends no more."""
_HEADS = "refs/heads/"


class Refused(JobyardError):
    """A webhook's call is refused, with this HTTP status."""

    sentence = "{message}"
    status: int
    message: str


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What was told: the branches that moved, each with its new commit. None for a ping, or for news of anything else."""

    branches: Mapping[str, str] = field(default_factory=dict)


def read(forge: str, headers: Mapping[str, str], body: bytes, secret: str) -> Delivery:
    """A delivery to /webhooks/FORGE. `headers` by lower-case name. Raises Refused."""
    kind = FORGES.get(forge)
    if kind is None:
        raise Refused(status=404, message=f"no such webhook; there are {', '.join(FORGES)}")
    if not secret:
        raise Refused(status=503, message="No webhook secret is set")
    if not kind.is_signed(headers, body, secret):
        raise Refused(status=400, message="Invalid webhook signature")
    try:
        payload = _payload(headers.get("content-type", ""), body)
    except (ValueError, RecursionError):
        raise Refused(status=400, message="The payload is not JSON") from None
    branches = kind.branches(payload) if isinstance(payload, dict) else {}
    return Delivery(branches={branch: commit for branch, commit in branches.items() if branch})


def _payload(media: str, body: bytes) -> Any:
    if media.split(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        form = parse_qs(body.decode())
        if "payload" in form:
            return json.loads(form["payload"][0])
    return json.loads(body)


def _is_mac(algorithm: str, secret: str, body: bytes, told: str) -> bool:
    ours = hmac.new(secret.encode(), body, getattr(hashlib, algorithm)).hexdigest()
    return hmac.compare_digest(ours.encode(), told.strip().lower().encode(errors="replace"))


class _GitHub:
    """X-Hub-Signature-256, or where it is missing the older X-Hub-Signature."""

    def is_signed(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        newer = headers.get("x-hub-signature-256")
        if newer is not None:
            return newer.startswith("sha256=") and _is_mac("sha256", secret, body, newer.removeprefix("sha256="))
        older = headers.get("x-hub-signature", "")
        return older.startswith("sha1=") and _is_mac("sha1", secret, body, older.removeprefix("sha1="))

    def branches(self, payload: Mapping[str, Any]) -> dict[str, str]:
        return _of_ref(payload)


class _Gitea:
    """X-Gitea-Signature, or Forgejo's: the bare hex of SHA-256; they send GitHub's header too."""

    def is_signed(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        for name in ("x-forgejo-signature", "x-gitea-signature"):
            if name in headers:
                return _is_mac("sha256", secret, body, headers[name])
        return _GitHub().is_signed(headers, body, secret)

    def branches(self, payload: Mapping[str, Any]) -> dict[str, str]:
        return _of_ref(payload)


class _GitLab:
    """X-Gitlab-Token is the secret itself."""

    def is_signed(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        return hmac.compare_digest(secret.encode(), headers.get("x-gitlab-token", "").encode(errors="replace"))

    def branches(self, payload: Mapping[str, Any]) -> dict[str, str]:
        return _of_ref(payload) if payload.get("object_kind", "push") == "push" else {}


class _Bitbucket:
    """X-Hub-Signature with SHA-256; Cloud tells `push.changes`, Server and Data Center `changes`."""

    def is_signed(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        told = headers.get("x-hub-signature", "")
        return told.startswith("sha256=") and _is_mac("sha256", secret, body, told.removeprefix("sha256="))

    def branches(self, payload: Mapping[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        push = payload.get("push")
        for change in _list(push.get("changes")) if isinstance(push, dict) else ():
            new = change.get("new") if isinstance(change, dict) else None
            if isinstance(new, dict) and new.get("type", "branch") == "branch":
                target = new.get("target")
                found[str(new.get("name", ""))] = str(target.get("hash", "")) if isinstance(target, dict) else ""
        for change in _list(payload.get("changes")):
            if isinstance(change, dict) and str(change.get("refId", "")).startswith(_HEADS):
                found[str(change["refId"]).removeprefix(_HEADS)] = str(change.get("toHash", ""))
        return found


def _of_ref(payload: Mapping[str, Any]) -> dict[str, str]:
    ref = payload.get("ref")
    if not isinstance(ref, str) or not ref.startswith(_HEADS) or not ({"before", "after"} & payload.keys()):
        return {}
    return {ref.removeprefix(_HEADS): str(payload.get("after", ""))}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


FORGES: Mapping[str, _GitHub | _Gitea | _GitLab | _Bitbucket] = {
    "github": _GitHub(),
    "gitlab": _GitLab(),
    "gitea": _Gitea(),
    "forgejo": _Gitea(),
    "bitbucket": _Bitbucket(),
}
