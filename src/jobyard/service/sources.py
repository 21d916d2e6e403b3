"""Values that do not stand in a settings file themselves: `{env: NAME}` and `{file: PATH}`. What they are is told nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobyard.files.inspection import Inspection, word
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


def called(value: object) -> str:
    """What a value is called in a message: it may be a secret in the wrong place."""
    return "a value from outside" if isinstance(value, FromOutside) else word(value)


@dataclass(frozen=True, kw_only=True)
class Outside:
    """Where such values are."""

    env: Mapping[str, str]
    folder: Path
    """What relative paths start from."""
    is_elsewhere: bool = False
    """The service runs somewhere else than who reads its settings: what is not there is no mistake of theirs."""

    def fill(self, inspection: Inspection, tree: Any, path: TreePath = ()) -> Any:
        """The tree with all such values in place. What is missing is a mistake, or a warning where the service runs elsewhere.

        A file's last line break is no part of its value: editors and `echo` put it there."""
        if isinstance(tree, list):
            return [self.fill(inspection, each, (*path, index)) for index, each in enumerate(tree)]
        if not isinstance(tree, dict):
            return tree
        if len(tree) == 1 and (key := next(iter(tree))) in KEYS and isinstance(tree[key], str):
            read = self._of_env if key == "env" else self._of_file
            return read(inspection, (*path, key), tree[key])
        return {key: self.fill(inspection, value, (*path, key)) for key, value in tree.items()}

    def _of_env(self, inspection: Inspection, path: TreePath, name: str) -> FromOutside:
        if name not in self.env:
            hint = did_you_mean(name, self.env) or "set it where the service is started"
            (inspection.warn if self.is_elsewhere else inspection.error)(path, f"the environment has no variable {name}", "", hint)
            return Missing()
        return FromOutside(self.env[name])

    def _of_file(self, inspection: Inspection, path: TreePath, name: str) -> FromOutside:
        file = self.folder / name
        try:
            with file.open("rb") as opened:
                data = opened.read(SIZE_LIMIT + 1)
            if len(data) > SIZE_LIMIT:
                inspection.error(path, f"{file} has more than {SIZE_LIMIT:,} bytes", "a value")
                return Missing()
            return FromOutside(data.decode().removesuffix("\n").removesuffix("\r"))
        except OSError as error:
            is_there = not (self.is_elsewhere and isinstance(error, FileNotFoundError))
            what = f"{file} can't be read ({error.strerror})"
            (inspection.error if is_there else inspection.warn)(path, what, "a file that holds the value")
        except ValueError:
            inspection.error(path, f"{file} is not UTF-8", "text")
        return Missing()
