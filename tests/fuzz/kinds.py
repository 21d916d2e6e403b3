"""The kinds of what may be hostile; `scripts/fuzz` tries each."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.try_api import try_api
from tests.fuzz.try_files import try_files
from tests.fuzz.try_objects import try_objects
from tests.fuzz.try_requests import try_requests
from tests.fuzz.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How some seeds of a kind are tried on the cluster of a kubeconfig, by the name of that cluster; and how many unless somebody says."""

    attempt: Mapping[str, Callable[[Path, Sequence[int]], Coroutine[Any, Any, Verdict]]]
    usual: int
    about: str


async def _objects_locally(kubeconfig: Path, seeds: Sequence[int]) -> Verdict:
    return await try_objects(kubeconfig, seeds, a_round=15)


async def _objects_on_a_node(kubeconfig: Path, seeds: Sequence[int]) -> Verdict:
    return await try_objects(kubeconfig, seeds, a_round=17, thrifty=True)


async def _files_locally(kubeconfig: Path, seeds: Sequence[int]) -> Verdict:
    return await try_files(kubeconfig, seeds, a_round=25)


async def _files_on_a_node(kubeconfig: Path, seeds: Sequence[int]) -> Verdict:
    return await try_files(kubeconfig, seeds, a_round=25, thrifty=True)


KINDS = {
    "objects": Kind(
        attempt={"local": _objects_locally, "kubernetes": _objects_on_a_node}, usual=1000, about="objects in the namespace of good runs"
    ),
    "files": Kind(attempt={"local": _files_locally, "kubernetes": _files_on_a_node}, usual=1000, about="files in a queue beside good ones"),
    "requests": Kind(
        attempt={"local": try_requests, "kubernetes": try_requests}, usual=1000, about="webhooks while good files are told of"
    ),
    "api": Kind(attempt={"local": try_api}, usual=1000, about="requests to the local cluster's API, as bytes"),
}
