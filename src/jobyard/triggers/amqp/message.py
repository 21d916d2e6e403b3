"""A message as it came, and what is said of one that can't be a Job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobyard.model.errors import WrongInput


@dataclass(frozen=True, kw_only=True)
class Message:
    """What a producer sent. All of it is input; body and headers are never shown."""

    body: bytes = field(repr=False)
    message_id: str = ""
    content_type: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Unfit(WrongInput):
    """A message that can never be a Job. `why` is a whole sentence, and tells nothing of what the message holds."""

    sentence = "{why}"
    why: str


def text_of(body: bytes, what: str = "The message") -> str:
    """The body as text. Raises Unfit: what is no text, or has a byte of nothing, can't be an environment variable."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Unfit(why=f"{what} is not UTF-8, and a variable can only hold text (`payload: file` takes any bytes)") from None
    if "\0" in text:
        raise Unfit(why=f"{what} holds a NUL character, which no variable can (`payload: file` takes any bytes)")
    return text
