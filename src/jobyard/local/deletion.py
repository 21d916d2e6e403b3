"""How a deletion is asked for: in its body, or in its query."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from jobyard.local.requests import LARGEST, Request
from jobyard.local.status import ApiError

_Grace = Annotated[int, msgspec.Meta(ge=-LARGEST, le=LARGEST)]


class DeleteOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a deletion says of itself. `preconditions`: uid and resourceVersion that the object must have."""

    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    grace_period_seconds: _Grace | None = None
    preconditions: dict[str, str | None] | None = None
    dry_run: list[str] | None = None

    @property
    def policy(self) -> str | None:
        if self.propagation_policy is None and self.orphan_dependents is not None:
            return "Orphan" if self.orphan_dependents else "Background"
        return self.propagation_policy


class _Eviction(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    delete_options: DeleteOptions | None = None


def options_of(request: Request) -> DeleteOptions:
    """The options of a DELETE. Raises ApiError (400, 422)."""
    said = _convert(request, DeleteOptions) if request.body else DeleteOptions()
    policy = said.propagation_policy or request.query.get("propagationPolicy") or None
    if policy not in (None, "Background", "Foreground", "Orphan"):
        raise ApiError(
            422,
            f'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "{policy}": supported values: "Background", "Foreground", "Orphan"',
        )
    grace = said.grace_period_seconds if said.grace_period_seconds is not None else request.number("gracePeriodSeconds")
    dry_run = said.dry_run or (["All"] if request.dry_run else [])
    return msgspec.structs.replace(said, propagation_policy=policy, grace_period_seconds=grace, dry_run=dry_run)


def options_of_eviction(request: Request) -> DeleteOptions:
    """The options of an eviction. Raises ApiError (400)."""
    said = _convert(request, _Eviction).delete_options or DeleteOptions()
    return said if said.dry_run or not request.dry_run else msgspec.structs.replace(said, dry_run=["All"])


T = TypeVar("T")


def _convert(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.convert(request.tree(), kind)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"the options of the deletion can't be read: {error}") from None
