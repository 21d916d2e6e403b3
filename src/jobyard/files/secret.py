"""What is secret in what a file holds, by where it stands: the values of Secrets, and those of variables and parameters that are named like one."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from jobyard.model.secret_names import sounds_secret
from jobyard.model.template import Path as TreePath


class _Below(Enum):
    """What stands below a place."""

    ANYTHING = auto()
    SECRETS = auto()
    """A list of Secrets, whose kind stands before the list."""
    SECRET = auto()
    """A Secret."""
    PARAMETERS = auto()
    """Values by their names."""
    HIDDEN = auto()
    """What nobody may be told."""


def is_secret(tree: Any, path: TreePath) -> bool:
    """Whether what stands at `path`, or would, is secret."""
    below = _Below.ANYTHING
    for key in path:
        below = _step(below, tree, key)
        tree = _at(tree, key)
    return below is _Below.HIDDEN


def hidden(tree: Any) -> Iterator[str | int | float]:
    """The texts and numbers that are secret. Of what is bounded in depth."""
    yield from _hidden(tree, _Below.ANYTHING)


def _hidden(tree: Any, below: _Below) -> Iterator[str | int | float]:
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _hidden(value, _step(below, tree, key))
    elif below is _Below.HIDDEN and isinstance(tree, str | int | float) and not isinstance(tree, bool):
        yield tree


def _step(below: _Below, tree: Any, key: str | int) -> _Below:
    """What stands below a key of what stands there."""
    if below is _Below.HIDDEN or not isinstance(tree, dict):
        return _Below.SECRET if below is _Below.SECRETS else below if below is _Below.HIDDEN else _Below.ANYTHING
    kind = str(tree.get("kind")).lower()
    if key in ("data", "stringData") and (below is _Below.SECRET or kind == "secret"):
        return _Below.HIDDEN
    if key in ("value", "default") and sounds_secret(tree.get("name")):
        return _Below.HIDDEN
    if below is _Below.PARAMETERS and sounds_secret(key):
        return _Below.HIDDEN
    if key == "items" and kind == "secretlist":
        return _Below.SECRETS
    return _Below.PARAMETERS if key == "parameters" else _Below.ANYTHING


def _at(tree: Any, key: str | int) -> Any:
    if isinstance(tree, dict):
        return tree.get(key)
    return tree[key] if isinstance(tree, list) and isinstance(key, int) and 0 <= key < len(tree) else None
