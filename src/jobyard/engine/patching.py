"""Changes to this very object: by uid, for another may have its name by now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobyard.contracts import Cluster
from jobyard.model.errors import NotFound, Rejected
from jobyard.model.objects import Kind, T


async def patch_this(cluster: Cluster, kind: Kind[T], namespace: str, seen: T, change: Mapping[str, Any]) -> T:
    """Applies a merge patch to an object as it was seen. Raises NotFound when it is gone, also where another has its name now."""
    name, uid = seen.metadata.name, seen.metadata.uid
    metadata = {**(change.get("metadata") or {}), "uid": uid}
    try:
        return await cluster.patch(kind, namespace, name, {**change, "metadata": metadata})
    except Rejected as refused:
        if refused.status not in (409, 422):
            raise
        if (await cluster.get(kind, namespace, name)).metadata.uid != uid:
            message = f"{kind.name} {name} was deleted, and another object has its name"
            raise NotFound(action=f"patch {kind.name} {name}", status=404, reason="NotFound", message=message) from None
        raise
