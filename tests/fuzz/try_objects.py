"""Puts hostile objects into a namespace while good runs go on in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.local import daemon
from jobyard.model.errors import NotFound, Rejected, Unavailable
from tests.fuzz.good_runs import GoodRuns, good_runs
from tests.fuzz.objects import MERGE, SORTS, Call, Sort, calls
from tests.fuzz.verdict import Verdict, log_of, traced
from tests.manifests import Tree
from tests.waiting import is_running, until_job, until_pod

LATE = 2.0
"""Times alone that good runs may take in company."""
AT_ONCE = 4


async def try_objects(kubeconfig: Path, seeds: Sequence[int], *, a_round: int, thrifty: bool = False) -> Verdict:
    """`a_round`: how many seeds come with one batch of good runs. `thrifty`: few of them start pods."""
    log = log_of(kubeconfig)
    since = log.stat().st_size if log else 0
    process = daemon.running_pid(kubeconfig.parent) if log else None
    namespace = f"f-{uuid.uuid4().hex[:10]}"
    asked = _Asked(is_ours=log is not None)
    async with open_cluster(connect(kubeconfig=str(kubeconfig))) as cluster, open_cluster(connect(kubeconfig=str(kubeconfig))) as hostile:
        await cluster.create_namespace(namespace)
        try:
            with tempfile.TemporaryDirectory(prefix="jobyard-fuzz-") as folder:
                async with good_runs(cluster, namespace, Path(folder)) as good:
                    asked.words += await _rounds(good, cluster, hostile, namespace, [*batched(seeds, a_round)], asked, thrifty=thrifty)
            asked.words += good.words
        finally:
            await clear(hostile, namespace)
            await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}", f"delete Namespace {namespace}")
    if log and daemon.running_pid(kubeconfig.parent) != process:
        asked.words.append("the local cluster's process has ended")
    return Verdict(seeds=len(seeds), calls=asked.calls, refused=asked.refused, words=(*asked.words, *traced(log, since)))


def batched(seeds: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (seeds[begin : begin + size] for begin in range(0, len(seeds), size))


class _Asked:
    """What was asked of the cluster, and how it answered. `is_ours`: then it may never say that something of its own went wrong."""

    def __init__(self, *, is_ours: bool) -> None:
        self._is_ours = is_ours
        self.calls = 0
        self.refused = 0
        self.words: list[str] = []

    async def ask(self, hostile: HttpCluster, seed: int, call: Call) -> None:
        self.calls += 1
        try:
            await hostile.call(call.method, call.path, "do harm", params=call.params, body=call.body, media=call.media)
        except Rejected:
            self.refused += 1
        except Unavailable as error:
            self.refused += 1
            if self._is_ours:
                self.words.append(f"seed {seed}: {error}; it was asked: {call}")


async def _rounds(
    good: GoodRuns,
    cluster: HttpCluster,
    hostile: HttpCluster,
    namespace: str,
    rounds: Sequence[Sequence[int]],
    asked: _Asked,
    *,
    thrifty: bool,
) -> list[str]:
    await good.batch()  # what is loaded once, images too
    alone, together = [], []
    for seeds in rounds:
        alone.append(await good.batch())  # before each round: the machine may have other things to do meanwhile
        decoy = await good.lay_out_decoy()
        await until_pod(cluster, namespace, await until_job(cluster, namespace, decoy, "b"), is_running)
        ours = await _ours(hostile, namespace)
        done = [(seed, calls(seed, namespace, ours, thrifty=thrifty)) for seed in seeds]
        harm = asyncio.create_task(_harm(hostile, done, asked))
        together.append(await good.batch())
        await harm
        await good.engine.cancel(decoy)
        await clear(hostile, namespace)
    if statistics.median(together) > LATE * statistics.median(alone):
        shown = ", ".join(f"{one:.1f} after {other:.1f} alone" for one, other in zip(together, alone, strict=True))
        return [f"good work came late; seconds in company, round by round: {shown}"]
    return []


async def _harm(hostile: HttpCluster, done: Iterable[tuple[int, list[Call]]], asked: _Asked) -> None:
    door = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int, whole: list[Call]) -> None:
        async with door:
            for call in whole:
                await asked.ask(hostile, seed, call)

    await asyncio.gather(*(one(seed, whole) for seed, whole in done))


async def _ours(cluster: HttpCluster, namespace: str) -> list[tuple[str, Tree]]:
    """Objects of Jobyard's own, whole."""
    found = []
    for plural in ("configmaps", "jobs", "pods"):
        listed = await _list(cluster, SORTS[plural], namespace)
        found += [(plural, each) for each in listed if any(key.startswith("jobyard.dev/") for key in each["metadata"].get("labels") or {})]
    return found


async def _list(cluster: HttpCluster, sort: Sort, namespace: str) -> list[Tree]:
    answer: dict[str, Any] = json.loads(await cluster.call("GET", sort.path(namespace), f"list {sort.plural}"))
    api = sort.kind.rpartition("/")[0]
    return [{"apiVersion": api, "kind": sort.kind.rpartition("/")[2], **each} for each in answer["items"]]


_MAKERS_FIRST = sorted(
    SORTS, key=lambda plural: ("cronjobs", "jobs", "pods").index(plural) if plural in ("cronjobs", "jobs", "pods") else 3
)
_KEPT = ("default", "kube-root-ca.crt")
"""What every namespace has."""


async def clear(cluster: HttpCluster, namespace: str) -> None:
    """Takes all away that lives in the namespace, whoever holds it: the next round begins with nothing."""
    for sort in (SORTS[plural] for plural in _MAKERS_FIRST):
        for each in await _list(cluster, sort, namespace):
            name = each["metadata"]["name"]
            if name in _KEPT:
                continue
            with contextlib.suppress(NotFound, Rejected):
                if each["metadata"].get("finalizers"):
                    await cluster.call(
                        "PATCH", sort.path(namespace, name), "let it go", body=b'{"metadata": {"finalizers": null}}', media=MERGE
                    )
                body = {"propagationPolicy": "Background", **({"gracePeriodSeconds": 0} if sort.plural == "pods" else {})}
                await cluster.call("DELETE", sort.path(namespace, name), "clear", body=json.dumps(body).encode())
