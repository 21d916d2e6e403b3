"""The API's errors, shaped as Kubernetes shapes them: a Status with code, reason, message and details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobyard.local.resources import Resource

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    414: "RequestURITooLong",
    415: "UnsupportedMediaType",
    422: "Invalid",
    500: "InternalError",
}


@dataclass(frozen=True)
class Invalid:
    """One thing about an object that validation refuses: Kubernetes' field, reason and words."""

    field: str
    reason: str
    detail: str

    @property
    def message(self) -> str:
        return f"{_WORDS[self.reason]}: {self.detail}" if self.detail else _WORDS[self.reason]


_WORDS = {
    "FieldValueRequired": "Required value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueNotFound": "Not found",
    "FieldValueTooLong": "Too long",
    "FieldValueTooMany": "Too many",
}


class ApiError(Exception):
    """An answer of 400 or more."""

    def __init__(self, code: int, message: str, *, reason: str | None = None, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = _REASONS.get(code, "") if reason is None else reason
        self.details = details

    def body(self) -> dict[str, Any]:
        """The Status object."""
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        return {**status, "code": self.code}


def _details(resource: Resource, name: str) -> dict[str, Any]:
    return {"name": name, **({"group": resource.group} if resource.group else {}), "kind": resource.plural}


def not_found(resource: Resource, name: str) -> ApiError:
    return ApiError(404, f'{resource.full_name} "{name}" not found', details=_details(resource, name))


def already_exists(resource: Resource, name: str) -> ApiError:
    return ApiError(409, f'{resource.full_name} "{name}" already exists', reason="AlreadyExists", details=_details(resource, name))


def conflict(resource: Resource, name: str, why: str = "") -> ApiError:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {resource.full_name} "{name}": {why}'
    return ApiError(409, message, details=_details(resource, name))


def check_preconditions(resource: Resource, tree: dict[str, Any], wanted: Mapping[str, str | None] | None) -> None:
    """Raises ApiError (409) when the object is not the one that a deletion means."""
    for key, field_name in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        has = tree["metadata"][key]
        if (said := (wanted or {}).get(key)) and said != has:
            words = f"{field_name} in precondition: {said}, {field_name} in object meta: {has}"
            raise conflict(resource, tree["metadata"]["name"], f"Precondition failed: {words}")


def forbidden(resource: Resource, name: str, why: str, *causes: dict[str, str]) -> ApiError:
    details: dict[str, Any] = {**_details(resource, name), **({"causes": list(causes)} if causes else {})}
    return ApiError(403, f'{resource.full_name} "{name}" is forbidden: {why}', details=details)


def invalid(resource: Resource, name: str, problems: Sequence[Invalid]) -> ApiError:
    """422: all that validation refuses, in one answer."""
    words = [f"{problem.field}: {problem.message}" for problem in problems]
    listed = words[0] if len(words) == 1 else f"[{', '.join(words)}]"
    causes = [{"reason": problem.reason, "message": problem.message, "field": problem.field} for problem in problems]
    details = {
        "name": name,
        **({"group": resource.group} if resource.group else {}),
        "kind": resource.kind,
        "causes": causes,
    }
    qualified = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return ApiError(422, f'{qualified} "{name}" is invalid: {listed}', details=details)


def success(resource: Resource, tree: dict[str, Any]) -> dict[str, Any]:
    """What a DELETE that is done answers."""
    metadata = tree["metadata"]
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {**_details(resource, metadata["name"]), "uid": metadata["uid"]},
    }
