"""A Job whose pods are pg-boss' own workers: they take items, one after another, until there are none or they have taken enough."""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import LOCAL, ClusterUnderTest
from tests.manifests import Tree, job
from tests.postgres import boss, prepare
from tests.postgres.boss import SCRIPT, Boss


def worker(client: Boss, queue: str, under_test: ClusterUnderTest, most: int = 10**9, **more: Any) -> Tree:
    """The Job. On the local cluster a process; on a node a pod on the machine's own network, for which the machine is mounted."""
    words = [str(prepare.node()), str(SCRIPT)]
    env = {"PLAN": json.dumps(client.plan(boss.drain(queue, most))), "CLIENTS": str(prepare.modules())}
    listed = [{"name": name, "value": value} for name, value in env.items()]
    if under_test.name == LOCAL:
        return job("worker", container={"command": words, "env": listed}, **more)
    return job(
        "worker",
        pod={"hostNetwork": True, "volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
        container={
            "command": ["busybox", "chroot", "/host", *words],
            "env": listed,
            "volumeMounts": [{"name": "host", "mountPath": "/host", "readOnly": True}],
        },
        **more,
    )
