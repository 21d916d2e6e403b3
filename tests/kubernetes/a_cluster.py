"""A cluster of the wanted kind for a script, for as long as it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobyard.local import daemon
from tests.kubernetes import prepare
from tests.kubernetes.node import Node


@contextmanager
def a_cluster(kind: str, name: str, folder: Path) -> Iterator[Path]:
    """The kubeconfig of a cluster of this kind (`local` or `kubernetes`), which ends with the context. Exits where there can be none."""
    if kind == "local":
        daemon.start(folder / "local")
        try:
            yield folder / "local" / "kubeconfig"
        finally:
            daemon.stop(folder / "local")
        return
    if named := os.environ.get("JOBYARD_TEST_KUBECONFIG"):
        yield Path(named)
        return
    if why := prepare.node():
        sys.exit(f"kubernetes: {why}")
    node = Node.free(name, first_slot=10)
    node.up()
    try:
        yield node.kubeconfig
    finally:
        node.down()
