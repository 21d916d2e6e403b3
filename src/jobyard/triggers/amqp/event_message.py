"""kubernetes-event-jobs' messages: `{"content": anything, "environment": {NAME: value}}`, and the variables that its pods were handed. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from jobyard.triggers.amqp import json_text
from jobyard.triggers.amqp.json_text import NotJson
from jobyard.triggers.amqp.message import Unfit, text_of

ISSUER = "goci/kubernetes-event-job"


def variables(body: bytes, namespace: str, job_name: str, target: str) -> dict[str, str]:
    """What the pod of a message is handed. `environment` comes last, as in the original, and its values are text (there they had to be base64
    already); `CHECKSUM` is the hexadecimal SHA-1 (there its raw bytes, which are no text). Raises Unfit."""
    tree = _parse(body)
    content = _write(tree["content"])
    checksum = hashlib.sha1(f"{namespace}:{job_name}:{content}".encode(), usedforsecurity=False).hexdigest()
    found = {"ISSUER": ISSUER, "TARGET": target, "MESSAGE": content, "CHECKSUM": checksum}
    given = tree.get("environment")
    if given is None:
        return found
    if not isinstance(given, dict):
        raise Unfit(why="The message's `environment` must be an object of names and values")
    return found | {name: value if isinstance(value, str) else _write(value) for name, value in given.items()}


def _parse(body: bytes) -> dict[str, Any]:
    try:
        tree = json_text.parse(text_of(body))
    except NotJson:
        raise Unfit(why='The message is not JSON; expected {"content": ..., "environment": {...}}') from None
    if not isinstance(tree, dict) or "content" not in tree:
        raise Unfit(why='The message has no `content`; expected {"content": ..., "environment": {...}}')
    return tree


def _write(value: Any) -> str:
    try:
        return json_text.write(value)
    except NotJson:
        raise Unfit(why="The message is nested too deep") from None
