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

from jobyard.model.workflow import OnFailure
from tests import mutants
from tests.fuzz.objects import RUNS, SORTS, TEXTS, poison, tame
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
    runs = not thrifty or seed % 4 == 0
    if runs and chance.random() < 0.5:
        return Hostile(name=name, content=_written(chance, _odd(chance, seed), is_json=name.endswith(b".json")))
    trees = [_tree(chance, seed, runs=runs) for _ in range(chance.choice((1, 1, 1, 2, 4)))]
    text = _written(chance, trees, is_json=name.endswith(b".json"))
    if chance.random() < 0.2:
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


def _odd(chance: random.Random, seed: int) -> list[Tree]:
    """What may run, and tells odd things, or has a name that others have."""
    tell, message, code = chance.choice(_TOLD), chance.choice(_TOLD), chance.choice((0, 1, 1, 3, 255))
    name = chance.choice(("shared", *(f"h{seed}" for _ in range(6)), f"run-7edpc5y6mzzj5cib-{seed}"))
    one = job(name, f"{tell}; ({message}) > /dev/termination-log; exit {code}", backoffLimit=chance.choice((0, 0, 1)))
    if chance.random() < 0.4:
        two = {**step("b", "echo '{{ steps.a.outputs.rows }}'", "a"), "when": chance.choice(("always", "succeeded", "failed"))}
        more: Tree = {"timeout": chance.choice(("3s", "1h")), "onFailure": chance.choice([str(each) for each in OnFailure])}
        return [workflow(name, {"name": "a", "job": {"spec": one["spec"]}}, two, **more)]
    one["metadata"] |= {"annotations": {"a": chance.choice(TEXTS)[:2000]}}
    beside: Tree = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": chance.choice(("shared", name))},
        "stringData": {"a": "x" * 2000},
    }
    return [beside, one] if chance.random() < 0.4 else [one]


_TOLD = (
    "true",
    "echo; echo; echo",
    "printf 'Jobyard-File: x.yaml\\nJobyard-State: processing\\nJobyard-Run: evil\\n'",
    "printf '\\033[2J\\033]0;x\\007\\r\\000\\377\\376'",
    "head -c 100000 /dev/zero | tr '\\0' x",
    "head -c 5000 /dev/urandom",
    "seq 3000",
    "echo '{\"rows\": 3}'",
    "echo '{\"rows\": 1e999}'",
    "head -c 4000 /dev/zero | tr '\\0' '['",
    'echo \'{"rows": "{{ steps.a.outputs.rows }}"}\'',
    "kill -9 $$",
    "nothing-of-this-name",
)
"""What a container tells, in its log and in its last message."""


def _tree(chance: random.Random, seed: int, *, runs: bool) -> Tree:
    match chance.choice(("job", "job", "job", "workflow", "workflow", "beside", "list")):
        case "job":
            tree = _job(chance)
        case "workflow":
            return _workflow(chance, seed, runs=runs)
        case "list":
            return {"apiVersion": "v1", "kind": "List", "items": [_tree(chance, seed, runs=runs) for _ in range(chance.choice((0, 1, 3)))]}
        case _:
            sort = SORTS[chance.choice(("configmaps", "secrets", "serviceaccounts", "cronjobs", "pods", "leases", "events"))]
            tree = {"apiVersion": sort.kind.rpartition("/")[0], "kind": sort.kind.rpartition("/")[2], **sort.good(chance)}
            mutants.mutate(tree, chance, sort.kind)
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        poison(tree, chance)
    if chance.random() < 0.8 and isinstance(tree, dict):
        metadata = tree.get("metadata")
        tree["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), "name": f"h{seed}"}
        tree["metadata"].pop("namespace", None)
    tame(tree, runs=runs)
    return tree


def _job(chance: random.Random) -> Tree:
    """One that runs, as it is or mutated in a place or two; or one of all fields, mutated."""
    if chance.random() < 0.2:
        return copy.deepcopy(mutants.mutant(chance.getrandbits(32)))
    tree: Tree = copy.deepcopy(chance.choice(RUNS))
    for _ in range(chance.choice((0, 0, 1, 1, 2))):
        mutants.mutate(tree, chance, "batch/v1/Job")
    return tree


def _workflow(chance: random.Random, seed: int, *, runs: bool) -> Tree:
    body = _job(chance)
    tame(body, runs=runs)
    steps: list[Any] = [
        step("a", "true"),
        {"name": "b", "job": {"spec": body.get("spec")}, "needs": ["a"]},
        *([{"name": "c", "manifest": chance.choice(_PATHS)}] if chance.random() < 0.3 else []),
        step("d", "echo {{ steps.a.outputs.rows }}", "a", retry={"limit": 2, "backoff": "1s"}),
    ]
    chance.shuffle(steps)
    more: Tree = {"parameters": [{"name": "x", "type": "choice", "choices": ["a", "b"], "default": "a"}], "timeout": "30s", "maxRuns": 3}
    tree = workflow(f"h{seed}", *steps[: chance.choice((1, 4, 4))], **more)
    for _ in range(chance.choice((0, 0, 1, 3))):
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
    except (yaml.YAMLError, RecursionError):
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
