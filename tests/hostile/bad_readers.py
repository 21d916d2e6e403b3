"""What a reader does that a file has got hold of. Called in a child process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from jobyard.files.borders import seconds_left

TOLD: list[int] = []


def obey(order: str) -> str:
    """Does what it is told, as a parser with a hole would."""
    match order:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "leave":
            os._exit(0)
        case "turn for ever":
            while True:
                TOLD[:] = [len(TOLD)]
        case _ if order.startswith("knock at "):
            Path(order.removeprefix("knock at ")).write_text(str(os.getpid()))
            signal.pause()
        case "hang":
            signal.pause()
        case "eat":
            TOLD.extend(range(100_000_000))
        case "break":
            raise KeyError("secret-canary")
        case "talk":
            print("no frame at all")
            os.write(1, b"\xff\xff\xff\xff")
        case "answer at length":
            return "x" * 135_000_000
        case "answer with a number":
            return 3  # type: ignore[return-value]
        case "tell the environment":
            return " ".join(f"{key}={value}" for key, value in os.environ.items())
        case "tell the process":
            return str(os.getpid())
    return "done"


def work(seconds: float) -> float:
    """Works for so long; how long a reading may take, as far as it is known here."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        TOLD[:] = [len(TOLD)]
    return seconds_left.get() or 0.0
