"""Request bodies: from bytes to a value that whoever comes after may walk without fear. Pure.

Anybody who knows the token may send anything, and one body must not end or hold up the cluster: what nests deeper than any object of
Kubernetes', or holds more than any, is refused before it is looked at.
"""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from jobyard.local import protobuf

SIZE_LIMIT = 3 * 1024 * 1024
DEPTH_LIMIT = 100
"""How deep a value may nest. The deepest field of Kubernetes' objects stands 25 deep."""
COUNT_LIMIT = 200_000
"""How many values a body may hold."""


class Unreadable(ValueError):
    """A body that is none, in words."""


def read(body: bytes, media: str) -> Any:
    """The value of a body; an empty one is an empty object. Raises Unreadable."""
    try:
        value = _read(body, media)
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable(_TOO_DEEP) from None
    except (ValueError, TypeError, OverflowError, msgspec.MsgspecError, yaml.YAMLError) as error:
        raise Unreadable(str(error)) from None
    bound(value)
    return value


def _read(body: bytes, media: str) -> Any:
    if not body:
        return {}
    if "protobuf" in media:
        return protobuf.decode(body)
    if "yaml" not in media:
        return msgspec.json.decode(body)
    try:
        return msgspec.json.decode(body)  # most that is sent as YAML is JSON, which is read a hundred times as fast
    except (ValueError, msgspec.MsgspecError):
        return _yaml(body)


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes takes it: what looks like a date is a text."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in each if tag != "tag:yaml.org,2002:timestamp"]
        for first, each in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def _yaml(body: bytes) -> Any:
    depth = count = 0
    for event in yaml.parse(body, Loader=_Loader):  # counted before anything is built: building deep YAML ends the process
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        count += isinstance(event, yaml.NodeEvent)
        if depth > DEPTH_LIMIT:
            raise Unreadable(_TOO_DEEP)
        if count > COUNT_LIMIT:
            raise Unreadable(_TOO_MANY)
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable("the local cluster reads no YAML aliases: write out what *NAME stands for")
    return msgspec.json.decode(msgspec.json.encode(yaml.load(body, Loader=_Loader)))  # noqa: S506 - a safe loader


_TOO_DEEP = f"it nests deeper than {DEPTH_LIMIT}"
_TOO_MANY = f"it holds more than {COUNT_LIMIT} values"


def bound(value: Any) -> None:
    """Raises Unreadable for a value that is too deep or holds too much. It does not recurse itself."""
    count, level, depth = 0, [value], 0
    while level:
        depth += 1
        count += len(level)
        if depth > DEPTH_LIMIT:
            raise Unreadable(_TOO_DEEP)
        if count > COUNT_LIMIT:
            raise Unreadable(_TOO_MANY)
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
        level = below
