"""Every message that a person can see, held against the rules for our words. `python -m tests.messages` prints the list."""

from __future__ import annotations

import re
import shlex

import pytest
import rich_click as click

from jobyard.cli.main import cli
from tests.messages import Message, messages

ALL = messages()
COMMAND = re.compile(r"`jobyard ([^`]+)`")

AVOIDED = {
    r"\bplease\b|\boops\b|\bsorry\b": "no manners, but what to do",
    r"(?<=\w)!(?=\s|$)": "no exclamation marks",
    r"(?<!there )\bis no (?!longer\b)|\bare no (?!longer\b)(?<!there are no )": "is not a",
    r"\bnot a valid Kubernetes\b|\bresource\b(?! claim| \")": "name the thing: Job, Secret, file",
    r"\bmend\b": "fix, or correct",
    r"\bby itself\b(?<!starts by itself)": "say who does it",
    r"\banew\b": "again",
    r"\bmeanwhile\b": "in the meantime",
    r"\bis over and\b|\bmakes way\b": "has finished and is being deleted",
    r"\bholds no mapping\b": "is not a YAML mapping",
    r"\btask\b|\bmanager\b(?!: )|\bhandler\b": "words that we do not use",
    r"[a-z], as (?!in\b|it\b)[`\"\w]": "such as",
    r"\bwe may not\b|\ballow us\b|\b(?:not accept|by) our\b|\bwe lack\b": "Jobyard may not",
    r"\.\.(?!\.|/|\s|$|\")": "one full stop",
}
"""What our messages do not say, and what they say instead."""


def test_the_list_is_not_empty() -> None:
    assert len(ALL) > 1000
    assert any(message.file == "model/errors.py" for message in ALL)
    assert any("Keep looking:" in message.text for message in ALL), "helps of commands"


@pytest.mark.parametrize("avoided", AVOIDED)
def test_no_message_says_what_an_operator_would_not(avoided: str) -> None:
    found = [str(message) for message in ALL if re.search(avoided, _prose(message.text))]
    assert found == [], f"rather: {AVOIDED[avoided]}"


def _prose(text: str) -> str:
    """A message without the commands, names and code in it."""
    return re.sub(r"`[^`]*`|\{[^}]*\}", "", text)


def _named() -> list[tuple[Message, str]]:
    return [(message, words) for message in ALL for words in COMMAND.findall(message.text)]


@pytest.mark.parametrize(("message", "words"), _named(), ids=lambda part: part if isinstance(part, str) else "")
def test_a_command_that_a_message_names_exists(message: Message, words: str) -> None:
    """With each of its words, and each of its options."""
    command: click.Command = cli
    given = shlex.split(words.split(" | ")[0].replace("{…}", "X"))
    while given and isinstance(command, click.Group):
        if given[0] in ("X", "...", "{come_back}"):
            return
        assert given[0] in command.commands, str(message)
        command = command.commands[given.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {word for word in given if word.startswith("-") and word != "-"} <= known, str(message)


def test_a_command_in_a_sentence_stands_between_backquotes() -> None:
    """So that whoever prints it can complete it by the options that were given, and never breaks it over lines."""
    commands = "|".join(cli.commands)
    bare = re.compile(rf"(?<![`\w/])jobyard (?:{commands})\b")
    wrong = [str(message) for message in ALL if any(not _begins_a_line(message.text, at.start()) for at in bare.finditer(message.text))]
    assert wrong == []


def _begins_a_line(text: str, at: int) -> bool:
    """A line that is a command, as `  jobyard run FILE`, perhaps after what it is for (`its log: `)."""
    before = text[:at].rpartition("\n")[2]
    return before.strip() in ("", "its log:", "all of it:") or text[:at].count("`") % 2 == 1
