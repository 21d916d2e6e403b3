"""Jobs that are almost right: mutations of good manifests, each known by its seed. And mutations of any other kind that the schema knows."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

from jobyard.files.rules.checks import Number, Word
from jobyard.files.rules.walk import FIELDS
from jobyard.schema import definitions, follow, shapes
from jobyard.schema.shapes import Shape
from tests.good_jobs import GOOD

Tree = dict[str, Any]
Path = tuple[str | int, ...]

JOB = "batch/v1/Job"
_KEPT = {("apiVersion",), ("kind",), ("metadata", "namespace"), ("metadata", "resourceVersion")}
"""Not mutated: what is no Job is refused by us alone; a namespace is the run's; a dry run does not look at the resource version."""
_WORDS = """
    a web a-b main data x.y example.com/x Web a_b -a a- a..b . .. ../up /abs rel/path 0 1 8080 80 10.0.0.1 010.0.0.1 ::1 ::ffff:1.2.3.4
    fe80::1 300.1.1.1 1.2.3 true null NaN 1e3 100m 1Gi 0.5 1.5Gi 1Xi -1 1m 2Mi + Ki 1e400 1E 5e-3 ü A=B 1A _A http http-1 a--b metadata.name
    metadata.labels['a'] metadata.annotations['A'] status.podIP spec.nodeName limits.cpu requests.memory $(X) example.com kubernetes.io/os
    a/b/c /x x/ 0-3,5 3-1 nvidia.com/gpu hugepages-2Mi ephemeral-storage localhost/x host:80
"""
_TEXTS = (*_WORDS.split(), "", "a b", "A B", "a\tb", "{{ params.x }}", *("x" * length for length in (15, 16, 63, 64, 253, 254)))
_SMALL = (0, 1, 2, 3, 5, 7, 30, 80, 255, 256, 511, 512, 600, 1000, 3600, 65535, 65536, 100000, 100001)
_NUMBERS = (*_SMALL, -1, *(2**bits - less for bits in (31, 32, 63) for less in (0, 1)), *(-(2**bits) - 1 for bits in (31, 63)))
_ODD: tuple[Any, ...] = (
    None,
    "",
    0,
    -1,
    1.5,
    1.0,
    2**31,
    2**63,
    True,
    False,
    [],
    {},
    [None],
    ["a"],
    {"a": "b"},
    {"a": None},
    "x" * 300,
    "NaN",
)
_KEYS = (
    *["a", "app", "example.com/x", "A", "-", "x/y/z", "cpu", "memory", "nvidia.com/gpu", "hugepages-2Mi", "storage", "job-name"],
    "a b",
    "",
    "x" * 64,
)
_EDITS: tuple[Callable[[str], str], ...] = (
    lambda text: text + "-",
    lambda text: "-" + text,
    lambda text: text.upper(),
    lambda text: text[:-1],
    lambda text: text + "." + text,
    lambda text: text + "/x",
    lambda text: text + " ",
    lambda text: text + "_a",
    lambda text: text + "\n",
    *(functools.partial(lambda length, text: (text * length)[:length], length) for length in (15, 16, 62, 63, 64, 253, 254)),
)


def mutants(seeds: range) -> Iterator[tuple[int, Tree]]:
    """A mutant a seed."""
    for seed in seeds:
        yield seed, mutant(seed)


def mutant(seed: int) -> Tree:
    """The mutant of a seed: a good Job, changed in one to three places."""
    chance = random.Random(seed)
    tree: Tree = copy.deepcopy(chance.choice(GOOD))
    if crossed := chance.random() < 0.4:
        _cross(tree, chance)
    for _ in range(chance.choice((0, 1, 2)) if crossed else chance.choice((1, 1, 1, 1, 2, 3))):
        mutate(tree, chance)
    for path in _KEPT:
        if len(path) == 2 and isinstance(tree.get("metadata"), dict):
            tree["metadata"].pop(path[-1], None)
    return tree


def _cross(tree: Tree, chance: random.Random) -> None:
    """Parts of another good Job in the places where they stand there: each is right, together they may not be."""
    other = chance.choice(GOOD)
    paths = [path for path, _, _ in _places(None, other) if path and isinstance(path[-1], str) and path not in _KEPT]
    for path in chance.choices(paths, k=chance.choice((1, 2, 3))):
        here: Any = tree
        there: Any = other
        for part in path[:-1]:
            there = there[part]
            here = (
                here.get(part) if isinstance(here, dict) else here[int(part)] if isinstance(here, list) and int(part) < len(here) else None
            )
        if isinstance(here, dict):
            here[path[-1]] = copy.deepcopy(there[path[-1]])


