"""Where a scenario takes place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobyard.cluster.client import HttpCluster
from jobyard.engine.engine import ClusterEngine


@dataclass(frozen=True)
class Place:
    """What a scenario works with: the same cluster and the same source after every restart."""

    engine: ClusterEngine
    cluster: HttpCluster
    namespace: str
    folder: Path
    process: int
    """Which of the processes that serve the same source this is."""
