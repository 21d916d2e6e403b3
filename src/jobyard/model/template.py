"""`{{ params.day }}` and `{{ steps.load.outputs.rows }}`: plain look-ups in the strings of a parsed manifest. Nothing is evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobyard.model.errors import PlaceholderUnknown
from jobyard.model.objects import Manifest
from jobyard.model.parameters import show

Path = tuple[str | int, ...]

_PLACEHOLDER = re.compile(r"\{\{\s*+((?:params|steps)\.[^{}\s]*+(?:\s++[^{}\s]++)*+)\s*+\}\}")
"""Never goes back over what it has read: a text may be long, and all spaces. Other people's double braces (Go templates, Jinja in a script) start with other words and are left as they are."""


def strings(tree: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every string of a tree, with its path; keys are not looked into."""
    if isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from strings(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from strings(value, (*path, index))


def placeholders(text: str) -> list[str]:
    """The look-ups in `text`, in order: `params.day`, `steps.load.outputs.rows`."""
    return _PLACEHOLDER.findall(text)


def is_whole(text: str) -> bool:
    """Whether `text` is one placeholder and nothing else; only such a value may be other than a string."""
    return _PLACEHOLDER.fullmatch(text.strip()) is not None


def output_of(placeholder: str) -> tuple[str, str] | None:
    """The step and the key that `steps.NAME.outputs.KEY` asks for; None when it is not of that form. A step's name may have dots."""
    match = re.fullmatch(r"steps\.(.+)\.outputs\.([^.]+)", placeholder)
    return (match[1], match[2]) if match else None


def lookup(params: Mapping[str, Any], outputs: Mapping[str, Mapping[str, Any]]) -> Callable[[str], Any]:
    """A function from placeholder to value; it raises PlaceholderUnknown."""

    def value(placeholder: str) -> Any:
        name = placeholder.removeprefix("params.")
        if name != placeholder:
            if name not in params:
                raise PlaceholderUnknown(placeholder=placeholder, why=f"the workflow declares no parameter {name}")
            return params[name]
        asked = output_of(placeholder)
        if asked is None:
            raise PlaceholderUnknown(placeholder=placeholder, why="a step's output is written steps.NAME.outputs.KEY")
        step, key = asked
        if key not in outputs.get(step, {}):
            there = ", ".join(outputs.get(step, {})) or "none"
            raise PlaceholderUnknown(placeholder=placeholder, why=f"step {step} gave no output {key} (it gave: {there})")
        return outputs[step][key]

    return value


@dataclass(frozen=True)
class Template:
    """A Job manifest as it was written, placeholders and all.

    `typed`: the paths whose string is one placeholder and where the schema wants no text (`parallelism: "{{ params.n }}"`); there the
    value keeps its own type. Everywhere else it becomes text.
    """

    manifest: Manifest
    typed: tuple[Path, ...] = ()
    literal: bool = False
    """Braces mean nothing in it: a plain manifest, or another tool's."""

    def placeholders(self) -> list[tuple[Path, str]]:
        """Every placeholder, with the path of the string it stands in."""
        if self.literal:
            return []
        return [(path, name) for path, text in strings(self.manifest) for name in placeholders(text)]

    def fill(self, value: Callable[[str], Any]) -> Manifest:
        """The manifest with every placeholder replaced, in a new tree. Raises what `value` raises."""

        def change(path: Path, text: str) -> object:
            if path in self.typed:
                return value(placeholders(text)[0])
            return _PLACEHOLDER.sub(lambda match: _text(value(match[1])), text)

        result: Manifest = self.manifest if self.literal else _replace(self.manifest, change)
        return result


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict | list) else show(value)


def _replace(tree: Any, change: Callable[[Path, str], object], path: Path = ()) -> Any:
    if isinstance(tree, str):
        return change(path, tree) if "{{" in tree else tree
    if isinstance(tree, dict):
        return {key: _replace(value, change, (*path, key)) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_replace(value, change, (*path, index)) for index, value in enumerate(tree)]
    return tree
