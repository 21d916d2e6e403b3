"""What a forge tells us of a push: who may say so, and which branch moved. Pure."""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs

from jobyard.model.errors import JobyardError

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


class Proof(Protocol):
    """Whether who speaks knows the secret: shown by what is said, as it is said."""

    def update(self, piece: bytes, /) -> None:
        """Some more of the body."""
        ...

    def holds(self) -> bool:
        """Whether the body that is now whole is signed."""
        ...


def proof(forge: str, headers: Mapping[str, str], secret: str) -> Proof:
    """What a delivery to /webhooks/FORGE must prove. `headers` by lower-case name. Raises Refused for what no body could prove."""
    kind = FORGES.get(forge)
    if kind is None:
        raise Refused(status=404, message=f"no such webhook; there are {', '.join(FORGES)}")
    if not secret:
        raise Refused(status=503, message="No webhook secret is set")
    found = kind.proof(headers, secret)
    if found is None:
        raise Refused(status=400, message="Invalid webhook signature")
    return found


def understand(forge: str, headers: Mapping[str, str], body: bytes) -> Delivery:
    """What a delivery tells whose proof holds. Raises Refused."""
    try:
        payload = _payload(headers.get("content-type", ""), body)
    except (ValueError, RecursionError):
        raise Refused(status=400, message="The payload is not JSON") from None
    branches = FORGES[forge].branches(payload) if isinstance(payload, dict) else {}
    return Delivery(branches={branch: commit for branch, commit in branches.items() if branch})


def read(forge: str, headers: Mapping[str, str], body: bytes, secret: str) -> Delivery:
    """A whole delivery to /webhooks/FORGE. Raises Refused."""
    told = proof(forge, headers, secret)
    told.update(body)
    if not told.holds():
        raise Refused(status=400, message="Invalid webhook signature")
    return understand(forge, headers, body)


def _payload(media: str, body: bytes) -> Any:
    if media.split(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        form = parse_qs(body.decode())
        if "payload" in form:
            return json.loads(form["payload"][0])
    return json.loads(body)


class _Mac:
    """A body's HMAC by the secret, against the one that was told."""

    def __init__(self, algorithm: str, secret: str, told: str) -> None:
        self._mac = hmac.new(os.fsencode(secret), digestmod=algorithm)
        self._told = told.strip().lower().encode(errors="replace")
        self.update = self._mac.update

    def holds(self) -> bool:
        return hmac.compare_digest(self._mac.hexdigest().encode(), self._told)


class _Known:
    """Who speaks has told the secret itself."""

    def update(self, piece: bytes) -> None:
        """Nothing in the body proves more."""

    def holds(self) -> bool:
        return True


class _GitHub:
    """X-Hub-Signature-256, or where it is missing the older X-Hub-Signature."""

    def proof(self, headers: Mapping[str, str], secret: str) -> Proof | None:
        newer = headers.get("x-hub-signature-256")
        if newer is not None:
            return _Mac("sha256", secret, newer.removeprefix("sha256=")) if newer.startswith("sha256=") else None
        older = headers.get("x-hub-signature", "")
        return _Mac("sha1", secret, older.removeprefix("sha1=")) if older.startswith("sha1=") else None

    def branches(self, payload: Mapping[str, Any]) -> dict[str, str]:
        return _of_ref(payload)


class _Gitea:
    """X-Gitea-Signature, or Forgejo's: the bare hex of SHA-256; they send GitHub's header too."""

    def proof(self, headers: Mapping[str, str], secret: str) -> Proof | None:
        for name in ("x-forgejo-signature", "x-gitea-signature"):
            if name in headers:
                return _Mac("sha256", secret, headers[name])
        return _GitHub().proof(headers, secret)

    def branches(self, payload: Mapping[str, Any]) -> dict[str, str]:
        return _of_ref(payload)


class _GitLab:
    """X-Gitlab-Token is the secret itself."""

    def proof(self, headers: Mapping[str, str], secret: str) -> Proof | None:
        told = headers.get("x-gitlab-token", "")
        return _Known() if hmac.compare_digest(os.fsencode(secret), told.encode(errors="replace")) else None

    def branches(self, payload: Mapping[str, Any]) -> dict[str, str]:
        return _of_ref(payload) if payload.get("object_kind", "push") == "push" else {}


class _Bitbucket:
    """X-Hub-Signature with SHA-256; Cloud tells `push.changes`, Server and Data Center `changes`."""

    def proof(self, headers: Mapping[str, str], secret: str) -> Proof | None:
        told = headers.get("x-hub-signature", "")
        return _Mac("sha256", secret, told.removeprefix("sha256=")) if told.startswith("sha256=") else None

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
