"""Every message that a person can see, read from the source: `python -m tests.messages` prints them, to be read in one go.

A message is a text in the source with a space in it that is no docstring; and the docstring of a command, which is its help. Texts that
Kubernetes would say (the local cluster's) are Kubernetes' own, and left out.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src/jobyard"
KUBERNETES_OWN = ("local",)
"""Rooms whose texts are those of a Kubernetes API: what a person sees of them is what Kubernetes says."""
NO_PROSE = ("re.compile", "re.sub", "re.search", "re.match", "re.fullmatch", "re.findall")
"""Calls whose texts are for machines."""


@dataclass(frozen=True)
class Message:
    """A text and where it stands. Values that are put in are `{…}`."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


def messages(source: Path = SOURCE) -> list[Message]:
    """All of them, by file and line."""
    found = []
    for file in sorted(source.rglob("*.py")):
        place = file.relative_to(source)
        if place.parts[0] not in KUBERNETES_OWN or place.name == "daemon.py":
            tree = ast.parse(file.read_text())
            found += [Message(str(place), line, text) for line, text in sorted(set(_texts(tree))) if " " in text.strip()]
    return found


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The texts of a module, with their lines."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if _is_command(tree):
                yield node.lineno, str(node.value.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(part.value) if isinstance(part, ast.Constant) else "{…}" for part in node.values)
            for part in node.values:
                yield from _texts(part)
        elif not (isinstance(node, ast.Call) and ast.unparse(node.func) in NO_PROSE):
            yield from _texts(node)


def _is_command(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    names = [ast.unparse(each.func if isinstance(each, ast.Call) else each) for each in node.decorator_list]
    return any(name.endswith((".command", ".group")) for name in names)


if __name__ == "__main__":
    sys.stdout.writelines(f"{message}\n" for message in messages())
