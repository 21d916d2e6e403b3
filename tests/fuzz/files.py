"""Hostile files for the queue, each known by its seed: good manifests and workflows, mutated as trees and as bytes, under names of all kinds.
Pure, but that the list of known bad ones (`tests/hostile`) is read."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests import mutants
from tests.fuzz.objects import SORTS, poison, tame
from tests.manifests import Tree, job, step, workflow

KNOWN = Path(__file__).parents[1] / "hostile"


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """A file, by its name in `queued/`, and what else of the repository comes with it, by path."""

    name: bytes
    content: bytes


def hostile(seed: int, *, thrifty: bool = False) -> Hostile:
    """The seed's file. `thrifty`: most of what would run does not."""
    chance = random.Random(seed)
    name = f"h{seed}".encode() + chance.choice((b".yaml", b".yaml", b".yml", b".json"))
    if chance.random() < 0.1:
        name = f"h{seed}".encode() + chance.choice(_NAMES)
    known = _known()
    if known and chance.random() < 0.25:
        path = chance.choice(known)
        return Hostile(name=f"h{seed}-".encode() + path.name.encode(), content=path.read_bytes())
    trees = [_tree(chance, seed, runs=not thrifty or seed % 4 == 0) for _ in range(chance.choice((1, 1, 1, 2, 4)))]
    text = _written(chance, trees, is_json=name.endswith(b".json"))
    if chance.random() < 0.3:
        text = _damaged(chance, text)
    return Hostile(name=name, content=text)


@cache
def _known() -> tuple[Path, ...]:
    """The files that were found to do harm once."""
    found = KNOWN.iterdir() if KNOWN.is_dir() else ()
    return tuple(sorted(path for path in found if path.suffix in (".yaml", ".yml", ".json")))


_NAMES = (
    b"\n.yaml",
    b" .yaml",
    b"'\".yaml",
    b"\xff\xfe.yaml",
    "\u202e.yaml".encode(),
    b"x" * 230 + b".yaml",
    b"$(id).yaml",
    b";.json",
    b"\\..\\x.yaml",
    b".yaml.yaml",
)


