"""Commands that a message names, as they have to be typed here: with the options that this command was given.

A message that names a command of ours sets it between backquotes (`jobyard runs`); only who prints it knows the options.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping

import rich_click as click

from jobyard.service.options import TargetOptions


class Given(dict[str, str]):
    """By the name of a parameter, how it was given on the command line: what a hint repeats. One for each command that runs."""


_COMMAND = re.compile(r"`jobyard ([^`]+)`")
_QUOTED = re.compile(r"`[^`]+`")
_HARD = "\0"
"""Stands for a space at which no line may end."""


def as_given(options: TargetOptions) -> Given:
    """The options of a cluster, as one would type them again."""
    given = Given({"local": "--local"} if options.local else {})
    for name, flag, value in (
        ("context", "--context", options.context),
        ("kubeconfig", "--kubeconfig", options.kubeconfig),
        ("namespace", "-n", options.namespace),
    ):
        if value:
            given[name] = f"{flag} {shlex.quote(value)}"
    return given


def complete(text: str, root: click.Group, given: Mapping[str, str]) -> str:
    """The text with every command in it completed by those of the given options that it takes and does not name itself. Pure."""

    def completed(found: re.Match[str]) -> str:
        words = found[1].split()
        more = [words_ for name, words_ in given.items() if name in _takes(root, words) and words_.split()[0] not in words]
        return f"`jobyard {' '.join([found[1], *more])}`"

    return _COMMAND.sub(completed, text) if given else text


def _takes(root: click.Group, words: list[str]) -> set[str]:
    """The parameters of the command that the words begin with."""
    command: click.Command = root
    for word in words:
        if not isinstance(command, click.Group) or word not in command.commands:
            break
        command = command.commands[word]
    return {parameter.name or "" for parameter in command.params}


def note(given: Mapping[str, str]) -> None:
    """Remembers options that this command was given."""
    _given().update(given)


def say(text: str, *, err: bool = True) -> None:
    """Prints a message, in which commands may be named; on a terminal it is wrapped between words."""
    tell(text, _root(), _given(), err=err)


def on_terminal(text: str) -> str:
    """A message as `say` prints it on a terminal: for who draws there, and prints by other means."""
    root = _root()
    return wrap(complete(text, root, _given()) if root is not None else text, shutil.get_terminal_size().columns)


def tell(text: str, root: click.Group | None, given: Given, *, err: bool = True) -> None:
    """The same where the command has ended already. `root`: the program's commands."""
    said = complete(text, root, given) if root is not None else text
    is_terminal = (sys.stderr if err else sys.stdout).isatty()
    click.echo(wrap(said, shutil.get_terminal_size().columns) if is_terminal else said, err=err)


def wrap(text: str, width: int) -> str:
    """The text in lines no longer than `width`. What stands between backquotes, or is a line that begins
    with `jobyard`, is never broken: it is there to be copied. Pure."""
    return "\n".join(line if line.lstrip().startswith("jobyard ") else _wrap_line(line, width) for line in text.splitlines())


def _wrap_line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    whole = _QUOTED.sub(lambda found: found[0].replace(" ", _HARD), line.strip())
    lines = textwrap.wrap(whole, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(_HARD, " ")


def _root() -> click.Group | None:
    context = click.get_current_context(silent=True)
    root = context.find_root().command if context is not None else None
    return root if isinstance(root, click.Group) else None


def _given() -> Given:
    context = click.get_current_context(silent=True)
    found = context.find_object(Given) if context is not None else None
    return Given() if found is None else found
