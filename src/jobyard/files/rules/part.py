"""A mapping in a manifest, as rules look at it: what they can't judge (a placeholder, a value of the wrong type) is None to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobyard.files.inspection import Inspection
from jobyard.model.template import Path as TreePath
from jobyard.model.template import placeholders
from jobyard.schema import spell


@dataclass(frozen=True)
class Part:
    """A mapping of a manifest, and where it stands. `literal`: braces in it mean nothing."""

    value: Mapping[str, Any]
    path: TreePath
    inspection: Inspection
    literal: bool

    def has(self, key: str) -> bool:
        """Whether something stands there. Null is nothing, as it is to Kubernetes."""
        return self.value.get(key) is not None

    def text(self, key: str) -> str | None:
        """The text; "" when there is none; None when it can't be judged."""
        return self.judged(self.value.get(key))

    def judged(self, value: object) -> str | None:
        """A value as text; "" for null; None when it can't be judged."""
        if value is None:
            return ""
        return value if isinstance(value, str) and (self.literal or not placeholders(value)) else None

    def number(self, key: str) -> int | None:
        """The whole number; None when there is none, or when it can't be judged."""
        value = self.value.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def is_true(self, key: str) -> bool:
        return self.value.get(key) is True

    def part(self, key: str) -> Part | None:
        """The mapping; None when there is none."""
        value = self.value.get(key)
        return self.below(key, value) if isinstance(value, dict) else None

    def below(self, key: str, value: Mapping[str, Any]) -> Part:
        return Part(value, (*self.path, key), self.inspection, self.literal)

    def parts(self, key: str) -> list[Part]:
        """The mappings of a list; null is an empty one."""
        return [
            Part(each or {}, (*self.path, key, index), self.inspection, self.literal)
            for index, each in enumerate(self.list(key))
            if each is None or isinstance(each, dict)
        ]

    def list(self, key: str) -> list[Any]:
        value = self.value.get(key)
        return value if isinstance(value, list) else []

    def texts(self, key: str) -> Iterator[tuple[int, str]]:
        """The texts of a list that can be judged, with their index."""
        for index, each in enumerate(self.list(key)):
            text = self.judged(each)
            if text is not None:
                yield index, text

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.value.get(key)
        return value if isinstance(value, dict) else {}

    def spell(self, *keys: str | int) -> str:
        return spell((*self.path, *keys))

    def error(self, keys: tuple[str | int, ...], what: str, expected: str = "", remedy: str = "", *, key: bool = False) -> None:
        """Something is wrong with what stands at `keys` below."""
        self.inspection.error((*self.path, *keys), what, expected, remedy, key=key)

    def wrong(self, keys: tuple[str | int, ...], value: object, expected: str, remedy: str = "") -> None:
        """A value that is not what is expected there."""
        self.error(keys, f"{self.inspection.word((*self.path, *keys), value)} as {self.spell(*keys)}", expected, remedy)

    def missing(self, *keys: str | int, remedy: str = "add it") -> None:
        self.error(keys[:-1] if self.value.get(str(keys[0])) is None else keys, f"{self.spell(*keys)} is missing", "", remedy)

    def forbidden(self, key: str, why: str, remedy: str = "remove it") -> None:
        """Something that may not stand there."""
        self.error((key,), f"{self.spell(key)} {why}", "", remedy, key=True)

    def twice(self, keys: tuple[str | int, ...], value: object) -> None:
        self.error(keys, f"{self.inspection.word((*self.path, *keys), value)} as {self.spell(*keys)} appears twice", "one of its own")
