"""What is wrong with a command line, in our words: click's own name its types (`'x' is not a valid integer range`)."""

from __future__ import annotations

import re

import rich_click as click

from jobyard.model.finding import did_you_mean

_QUOTED = re.compile(r"'([^']*)'")


def in_our_words(error: click.ClickException) -> str:
    """The sentence that is printed after `jobyard: `. Pure."""
    match error:
        case click.MissingParameter(param=click.Parameter() as parameter):
            return f"{_called(parameter, error.ctx)} is missing"
        case click.NoSuchOption():
            hint = did_you_mean(error.option_name, error.possibilities or ())
            return f"there is no option {error.option_name}{f'; {hint}' if hint else ''}"
        case click.BadParameter(param=click.Parameter() as parameter):
            value, expected = _QUOTED.match(error.message), _expected(parameter.type)
            if expected is None:
                return f"{_called(parameter, error.ctx)}: {error.message.rstrip('.')}"
            found = value[1] if value else error.message.split(" ")[0]
            guess = did_you_mean(found, parameter.type.choices) if isinstance(parameter.type, click.Choice) else ""
            return f"{_called(parameter, error.ctx)} {found or '(empty)'}: expected {expected}{f'; {guess}' if guess else ''}"
    return error.format_message()


def _called(parameter: click.Parameter, context: click.Context | None) -> str:
    """An argument by what it stands for, an option by its longest name."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.make_metavar(context).strip("[].") if context is not None else (parameter.name or "").upper()


def _expected(kind: object) -> str | None:
    """What a value of this type is, in words; None where who refused it said so."""
    match kind:
        case click.Choice():
            return f"one of {', '.join(map(str, kind.choices))}"
        case click.IntRange(min=low, max=high):
            bounds = " to ".join(f"{each:,}" for each in (low, high) if each is not None)
            least = f"{bounds}" if None not in (low, high) else f"at least {bounds}" if low is not None else f"at most {bounds}"
            return f"a whole number, {least}" if bounds else "a whole number"
        case _ if kind is click.INT:
            return "a whole number"
    return None
