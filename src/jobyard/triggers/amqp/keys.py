"""Which messages are the same message. Pure.

A message is known by what its queue's `idFrom` names, together with virtual host, queue and body: the same id with another body is another
message, never lost. One without an id can't be told from another alike; so each delivery of it has a key of its own: it is never lost, and
may be run twice where we die between its Job and its acknowledgement (`docs/amqp.md` has the reason why nothing better is true).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobyard.model.errors import WrongInput
from jobyard.triggers.amqp.json_text import NotJson, parse
from jobyard.triggers.amqp.message import Message, Unfit

PATH_LIMIT = 1000


class Kind(StrEnum):
    """Where an id is looked for."""

    MESSAGE_ID = "message_id"
    HEADER = "header"
    JSON = "json"
    CONTENT = "content"


class NoIdSource(WrongInput):
    """`idFrom` says nothing that we know."""

    sentence = "{text!r} does not name a source of ids; expected message_id, header:NAME, json:/path (a JSON pointer), or content"
    text: str


@dataclass(frozen=True, kw_only=True)
class IdSource:
    """Where the ids of a queue's messages stand. `name`: the header, or the JSON pointer."""

    kind: Kind = Kind.MESSAGE_ID
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)


def read_source(text: str) -> IdSource:
    """What `idFrom` means. Raises NoIdSource."""
    kind, colon, name = text.partition(":")
    if not colon and kind in (Kind.MESSAGE_ID, Kind.CONTENT):
        return IdSource(kind=Kind(kind))
    if kind == Kind.HEADER and 0 < len(name) <= PATH_LIMIT:
        return IdSource(kind=Kind.HEADER, name=name)
    if kind == Kind.JSON and name.startswith("/") and len(name) <= PATH_LIMIT:
        return IdSource(kind=Kind.JSON, name=name)
    raise NoIdSource(text=text[:100])


def identity(source: IdSource, message: Message) -> str | None:
    """The message's id, as text that differs wherever two ids do; None when it has none. Raises Unfit where JSON is wanted and it is none."""
    match source.kind:
        case Kind.CONTENT:
            return ""
        case Kind.MESSAGE_ID:
            return message.message_id or None
        case Kind.HEADER:
            return _scalar(message.headers.get(source.name))
        case Kind.JSON:
            try:
                tree = parse(message.body.decode())
            except (NotJson, UnicodeDecodeError):
                raise Unfit(why=f"The message is not JSON, and its id is to be found at {source.name} of it") from None
            return _scalar(_look_up(tree, source.name))


def key(vhost: str, queue: str, source: IdSource, id_: str | None, body: bytes, nonce: str) -> str:
    """The run's key: a digest, so that it tells nothing. `nonce`: what stands in for an id that there is not; drawn for each delivery."""
    known = ("delivery", nonce) if id_ is None else (str(source), id_)
    digest = hashlib.sha256()
    for part in (vhost, queue, *known):
        encoded = part.encode(errors="surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    digest.update(hashlib.sha256(body).digest())
    return digest.hexdigest()


def _look_up(tree: Any, pointer: str) -> Any:
    """By RFC 6901."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(tree, dict):
            tree = tree.get(name)
        elif isinstance(tree, list) and name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(tree):
            tree = tree[int(name)]
        else:
            return None
    return tree


def _scalar(value: Any) -> str | None:
    """A number or a text that may be an id; whatever else stands there is none."""
    if isinstance(value, bytes):
        value = value.decode(errors="surrogateescape")
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return None
    return json.dumps(value)
