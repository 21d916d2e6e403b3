"""The child process of a `reading_room`: calls a function for each frame that comes, until nobody asks any more.

It has little memory, little time and nothing of ours: no environment but Python's own, no connection, no event loop.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import resource
import struct
import time
from collections.abc import Callable
from typing import Any, BinaryIO, get_type_hints

import msgspec

from jobyard.files.borders import seconds_left
from jobyard.model.errors import place_of

MEMORY = 512 * 1024 * 1024
"""Bytes of address space, all that Python and its libraries take included."""
HEADER = struct.Struct(">I")
"""Before each frame: its length."""
_SPARE = 2
"""Seconds of processor time after which the kernel ends what does not look at its own clock."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: a function of one argument, as `module:function`. The argument follows, in a frame of its own."""

    function: str
    seconds: float
    """Of processor time."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one call: that a value follows, in a frame of its own, or why there is none."""

    broke: str = ""
    """The type of an error that nobody foresaw, and where it was raised; never its text, which may quote the file."""
    no_memory: bool = False
    took: float = 0.0
    """Seconds of processor time."""


def types_of(function: Callable[..., Any]) -> tuple[Any, Any]:
    """What a function of one argument takes, and what it returns."""
    hints = get_type_hints(function)
    returned = hints.pop("return")
    (taken,) = hints.values()
    return taken, returned


def main() -> None:
    """Answers."""
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whoever prints must not be taken for an answer
    with contextlib.suppress(OSError, ValueError):  # where the system knows no such limit, the parent's clock is what is left
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _send(answers, msgspec.msgpack.encode(Reply()))
    while header := asked.read(HEADER.size):
        call = msgspec.msgpack.decode(asked.read(HEADER.unpack(header)[0]), type=Call)
        argument = asked.read(HEADER.unpack(asked.read(HEADER.size))[0])
        _allow(math.ceil(call.seconds) + _SPARE)
        seconds_left.set(call.seconds)
        begun = time.process_time()
        reply, value = _reply(call, argument)
        del argument
        _send(answers, msgspec.msgpack.encode(msgspec.structs.replace(reply, took=time.process_time() - begun)))
        if value is not None:
            _send(answers, value)


def _reply(call: Call, argument: bytes) -> tuple[Reply, bytes | None]:
    try:
        function = _function(call.function)
        return Reply(), msgspec.msgpack.encode(function(msgspec.msgpack.decode(argument, type=types_of(function)[0])))
    except MemoryError:
        return Reply(no_memory=True), None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this file's
        return Reply(broke=place_of(error)), None


def _function(name: str) -> Callable[[Any], Any]:
    module, _, function = name.partition(":")
    found: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
    return found


def _allow(seconds: int) -> None:
    """Lets this process work for so long from now, as far as it may be let."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    until = int(time.process_time()) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until if most == resource.RLIM_INFINITY else min(until, most), most))


def _send(answers: BinaryIO, frame: bytes) -> None:
    answers.write(HEADER.pack(len(frame)))
    answers.write(frame)
    answers.flush()


if __name__ == "__main__":
    main()
