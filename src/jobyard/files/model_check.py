"""What does not fit a pydantic model, as findings with their places: for files of our own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from jobyard.files.inspection import Inspection, kind_of
from jobyard.model.finding import did_you_mean, guess
from jobyard.model.template import Path as TreePath
from jobyard.schema import spell

Model = TypeVar("Model", bound=BaseModel)

_WORDS = (
    ("a valid integer", "a whole number"),
    ("a valid ", "a "),
    ("dictionary", "mapping"),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
    ("Input", "it"),
)
"""What pydantic says, and how we say it."""


def explain(
    inspection: Inspection,
    error: ValidationError,
    model: type[BaseModel],
    whole: str,
    was_told: Callable[[object], bool] = lambda _: False,
    word: Callable[[object], str] | None = None,
) -> None:
    """Each of pydantic's findings, at its place and in our words. `whole`: what the document as a whole is called. `was_told`: says of a
    value that its mistake was told already. `word`: what a value is called, for those that nobody may read."""

    def called(path: TreePath, value: object) -> str:
        told = inspection.word(path, value)
        return told if word is None or told == kind_of(value) else word(value)

    said: set[tuple[TreePath, str]] = set()
    for each in error.errors(include_url=False):
        path: TreePath = tuple(part for part in each["loc"] if not _is_union_tag(part))
        name = str(path[-1]) if path else "the file"
        found = each.get("input")
        if (path, each["type"]) in said or was_told(found):
            continue
        said.add((path, each["type"]))
        match each["type"]:
            case "extra_forbidden":
                known = _fields(model, path[:-1])
                hint = did_you_mean(name, known) or f"there are: {', '.join(known)}"
                inspection.error(path, f'unknown key "{name}" in {spell(path[:-1]) or whole}', "", hint, key=True)
            case "missing":
                inspection.error(path[:-1], f"{spell(path)} is missing", "", "add it")
            case "literal_error":
                expected = each["ctx"]["expected"].replace("'", "")
                inspection.error(
                    path,
                    f"{called(path, found)} as {spell(path)}",
                    expected,
                    did_you_mean(str(found), expected.replace(" or ", ", ").split(", ")),
                )
            case "string_pattern_mismatch":
                inspection.error(
                    path,
                    f"{called(path, found)} as {spell(path)}",
                    "lower-case letters, digits and -, a letter or digit first and last",
                )
            case "too_short" if isinstance(found, list):
                inspection.error(path, f"a list of {len(found)} as {spell(path)}", f"one of at least {each['ctx']['min_length']}")
            case "value_error":
                inspection.error(path, f"{called(path, found)} as {spell(path)}", str(each["msg"]).split(" is not ")[-1])
            case _:
                expected = str(each["msg"]).removeprefix("Input should be ").split(" or instance of ")[0]
                for theirs, ours in _WORDS:
                    expected = expected.replace(theirs, ours)
                inspection.error(path, f"{called(path, found)} as {spell(path) or whole}", expected)


def mended(tree: Any, error: ValidationError, model: type[Model]) -> Model | None:
    """What the tree says, without its mistakes: an unknown key is what it was meant to be, or nothing, and what need not be said is not said.
    None where more than that is wrong. What follows from a key that is left out is not to be told as another mistake."""
    tree = copy.deepcopy(tree)
    for each in error.errors(include_url=False):
        path: TreePath = tuple(part for part in each["loc"] if not _is_union_tag(part))
        around: Any = tree
        for part in path[:-1]:
            around = around[part] if _has(around, part) else None
        if not isinstance(around, dict) or not path or path[-1] not in around:
            return None
        if each["type"] == "extra_forbidden":
            value, known = around.pop(path[-1]), _fields(model, path[:-1])
            meant = guess(str(path[-1]), known)
            if meant and meant not in around:
                around[meant] = value
        elif path[-1] in _HARMLESS:
            del around[path[-1]]
        else:
            return None
    try:
        return model.model_validate(tree)
    except ValidationError:
        return None


def _has(around: object, part: str | int) -> bool:
    if isinstance(around, dict):
        return part in around
    return isinstance(around, list) and isinstance(part, int) and part < len(around)


_HARMLESS = (
    "timeout",
    "startTimeout",
    "retry",
    "limits",
    "parallelism",
    "maxRuns",
    "retention",
    "onFailure",
    "cleanup",
    "when",
    "description",
)
"""Keys whose value nothing else in a file is judged by."""


def _is_union_tag(part: str | int) -> bool:
    return isinstance(part, str) and (part in ("str", "int", "float", "bool") or part.startswith(("dict[", "function-")))


def _fields(model: type[BaseModel], path: TreePath) -> list[str]:
    """The keys that the model knows at `path`."""
    for part in path:
        field = next((each for name, each in model.model_fields.items() if (each.alias or name) == str(part)), None)
        model = (_model_in(field.annotation) if field is not None else None) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field's type is made of: itself, or inside a list or an optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each)) is not None), None)
