"""Typed parameters of a workflow: what may be asked, and what was answered."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from jobyard.model.errors import InvalidParameter
from jobyard.model.finding import did_you_mean
from jobyard.model.secret_names import sounds_secret

ENV_PREFIX = "JOBYARD_PARAM_"


class ParameterType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    CHOICE = "choice"


_EXPECTED = {
    ParameterType.STRING: "a string",
    ParameterType.INTEGER: "an integer of 64 bits such as 42",
    ParameterType.NUMBER: "a number such as 4.2",
    ParameterType.BOOLEAN: "true or false",
    ParameterType.DATE: "a date such as 2026-11-21",
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One question a workflow asks. Without a default and not required, its value is the empty string."""

    name: str
    type: ParameterType = ParameterType.STRING
    default: str | int | float | bool | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    description: str = ""

    @property
    def env_name(self) -> str:
        """The variable that every container finds the value in."""
        return ENV_PREFIX + re.sub(r"[^A-Z0-9]", "_", self.name.upper())

    def read(self, given: object) -> Any:
        """`given` (text from a command line, or a YAML value) as this parameter's type. Raises InvalidParameter."""
        try:
            return self._read(given)
        except (ValueError, TypeError, KeyError):
            found = "another value" if sounds_secret(self.name) else f"{given!r}"
            raise InvalidParameter(name=self.name, found=found, expected=self.expected, hint=f"; {self._remedy(given)}") from None

    @property
    def expected(self) -> str:
        if self.type is ParameterType.CHOICE:
            return "one of " + ", ".join(self.choices)
        return _EXPECTED[self.type]

    def _remedy(self, given: object) -> str:
        guess = did_you_mean(str(given), self.choices)
        return guess or f"give another value: --set {self.name}=VALUE"

    def _read(self, given: object) -> Any:
        text = given if isinstance(given, str) else None
        match self.type:
            case ParameterType.STRING:
                return show(given)
            case ParameterType.CHOICE:
                if show(given) not in self.choices:
                    raise ValueError
                return show(given)
            case ParameterType.DATE:
                return date.fromisoformat(show(given)).isoformat()
            case ParameterType.BOOLEAN:
                if isinstance(given, bool):
                    return given
                return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower() if text else ""]
            case ParameterType.INTEGER:
                if isinstance(given, bool | float):
                    raise ValueError
                number = int(given)  # type: ignore[call-overload]
                if not -(2**63) <= number < 2**63:
                    raise ValueError
                return number
            case ParameterType.NUMBER:
                if isinstance(given, bool):
                    raise ValueError
                value = float(given) if not isinstance(given, int) else given  # type: ignore[arg-type]
                if not math.isfinite(value):
                    raise ValueError
                return value


def show(value: object) -> str:
    """A value as a container sees it: JSON's words for booleans, whole numbers without a point, no quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    return str(value)


def resolve(parameters: Sequence[Parameter], given: Mapping[str, object]) -> dict[str, Any]:
    """A value for every parameter, in the order they are declared. Raises InvalidParameter for the first that has none or a wrong one."""
    known = [parameter.name for parameter in parameters]
    for name in given:
        if name not in known:
            declared = f"one of {', '.join(known)}" if known else "none: this workflow declares no parameters"
            guess = did_you_mean(name, known)
            hint = f"; {guess}" if guess else ""
            raise InvalidParameter(name=name, found="not declared by the workflow", expected=declared, hint=hint)
    values: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name in given:
            values[parameter.name] = parameter.read(given[parameter.name])
        elif parameter.default is not None:
            values[parameter.name] = parameter.read(parameter.default)
        elif parameter.required:
            raise InvalidParameter(
                name=parameter.name,
                found="no value",
                expected=parameter.expected,
                hint=f"; give one: --set {parameter.name}=VALUE" + (f" ({parameter.description})" if parameter.description else ""),
            )
        else:
            values[parameter.name] = ""
    return values


def environment(parameters: Iterable[Parameter], values: Mapping[str, object]) -> list[dict[str, str]]:
    """The env entries that carry the values into every container."""
    return [{"name": parameter.env_name, "value": show(values[parameter.name])} for parameter in parameters if parameter.name in values]
