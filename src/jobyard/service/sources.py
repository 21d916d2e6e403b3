"""Values that do not stand in a settings file themselves: `{env: NAME}` and `{file: PATH}`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobyard.files.inspection import Inspection
from jobyard.model.finding import did_you_mean
from jobyard.model.template import Path as TreePath

SIZE_LIMIT = 1024 * 1024
KEYS = ("env", "file")


class FromOutside(str):
    """A value that came from the environment or a file: text, whatever it stands for."""

    __slots__ = ()


class Missing(FromOutside):
    """Stands where there should be such a value. Its mistake was told."""

    __slots__ = ()


def fill(inspection: Inspection, tree: Any, env: Mapping[str, str], folder: Path, path: TreePath = ()) -> Any:
    """The tree with all such values in place. What is missing is a mistake. `folder`: what relative paths start from.

    A file's last line break is no part of its value: editors and `echo` put it there."""
    if isinstance(tree, list):
        return [fill(inspection, each, env, folder, (*path, index)) for index, each in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1 and (key := next(iter(tree))) in KEYS and isinstance(tree[key], str):
        where = (*path, key)
        return _of_env(inspection, where, env, tree[key]) if key == "env" else _of_file(inspection, where, folder / tree[key])
    return {key: fill(inspection, value, env, folder, (*path, key)) for key, value in tree.items()}


def _of_env(inspection: Inspection, path: TreePath, env: Mapping[str, str], name: str) -> FromOutside:
    if name not in env:
        hint = did_you_mean(name, env) or "set it where the service is started"
        inspection.error(path, f"the environment has no variable {name}", "", hint)
        return Missing()
    return FromOutside(env[name])


def _of_file(inspection: Inspection, path: TreePath, file: Path) -> FromOutside:
    try:
        with file.open("rb") as opened:
            data = opened.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            inspection.error(path, f"{file} has more than {SIZE_LIMIT:,} bytes", "a value")
            return Missing()
        return FromOutside(data.decode().removesuffix("\n").removesuffix("\r"))
    except OSError as error:
        inspection.error(path, f"{file} can't be read ({error.strerror})", "a file that holds the value")
    except ValueError:
        inspection.error(path, f"{file} is not UTF-8", "text")
    return Missing()