def _tree(chance: random.Random, seed: int, *, runs: bool) -> Tree:
    match chance.choice(("job", "job", "job", "workflow", "workflow", "beside", "list")):
        case "job":
            tree = copy.deepcopy(mutants.mutant(chance.getrandbits(32)))
            kind = "batch/v1/Job"
        case "workflow":
            return _workflow(chance, seed, runs=runs)
        case "list":
            return {"apiVersion": "v1", "kind": "List", "items": [_tree(chance, seed, runs=runs) for _ in range(chance.choice((0, 1, 3)))]}
        case _:
            sort = SORTS[chance.choice(("configmaps", "secrets", "serviceaccounts", "cronjobs", "pods", "leases", "events"))]
            tree = {"apiVersion": sort.kind.rpartition("/")[0], "kind": sort.kind.rpartition("/")[2], **sort.good(chance)}
            kind = sort.kind
            mutants.mutate(tree, chance, kind)
    for _ in range(chance.choice((0, 0, 1, 2))):
        poison(tree, chance)
    if chance.random() < 0.8 and isinstance(tree, dict):
        metadata = tree.get("metadata")
        tree["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), "name": f"h{seed}"}
        tree["metadata"].pop("namespace", None)
    tame(tree, runs=runs)
    return tree


def _workflow(chance: random.Random, seed: int, *, runs: bool) -> Tree:
    body = copy.deepcopy(mutants.mutant(chance.getrandbits(32)))
    tame(body, runs=runs)
    steps: list[Any] = [
        step("a", "true"),
        {"name": "b", "job": {"spec": body.get("spec")}, "needs": ["a"]},
        {"name": "c", "manifest": chance.choice(_PATHS)},
        step("d", "echo {{ steps.a.outputs.rows }}", "a", retry={"limit": 2, "backoff": "1s"}),
    ]
    chance.shuffle(steps)
    more: Tree = {"parameters": [{"name": "x", "type": "choice", "choices": ["a", "b"], "default": "a"}], "timeout": "30s", "maxRuns": 3}
    tree = workflow(f"h{seed}", *steps[: chance.choice((1, 2, 4))], **more)
    for _ in range(chance.choice((0, 1, 1, 3))):
        poison(tree, chance)
    return tree


_PATHS = (
    "../README",
    "..",
    ".",
    "../queued",
    "../../..",
    "/etc/passwd",
    "../../../../etc/passwd",
    "../processing/x.yaml",
    "a\0b",
    "x" * 5000,
    "../.git",
    "~",
)


def _written(chance: random.Random, trees: list[Tree], *, is_json: bool) -> bytes:
    if is_json:
        return json.dumps(trees[0]).encode("utf-8", "surrogatepass")
    if chance.random() < 0.3:
        return b"\n---\n".join(json.dumps(tree).encode("utf-8", "surrogatepass") for tree in trees)
    try:
        return yaml.safe_dump_all(trees, allow_unicode=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    except yaml.YAMLError:
        return json.dumps(trees[0]).encode("utf-8", "surrogatepass")


def _damaged(chance: random.Random, text: bytes) -> bytes:
    """The file, hurt as bytes."""
    at = chance.randrange(len(text) + 1)
    hurts: tuple[Callable[[], bytes], ...] = (
        lambda: text[:at],
        lambda: text[:at] + bytes(chance.randrange(256) for _ in range(3)) + text[at:],
        lambda: text[:at] + chance.choice(_PIECES) + text[at:],
        lambda: text + b"\n" + chance.choice(_PIECES),
        lambda: text.replace(b": ", b": &a ", 1).replace(b": ", b": *a ", chance.choice((1, 5))),
        lambda: text.replace(b"\n", b"\r", 3),
        lambda: text + b"\n---\n" + text,
        lambda: text.decode("utf-8", "replace").encode("utf-16"),
        lambda: b"%YAML 1.2\n%TAG ! !x,2000:\n---\n" + text,
    )
    return chance.choice(hurts)()


_PIECES = (
    b"\t",
    b"\x00",
    b"\xef\xbb\xbf",
    b"<<: *x\n",
    b"!!python/object/apply:os.system [true]\n",
    b"!!binary x\n",
    b"a: &a [x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: &d [*c, *c, *c, *c]\ne: [*d, *d, *d, *d]\n",
    b"a: &a [*a]\n",
    b"? {a: b}\n: c\n",
    b"a: 1\na: 2\n",
    b"--- !x\n...\n",
    b"apiVersion: jobyard.dev/v1\nkind: Workflow\nspec: {steps: [{name: a, manifest: ..}]}\n",
    b"x: 2026-01-01T00:00:00Z\ny: 0o7\nz: 1e999\nw: .inf\n",
    b"[" * 80,
    b"a: " * 40 + b"\n",
)
"""What is put into a text somewhere."""


def good(number: str) -> dict[bytes, bytes]:
    """Good files, which run to their ends whatever lies beside them."""
    plain = job(f"good-{number}", "sleep 1")
    chain = workflow(
        f"chain-{number}",
        step("a", """echo '{"rows": 3}' > /dev/termination-log; sleep 1"""),
        step("b", "sleep 1; test {{ steps.a.outputs.rows }} = 3", "a"),
    )
    secret: Tree = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"s-{number}"}, "stringData": {"a": "good"}}
    using = job(
        f"using-{number}",
        "test $A = good",
        container={"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": f"s-{number}", "key": "a"}}}]},
    )
    texts = {"plain": [plain], "chain": [chain], "using": [secret, using]}
    return {f"{name}-{number}.yaml".encode(): yaml.safe_dump_all(trees).encode() for name, trees in texts.items()}