def _places(shape: Shape | None, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Shape | None]]:
    """Every value, with where it stands and what the schema says of it."""
    yield path, value, shape
    if isinstance(value, dict):
        for key, each in value.items():
            below = shape.fields.get(key) if shape and shape.kind == "object" else shape.item if shape and shape.kind == "map" else None
            yield from _places(below, each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _places(shape.item if shape else None, each, (*path, index))


def mutate(tree: Tree, chance: random.Random, kind: str = JOB) -> None:
    """Changes an object of a kind in one place."""
    places = [each for each in _places(shapes.of(kind), tree) if each[0] not in _KEPT]
    if chance.random() < 0.45:
        objects = [each for each in places if each[2] and each[2].kind in ("object", "map") and isinstance(each[1], dict)]
        _add(*chance.choice(objects), chance)
        return
    path, value, shape = chance.choice(places[1:])
    holder: Any = tree
    for part in path[:-1]:
        holder = holder[part]
    last: Any = path[-1]
    match chance.choices(("drop", "odd", "twice", "other", "rename", "edit", "anew"), (3, 2, 2, 3, 1, 4, 9))[0]:
        case "drop":
            del holder[last]
        case "odd":
            holder[last] = copy.deepcopy(chance.choice(_ODD))
        case "twice" if isinstance(holder, list):
            holder.insert(last, copy.deepcopy(value))
        case "other":
            alike = [each[1] for each in places if type(each[1]) is type(value)]
            holder[last] = copy.deepcopy(chance.choice(alike))
        case "rename" if isinstance(holder, dict):
            holder[chance.choice((*_KEYS, str(last).lower(), str(last) + "s"))] = holder.pop(last)
        case "edit" if isinstance(value, str):
            holder[last] = chance.choice(_EDITS)(value)
        case "edit" if isinstance(value, int) and not isinstance(value, bool):
            holder[last] = value + chance.choice((-1, 1, 1000))
        case _:
            name = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
            holder[last] = _value(shape, name, _owner(path, kind), chance) if shape else chance.choice(_ODD)


def _owner(path: Path, kind: str) -> str:
    """The definition of the object that a field stands in."""
    shape: Shape | None = shapes.of(kind)
    owner = ""
    for part in path:
        if shape is None:
            break
        if shape.kind == "object":
            owner = shape.definition
            shape = shape.fields.get(str(part))
        else:
            shape = shape.item
    return owner


def _add(path: Path, value: Tree, shape: Shape | None, chance: random.Random) -> None:
    """A field that is not there yet, of the schema's."""
    assert shape is not None
    if shape.kind == "map":
        value[chance.choice(_KEYS)] = _value(shape.item, "", "", chance)
        return
    missing = [
        name
        for name, each in shape.fields.items()
        if name not in value and not each.since and (*path, name) not in _KEPT and name != "status"
    ]
    if missing:
        name = chance.choice(missing)
        value[name] = _value(shape.fields[name], name, shape.definition, chance)


def _value(shape: Shape | None, name: str, owner: str, chance: random.Random, depth: int = 0) -> Any:
    """A value that the schema allows, mostly; by the rules that we know, a good one half of the time."""
    if shape is None or chance.random() < 0.02:
        return copy.deepcopy(chance.choice(_ODD))
    check = FIELDS.get(owner, {}).get(name)
    match shape.kind:
        case "object":
            fields = [each for each in shape.fields if not shape.fields[each].since and (owner, each) != ("ObjectMeta", "namespace")]
            needed = [each for each in fields if getattr(FIELDS.get(shape.definition, {}).get(each), "required", False)]
            wanted = dict.fromkeys(  # no set: its order is another in every process, and a seed has to say the same in all
                [
                    *(each for each in needed if chance.random() < 0.9),
                    *chance.sample(fields, k=min(len(fields), chance.choice((0, 1, 1, 2, 3)))),
                ]
            )
            return {each: _value(shape.fields[each], each, shape.definition, chance, depth + 1) for each in wanted} if depth < 6 else {}
        case "list":
            return [_value(shape.item, name, owner, chance, depth + 1) for _ in range(chance.choice((0, 1, 1, 1, 2)))]
        case "map":
            return {chance.choice(_KEYS): _value(shape.item, name, owner, chance, depth + 1) for _ in range(chance.choice((0, 1, 1, 2)))}
        case "whole":
            if isinstance(check, Number) and chance.random() < 0.6:
                return chance.choice((check.low, check.low + 1, check.high or 10))
            return chance.choice(_NUMBERS)
        case "number or text":
            return chance.choice((*_NUMBERS, *_TEXTS))
        case "quantity":
            return chance.choice((1, 0, 2, 1.5, "1", "2", "100m", "1Gi", "2Mi", "4Mi", "0", "-1", "1.5", "1x", "", "1e3", "3.0001", 2**40))
        case "time":
            return chance.choice(("2026-11-24T17:00:00Z", "2026-11-24T17:00:00.5+01:00", "2026-11-24", "", "now", "2026-11-24 17:00:00Z"))
        case _ if isinstance(check, Word) and chance.random() < 0.6:
            return chance.choice(check.words)
        case _ if _is_flag(owner, name):
            return chance.random() < 0.5
        case _:
            return chance.choice(_TEXTS)


@functools.cache
def _is_flag(owner: str, name: str) -> bool:
    for full, node in definitions().items():
        if full.rsplit(".", 1)[-1] == owner and name in node.get("properties", {}):
            return "boolean" in (follow(node["properties"][name]).get("type") or [])
    return False
