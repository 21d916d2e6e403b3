"""Long lists, a page at a time, by metadata alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from jobyard.contracts import Cluster
from jobyard.model.objects import Kind, Other, metadata_of

SIZE = 500


async def pages(cluster: Cluster, kind: Kind[Any], namespace: str, labels: str, size: int = SIZE) -> AsyncIterator[list[Other]]:
    """Every object that the selector matches, a page at a time. Raises WatchExpired when the server forgot where it was."""
    after = ""
    while True:
        found, after = await cluster.page(metadata_of(kind), namespace, labels=labels, size=size, after=after)
        yield found
        if not after:
            return
